"""The audit log names people by subjects: their table, and the index by subject instead of by worker id.

The index is a copy of the log, so it is emptied: the auditor fills it again when it starts.
"""

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from orchestrator.adapters.sql.tables import Instant, PersonId

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SQLITE_GUARDS = (
    """
    CREATE TRIGGER audit_index_no_update BEFORE UPDATE ON audit_index
    BEGIN SELECT RAISE(ABORT, 'audit_index is append-only'); END
    """,
    """
    CREATE TRIGGER audit_index_no_delete BEFORE DELETE ON audit_index
    BEGIN SELECT RAISE(ABORT, 'audit_index is append-only'); END
    """,
    # INSERT OR REPLACE removes a row without asking the two above. To append the same row once more is harmless.
    """
    CREATE TRIGGER audit_index_no_replace BEFORE INSERT ON audit_index
    WHEN EXISTS (
      SELECT 1 FROM audit_index AS old WHERE old.position = NEW.position AND NOT (
        old.subject IS NEW.subject AND old.app IS NEW.app AND old.kind IS NEW.kind
        AND old.at IS NEW.at AND old.entry IS NEW.entry
      )
    )
    BEGIN SELECT RAISE(ABORT, 'audit_index is append-only'); END
    """,
)
POSTGRESQL_GUARDS = (
    """
    CREATE TRIGGER audit_index_only_append BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_index
    FOR EACH STATEMENT EXECUTE FUNCTION audit_index_only_append()
    """,
)
BATCH = 1000


def upgrade() -> None:
    """Everybody who is known gets a subject."""
    op.drop_table("audit_index")
    op.create_table(
        "audit_index",
        sa.Column("position", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("subject", sa.String(32)),
        sa.Column("app", sa.String(64)),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_index")),
    )
    op.create_index("ix_audit_index_subject", "audit_index", ["subject", "position"])
    for guard in SQLITE_GUARDS if op.get_bind().dialect.name == "sqlite" else POSTGRESQL_GUARDS:
        op.execute(guard)
    op.add_column("account", sa.Column("issued_at", Instant))
    subject = op.create_table(
        "subject",
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("person_id", PersonId),
        sa.Column("key", sa.LargeBinary),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("erased_at", Instant),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_subject")),
    )
    op.create_index("ix_subject_person_id", "subject", ["person_id"], unique=True)
    people = list(op.get_bind().execute(sa.text("SELECT id, updated_at FROM person")))
    for start in range(0, len(people), BATCH):
        op.bulk_insert(
            subject,
            [
                {
                    "subject": secrets.token_hex(16),
                    "person_id": person_id,
                    "key": secrets.token_bytes(32),
                    "created_at": datetime.fromisoformat(at).astimezone(UTC) if isinstance(at, str) else at,
                }
                for person_id, at in people[start : start + BATCH]
            ],
        )


def downgrade() -> None:
    """Not offered: the older software is brought back with the backup that fits it."""
    raise NotImplementedError("migrations go forward only; restore the backup instead")
