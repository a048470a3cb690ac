"""Add the tables of lists of commands."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    text, number = sa.Text, sa.Integer

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

    document("command_list")
    document("worker", column("run", text, index=True))
    document("batch", column("closed", sa.Boolean))
    op.create_index("batch_open", "batch", ["id"], sqlite_where=sa.text("closed = 0"))
    document("command_block", column("run", text), column("number", number), column("waiting", number))
    op.create_index("command_block_number", "command_block", ["run", "number"])
    op.create_index("command_block_waiting", "command_block", ["run", "number"], sqlite_where=sa.text("waiting > 0"))
    document("record_chunk", column("run", text), column("first", number), column("last", number))
    op.create_index("record_chunk_commands", "record_chunk", ["run", "first", "last"])
