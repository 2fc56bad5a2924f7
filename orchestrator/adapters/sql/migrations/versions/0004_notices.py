"""Deliveries of notices, and access that should be over. Parked leavers are tried again from now on."""

import sqlalchemy as sa
from alembic import op

from orchestrator.adapters.sql.tables import FreeText, Instant, PersonId

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OPEN_END = sa.text("state IN ('inactive', 'absent') AND (status <> 'applied' OR applied_revision < revision)")
WAITS = sa.text("next_attempt_at IS NOT NULL")


def upgrade() -> None:
    """From the version before."""
    op.add_column("account", sa.Column("overdue_told", Instant))
    op.create_index(
        "ix_account_open_end", "account", ["app", "since"], postgresql_where=OPEN_END, sqlite_where=OPEN_END
    )
    op.execute(
        "UPDATE account SET attention_at = since "
        "WHERE status = 'parked' AND state IN ('inactive', 'absent') AND attention_at IS NULL"
    )
    op.create_table(
        "notice_delivery",
        sa.Column("notice_id", sa.String(64), nullable=False),
        sa.Column("receiver", sa.String(400), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("person_id", PersonId, nullable=False),
        sa.Column("notice", sa.Text, nullable=False),
        sa.Column("issued_at", Instant, nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("attempts", sa.Integer, server_default="0", nullable=False),
        sa.Column("next_attempt_at", Instant),
        sa.Column("delivered_at", Instant),
        sa.Column("error_code", sa.String(40)),
        sa.Column("error", FreeText),
        sa.PrimaryKeyConstraint("notice_id", "receiver", name=op.f("pk_notice_delivery")),
    )
    op.create_index(
        "ix_notice_delivery_due",
        "notice_delivery",
        ["channel", "next_attempt_at"],
        postgresql_where=WAITS,
        sqlite_where=WAITS,
    )


def downgrade() -> None:
    """Not offered: the older software is brought back with the backup that fits it."""
    raise NotImplementedError("migrations go forward only; restore the backup instead")
