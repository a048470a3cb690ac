"""Add the tables of the page's logins and of the revisions of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    text, number = sa.Text, sa.Integer
    op.create_table(
        "session",
        sa.Column("id", text, primary_key=True),
        sa.Column("version", number, nullable=False),
        sa.Column("body", text, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_index("ix_session_expires_at", "session", ["expires_at"])
    op.create_table(
        "revision",
        sa.Column("id", text, primary_key=True),
        sa.Column("version", number, nullable=False),
        sa.Column("body", text, nullable=False),
        sa.Column("job", text, nullable=False),
        sa.Column("number", number, nullable=False),
        sa.Column("owner", text, nullable=False),
        sa.Column("size", number, nullable=False),
    )
    op.create_index("revision_job", "revision", ["job", "number"])
    op.create_index("revision_size", "revision", ["owner", "size"])
