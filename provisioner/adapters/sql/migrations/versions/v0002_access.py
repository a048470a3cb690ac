"""Add the tables of access tokens and of the audit, and columns and indices for pages of runs and for schedules."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    text, number, real = sa.Text, sa.Integer, sa.Float
    for table, time in (("token", "created_at"), ("audit", "at")):
        op.create_table(
            table,
            sa.Column("id", text, primary_key=True),
            sa.Column("version", number, nullable=False),
            sa.Column("body", text, nullable=False),
            sa.Column(time, real, nullable=False),
        )
    op.create_index("audit_page", "audit", ["at", "id"])

    op.add_column("job", sa.Column("scheduled", sa.Boolean, nullable=False, server_default="0"))
    op.execute("UPDATE job SET scheduled = NOT deleted AND json_extract(body, '$.schedule') IS NOT NULL")
    op.create_index("job_scheduled", "job", ["owner", "name"], sqlite_where=sa.text("scheduled = 1"))

    for name in ("owner", "state", "outcome"):
        op.add_column("run", sa.Column(name, text, nullable=False, server_default=""))
    op.execute(
        "UPDATE run SET owner = json_extract(body, '$.owner'), state = json_extract(body, '$.state'), outcome = "
        "iif(json_extract(body, '$.ended_at') IS NULL, '', coalesce(json_extract(body, '$.verdict.outcome'), ''))"
    )
    for name in ("job_id", "job_name", "created_at"):
        op.drop_index(f"ix_run_{name}", "run")
    op.create_index("run_page", "run", ["created_at", "id", "owner", "job_name", "job_id", "state", "outcome"])
    op.create_index("run_key", "run", ["job_id", "key", "created_at"], sqlite_where=sa.text("key <> ''"))
