"""The last reconciliation of each application that ran by schedule."""

import sqlalchemy as sa
from alembic import op

from orchestrator.adapters.sql.tables import Instant

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One row for each application."""
    op.create_table(
        "reconciliation",
        sa.Column("app", sa.String(64), primary_key=True),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("began_at", Instant, nullable=False),
        sa.Column("lease_until", Instant),
        sa.Column("ended_at", Instant),
        sa.Column("outcome", sa.String(40)),
        sa.Column("counts", sa.Text),
    )


def downgrade() -> None:
    """Not offered: the older software is brought back with the backup that fits it."""
    raise NotImplementedError("migrations go forward only; restore the backup instead")
