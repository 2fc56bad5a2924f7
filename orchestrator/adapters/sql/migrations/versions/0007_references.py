"""Whom an account refers to, so that it is looked at again when that account appears."""

import sqlalchemy as sa
from alembic import op

from orchestrator.adapters.sql.tables import PersonId

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One column on the connector's side of an account, and an index over the few that have it."""
    op.add_column("account", sa.Column("refers_to", PersonId))
    filled = sa.text("refers_to IS NOT NULL")
    op.create_index(
        "ix_account_refers_to", "account", ["app", "refers_to"], postgresql_where=filled, sqlite_where=filled
    )


def downgrade() -> None:
    """Not offered: the older software is brought back with the backup that fits it."""
    raise NotImplementedError("migrations go forward only; restore the backup instead")
