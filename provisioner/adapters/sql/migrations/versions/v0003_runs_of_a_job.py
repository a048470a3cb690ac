"""Add an index for the runs of one job, so that other jobs' runs do not slow the query."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index("run_job", "run", ["job_id", "created_at", "id", "owner", "state", "outcome"])
