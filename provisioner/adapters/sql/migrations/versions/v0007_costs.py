"""Add what ended machines count for against caps, and the index from which the cost of a day is summed."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

#: As `use_of` in core/run/machines/costs.py: the time from the launch to the end, at least a minute.
_UPDATE = """
UPDATE machine SET
    used_from = coalesce(json_extract(body, '$.launch_time'), json_extract(body, '$.bound_at')),
    used_until = max(
        coalesce(json_extract(body, '$.ending_at'), json_extract(body, '$.ended_at')),
        coalesce(json_extract(body, '$.launch_time'), json_extract(body, '$.bound_at')) + 60
    ),
    hourly = coalesce(json_extract(body, '$.price.dollars'), 0)
WHERE ended = 1
"""


def upgrade() -> None:
    for name in ("used_from", "used_until", "hourly"):
        op.add_column("machine", sa.Column(name, sa.Float, nullable=False, server_default="0"))
    op.execute(_UPDATE)
    op.create_index("machine_used", "machine", ["used_until", "used_from", "hourly"], sqlite_where=sa.text("ended = 1"))
