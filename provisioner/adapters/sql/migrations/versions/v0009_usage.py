"""Add the tables of usage. The machines of earlier versions are accounted for by the passes, in steps."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

#: The columns of sums. The names are those of the fields of Amounts in core/usage/amounts.py.
_SUMS = (
    "seconds_at_least",
    "seconds",
    "seconds_at_most",
    "dollars_at_least",
    "dollars",
    "dollars_at_most",
    "disk_dollars_at_least",
    "disk_dollars",
    "disk_dollars_at_most",
    "reserved_dollars",
    "unpriced_seconds",
    "unpriced_disk_seconds",
)


def upgrade() -> None:
    text, number = sa.Text, sa.Integer
    op.create_table(
        "machine_usage",
        sa.Column("id", text, primary_key=True),
        sa.Column("version", number, nullable=False),
        sa.Column("body", text, nullable=False),
    )
    dimensions = ("owner", "job_id", "job", "user", "instance_type", "market", "use", "tags")
    op.create_table(
        "usage",
        sa.Column("day", number, primary_key=True),
        *(sa.Column(name, text, primary_key=True) for name in dimensions),
        sa.Column("parts", number, nullable=False),
        *(sa.Column(name, number, nullable=False) for name in _SUMS),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "price_used",
        sa.Column("day", number, primary_key=True),
        sa.Column("owner", text, primary_key=True),
        sa.Column("disk", sa.Boolean, primary_key=True),
        *(sa.Column(name, text, primary_key=True) for name in ("instance_type", "market", "source")),
        *(sa.Column(name, sa.Float, nullable=False) for name in ("least", "most", "oldest", "newest")),
        sqlite_with_rowid=False,
    )
    op.add_column("machine", sa.Column("accounted", sa.Boolean, nullable=False, server_default="0"))
    op.create_index("machine_unaccounted", "machine", ["id"], sqlite_where=sa.text("ended = 1 AND accounted = 0"))
