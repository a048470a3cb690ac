"""Add the sizes of runs and jobs, and indices from which an owner's usage is summed and compared with its limits."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for name, counted in (("run", "done = 0"), ("job", "deleted = 0")):
        op.add_column(name, sa.Column("size", sa.Integer, nullable=False, server_default="0"))
        op.execute(f"UPDATE {name} SET size = length(CAST(body AS BLOB)) WHERE {counted}")
        op.create_index(f"{name}_size", name, ["owner", "size"], sqlite_where=sa.text(counted))
