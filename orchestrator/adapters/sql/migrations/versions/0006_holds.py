"""What the breaker holds and counts, and the operators' side of an application's health."""

import sqlalchemy as sa
from alembic import op

from orchestrator.adapters.sql.tables import FreeText, Instant, PersonId

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Three tables and four columns; nothing that is there changes."""
    op.create_table(
        "held",
        sa.Column("person_id", PersonId, nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("desired", sa.Text, nullable=False),
        sa.Column("since", Instant, nullable=False),
        sa.Column("event_id", FreeText, nullable=False),
        sa.Column("correlation_id", FreeText, nullable=False),
        sa.Column("policy", sa.String(16), nullable=False),
        sa.Column("command", sa.String(16), nullable=False),
        sa.Column("removal", sa.String(16), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("effective_at", Instant, nullable=False),
        sa.Column("held_at", Instant, nullable=False),
        sa.Column("rejected_at", Instant),
        sa.PrimaryKeyConstraint("person_id", "app", name=op.f("pk_held")),
    )
    op.create_table(
        "breaker",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("population", sa.Integer, nullable=False),
        sa.Column("counted_at", Instant, nullable=False),
        sa.Column("tripped_at", Instant),
        sa.PrimaryKeyConstraint("app", name=op.f("pk_breaker")),
    )
    op.create_table(
        "breaker_count",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("bucket", Instant, nullable=False),
        sa.Column("passed", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("app", "source", "bucket", name=op.f("pk_breaker_count")),
    )
    op.add_column("application", sa.Column("next_probe", Instant))
    op.add_column("application", sa.Column("stopped_by", FreeText))
    op.add_column("application", sa.Column("stop_reason", FreeText))
    op.add_column("application", sa.Column("stopped_at", Instant))


def downgrade() -> None:
    """Not offered: the older software is brought back with the backup that fits it."""
    raise NotImplementedError("migrations go forward only; restore the backup instead")
