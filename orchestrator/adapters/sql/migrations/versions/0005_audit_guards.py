"""The audit index stays append-only for whoever may turn triggers off, and for the workers' own role."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

WORKERS = "jml_worker"
"""The role that docker-compose.yml gives to the workers. It owns nothing, so it cannot drop what guards the index."""

POSTGRESQL = (
    # A session may set `session_replication_role` to get around ordinary triggers.
    "ALTER TABLE audit_index ENABLE ALWAYS TRIGGER audit_index_only_append",
    f"""
    DO $$ BEGIN
      IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{WORKERS}') THEN
        GRANT USAGE ON SCHEMA public TO {WORKERS};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {WORKERS};
        GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {WORKERS};
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {WORKERS};
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {WORKERS};
        REVOKE UPDATE, DELETE, TRUNCATE ON audit_index FROM {WORKERS};
        REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON alembic_version FROM {WORKERS};
      END IF;
    END $$
    """,  # noqa: S608 - a constant, not what somebody typed
)


def upgrade() -> None:
    """SQLite has no roles and no way around its triggers but to drop them, which verifying the log would show."""
    if op.get_bind().dialect.name == "postgresql":
        for statement in POSTGRESQL:
            op.execute(statement)


def downgrade() -> None:
    """Not offered: the older software is brought back with the backup that fits it."""
    raise NotImplementedError("migrations go forward only; restore the backup instead")
