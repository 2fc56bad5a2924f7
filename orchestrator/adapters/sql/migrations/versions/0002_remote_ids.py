"""Accounts are found by what the application calls them, for reconciliation."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One index."""
    op.create_index("ix_account_remote_id", "account", ["app", "remote_id"])


def downgrade() -> None:
    """Without it."""
    op.drop_index("ix_account_remote_id", "account")
