"""An index for the runs of one job, however many others there are."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index("run_job", "run", ["job_id", "created_at", "id", "owner", "state", "outcome"])
