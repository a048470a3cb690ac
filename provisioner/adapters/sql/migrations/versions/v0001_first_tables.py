"""Create the first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    text, number, real = sa.Text, sa.Integer, sa.Float

    def document(name: str, *columns: sa.Column[Any]) -> None:
        op.create_table(
            name,
            sa.Column("id", text, primary_key=True),
            sa.Column("version", number, nullable=False),
            sa.Column("body", text, nullable=False),
            *columns,
        )

    def column(name: str, kind: Any, index: bool = False) -> sa.Column[Any]:
        return sa.Column(name, kind, nullable=False, index=index)

    document("job", column("owner", text), column("name", text), column("deleted", sa.Boolean))
    op.create_index("job_name", "job", ["owner", "name"], unique=True)
    document(
        "run",
        column("job_id", text, index=True),
        column("job_name", text, index=True),
        column("key", text),
        column("created_at", real, index=True),
        column("done", sa.Boolean, index=True),
    )
    document("node", column("run", text, index=True), column("attempt", number), column("rank", number))
    document("machine", column("ended", sa.Boolean, index=True))
    document("launch", column("closed", sa.Boolean, index=True))
    document("drought")
    document("template_health")
    document("event", column("run", text, index=True), column("at", real))
    op.create_table(
        "lease",
        sa.Column("id", number, primary_key=True),
        column("epoch", number),
        column("holder", text),
        column("kind", text),
        column("expires_at", real),
    )
    op.create_table("note", sa.Column("key", text, primary_key=True), column("value", text), column("stored_at", real))
