"""Alembic's entry: runs the revisions on the connection that `migrate` hands over, inside its transaction.

Without that hand-over there is nothing to run on: use `jml db migrate`.
"""

from alembic import context

from orchestrator.adapters.sql.tables import metadata

given = context.config.attributes
context.configure(
    connection=given["connection"],
    target_metadata=metadata,
    on_version_apply=given["on_version_apply"],
)
context.run_migrations()
