"""Add the table of uploaded lists of commands, and the upload of each run."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    text, number = sa.Text, sa.Integer
    op.create_table(
        "upload",
        sa.Column("id", text, primary_key=True),
        sa.Column("version", number, nullable=False),
        sa.Column("body", text, nullable=False),
        sa.Column("owner", text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("size", number, nullable=False),
        sa.Column("used", sa.Boolean, nullable=False),
    )
    op.create_index("upload_unused", "upload", ["owner", "created_at", "size"], sqlite_where=sa.text("used = 0"))
    op.add_column("run", sa.Column("upload", text, nullable=False, server_default=""))
    op.create_index("run_upload", "run", ["owner", "upload"], sqlite_where=sa.text("done = 0 AND upload <> ''"))
