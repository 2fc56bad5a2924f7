"""Migrations on both databases: they create what the code declares, once, and guard the audit index."""

import asyncio
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from orchestrator.adapters.sql import migrate as module
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import at_head, check_migrated, migrate
from orchestrator.adapters.sql.tables import audit_index, metadata
from orchestrator.errors import JmlError, StoreUnavailable, UserError

PROCESSES = 6
ALL = sorted(module._known())  # numbered in their order
MIGRATE = """
import asyncio, sys
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import at_head, migrate

async def main(url):
    database = Database(url)
    applied = await migrate(database)
    assert await at_head(database)
    await database.close()
    print(*applied)

asyncio.run(main(sys.argv[1]))
"""


async def test_the_tables_are_those_that_the_code_declares(database: Database) -> None:
    def differences(connection: sa.Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_difference_would_show(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text("DROP INDEX ix_timer_open"))
        await connection.execute(sa.text("ALTER TABLE outbox ADD COLUMN more TEXT"))

    def differences(connection: sa.Connection) -> set[str]:
        return {one[0] for one in compare_metadata(MigrationContext.configure(connection), metadata)}

    async with database.read() as connection:
        assert await connection.run_sync(differences) == {"add_index", "remove_column"}


async def test_migrating_twice_is_harmless(database_url: str) -> None:
    database = Database(database_url)
    assert not await at_head(database)
    with pytest.raises(UserError, match=r"is empty, \d+ is needed: run `jml db migrate`"):
        await check_migrated(database)
    assert await migrate(database) == ALL
    assert await migrate(database) == []
    assert await at_head(database)
    await check_migrated(database)
    await database.close()


async def test_tasks_that_start_at_once_migrate_once(database_url: str) -> None:
    databases = [Database(database_url, pool_size=1) for _ in range(PROCESSES)]
    applied = await asyncio.gather(*map(migrate, databases))
    assert sorted(applied) == [[]] * (PROCESSES - 1) + [ALL]
    for database in databases:
        await database.close()


def test_processes_that_start_at_once_migrate_once(database_url: str) -> None:
    command = [sys.executable, "-c", MIGRATE, database_url]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    printed = [process.communicate(timeout=60)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0] * PROCESSES
    assert sorted(printed) == [""] * (PROCESSES - 1) + [" ".join(ALL)]


async def test_a_failing_revision_leaves_nothing_behind(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "100% of the migrations"
    shutil.copytree(module.REVISIONS, copy)
    bad = "def upgrade() -> None:\n    raise RuntimeError('no power')\n"
    (copy / "versions" / "9000_bad.py").write_text(f'revision = "9000"\ndown_revision = "{ALL[-1]}"\n\n{bad}')
    monkeypatch.setattr(module, "REVISIONS", copy)
    database = Database(database_url)
    with pytest.raises(RuntimeError, match="no power"):
        await migrate(database)
    async with database.read() as connection:
        assert await connection.run_sync(lambda c: sa.inspect(c).get_table_names()) == []
    await database.close()


async def test_a_database_of_a_newer_version_is_left_alone(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    assert not await at_head(database)
    for refuse in (migrate, check_migrated):
        with pytest.raises(UserError, match="9999, which this version does not know"):
            await refuse(database)


@pytest.fixture
async def audited(database: Database) -> Database:
    """A database with one row in its audit index."""
    async with database.write() as connection:
        await connection.execute(sa.insert(audit_index), [_row()])
    return database


def _row(position: int = 1) -> dict[str, Any]:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    return {"position": position, "person_id": "p1", "app": None, "kind": "timer_set", "at": at, "entry": "{}"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_index SET entry = 'forged'",
        "DELETE FROM audit_index",
        "DELETE FROM audit_index WHERE position = 1",
        "INSERT INTO audit_index (position, kind, at, entry) VALUES (1, 'x', '2026-03-01T00:00:00Z', 'forged')"
        " ON CONFLICT (position) DO UPDATE SET entry = excluded.entry",
    ],
)
async def test_audit_rows_stay_as_they_are(audited: Database, statement: str) -> None:
    with pytest.raises(JmlError, match="append-only") as refused:
        async with audited.write() as connection:
            await connection.execute(sa.text(statement))
    assert not isinstance(refused.value, StoreUnavailable), "trying again would not help"
    assert await _entries(audited) == ["{}"]


async def test_audit_rows_are_neither_truncated_nor_replaced(audited: Database) -> None:
    statement = (
        "INSERT OR REPLACE INTO audit_index (position, kind, at, entry) VALUES (1, 'x', '2026-03-01', 'forged')"
        if audited.is_sqlite
        else "TRUNCATE audit_index"
    )
    with pytest.raises(JmlError, match="append-only"):
        async with audited.write() as connection:
            await connection.execute(sa.text(statement))
    assert await _entries(audited) == ["{}"]


async def test_appending_the_same_audit_row_again_is_harmless(audited: Database) -> None:
    async with audited.write() as connection:
        statement = audited.insert(audit_index).on_conflict_do_nothing()
        await connection.execute(statement, [_row(), _row(2)])
    assert await _entries(audited) == ["{}", "{}"]


async def _entries(database: Database) -> list[str]:
    async with database.read() as connection:
        return list((await connection.execute(sa.select(audit_index.c.entry))).scalars())
