"""Which of its possible names an account has, and by which policy a person was decided last."""

import sqlalchemy as sa
from alembic import op

from orchestrator.adapters.sql.tables import FreeText

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two columns. Accounts that are there have the name that the policy says; of persons nobody knows the policy
    until they are decided next."""
    op.add_column("account", sa.Column("name_number", sa.Integer, nullable=False, server_default="1"))
    op.add_column("person", sa.Column("policy", FreeText))


def downgrade() -> None:
    """Not offered: the older software is brought back with the backup that fits it."""
    raise NotImplementedError("migrations go forward only; restore the backup instead")
