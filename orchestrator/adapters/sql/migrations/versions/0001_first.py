"""All tables, and the database's own guard over the audit index."""

import sqlalchemy as sa
from alembic import op

from orchestrator.adapters.sql.tables import BigId, FreeText, Instant, PersonId

revision = "0001"
down_revision = None
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
        old.person_id IS NEW.person_id AND old.app IS NEW.app AND old.kind IS NEW.kind
        AND old.at IS NEW.at AND old.entry IS NEW.entry
      )
    )
    BEGIN SELECT RAISE(ABORT, 'audit_index is append-only'); END
    """,
)

POSTGRESQL_GUARDS = (
    """
    CREATE FUNCTION audit_index_only_append() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'audit_index is append-only' USING ERRCODE = 'insufficient_privilege'; END $$
    """,
    """
    CREATE TRIGGER audit_index_only_append BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_index
    FOR EACH STATEMENT EXECUTE FUNCTION audit_index_only_append()
    """,
)


def upgrade() -> None:
    """From nothing to the first version."""
    _create_tables()
    guards = SQLITE_GUARDS if op.get_bind().dialect.name == "sqlite" else POSTGRESQL_GUARDS
    for guard in guards:
        op.execute(guard)


def downgrade() -> None:
    """Not offered: the older software is brought back with the backup that fits it."""
    raise NotImplementedError("migrations go forward only; restore the backup instead")


def _create_tables() -> None:
    op.create_table(
        "account",
        sa.Column("person_id", PersonId, nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("desired", sa.Text, nullable=False),
        sa.Column("since", Instant, nullable=False),
        sa.Column("event_id", FreeText, nullable=False),
        sa.Column("correlation_id", FreeText, nullable=False),
        sa.Column("policy", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer, server_default="0", nullable=False),
        sa.Column("applied_revision", sa.Integer, server_default="0", nullable=False),
        sa.Column("remote_id", FreeText),
        sa.Column("active", sa.Boolean),
        sa.Column("observed", sa.Text),
        sa.Column("intent", FreeText),
        sa.Column("status", sa.String(10), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer, server_default="0", nullable=False),
        sa.Column("error_code", sa.String(40)),
        sa.Column("error", FreeText),
        sa.Column("attention_at", Instant),
        sa.PrimaryKeyConstraint("person_id", "app", name=op.f("pk_account")),
    )
    op.create_index(
        "ix_account_attention_at", "account", ["attention_at"], postgresql_where=sa.text("attention_at IS NOT NULL")
    )
    op.create_index("ix_account_parked", "account", ["app"], postgresql_where=sa.text("status = 'parked'"))
    op.create_table(
        "application",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("reason", FreeText, nullable=False),
        sa.Column("since", Instant),
        sa.Column("not_before", Instant),
        sa.PrimaryKeyConstraint("app", name=op.f("pk_application")),
    )
    op.create_table(
        "audit_index",
        sa.Column("position", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("person_id", PersonId),
        sa.Column("app", sa.String(64)),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_index")),
    )
    op.create_index("ix_audit_index_person", "audit_index", ["person_id", "position"])
    op.create_table(
        "entitlement_group",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("name", sa.String(400), nullable=False),
        sa.Column("remote_id", FreeText),
        sa.Column("claimed_until", Instant),
        sa.PrimaryKeyConstraint("app", "name", name=op.f("pk_entitlement_group")),
    )
    op.create_table(
        "inbox",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("received_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_inbox")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("messages", sa.LargeBinary, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "person",
        sa.Column("id", PersonId, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("manager_id", PersonId),
        sa.Column("email", sa.String(800)),
        sa.Column("updated_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_person")),
    )
    op.create_index("ix_person_email", "person", ["email"])
    op.create_table(
        "quarantined",
        sa.Column("topic", sa.String(249), nullable=False),
        sa.Column("partition", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("code", sa.String(40), nullable=False),
        sa.Column("reason", FreeText, nullable=False),
        sa.Column("key", sa.LargeBinary),
        sa.Column("value", sa.LargeBinary),
        sa.Column("event_id", FreeText),
        sa.Column("received_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", name=op.f("pk_quarantined")),
    )
    op.create_table(
        "timer",
        sa.Column("person_id", PersonId, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("due", Instant, nullable=False),
        sa.Column("event_id", FreeText, nullable=False),
        sa.Column("rule", FreeText, nullable=False),
        sa.Column("fired_at", Instant),
        sa.PrimaryKeyConstraint("person_id", "kind", "due", name=op.f("pk_timer")),
    )
    op.create_index(
        "ix_timer_open",
        "timer",
        ["due"],
        postgresql_where=sa.text("fired_at IS NULL"),
        sqlite_where=sa.text("fired_at IS NULL"),
    )
