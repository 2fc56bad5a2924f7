"""Brings a database to the tables that this version of the software expects.

Alembic is driven from here instead of from an `alembic.ini`, so that an installed wheel can do it. All revisions run
in one transaction: a failure leaves what was there before. Processes that start at the same moment take turns, on
PostgreSQL by an advisory lock, on SQLite because a writing transaction excludes all others.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from orchestrator.adapters.sql.engine import Database
from orchestrator.errors import UserError

REVISIONS = Path(__file__).parent / "migrations"

LOCK = 0x6A6D6C  # "jml": advisory locks are numbers, and the database may be shared with other software
_TAKE_TURNS = sa.text("select pg_advisory_xact_lock(:lock)").bindparams(lock=LOCK)


async def migrate(database: Database) -> list[str]:
    """Upgrade to the newest revision; returns the revisions applied, in order. Raises UserError, StoreUnavailable."""
    applied: list[str] = []
    async with database.write() as connection:
        if not database.is_sqlite:
            await connection.execute(_TAKE_TURNS)
        # Looked at only now: whoever had the lock before us may have done the work.
        if unknown := await connection.run_sync(_revisions) - _known():
            raise UserError(_too_new(database, unknown))
        await connection.run_sync(_upgrade, lambda **step: applied.append(step["step"].up_revision_id))
    return applied


async def at_head(database: Database) -> bool:
    """Whether the database is what this version of the software expects."""
    async with database.read() as connection:
        return await connection.run_sync(_revisions) == _heads()


async def check_migrated(database: Database) -> None:
    """Raise UserError, which says what to do, unless the database is at the newest revision."""
    async with database.read() as connection:
        found = await connection.run_sync(_revisions)
    if found == _heads():
        return
    if unknown := found - _known():
        raise UserError(_too_new(database, unknown))
    state = f"is at revision {', '.join(sorted(found))}" if found else "is empty"
    wanted = ", ".join(sorted(_heads()))
    raise UserError(f"the database at {database.where} {state}, {wanted} is needed: run `jml db migrate`")


def _too_new(database: Database, unknown: set[str]) -> str:
    revisions = ", ".join(sorted(unknown))
    return (
        f"the database at {database.where} is at revision {revisions}, which this version does not know:"
        " a newer jml-orchestrator migrated it, run that one"
    )


def _config(**attributes: Any) -> Config:
    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(REVISIONS).replace("%", "%%"))
    return config


def _upgrade(connection: sa.Connection, on_version_apply: Callable[..., None]) -> None:
    command.upgrade(_config(connection=connection, on_version_apply=on_version_apply), "head")


def _revisions(connection: sa.Connection) -> set[str]:
    """Where the database stands; empty before the first migration."""
    return set(MigrationContext.configure(connection).get_current_heads())


def _heads() -> set[str]:
    return set(ScriptDirectory.from_config(_config()).get_heads())


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
