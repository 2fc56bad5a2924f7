"""What the stores say when their database is not there, and that they need nobody's help when it is back."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.adapters.sql import engine
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import migrate
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.sweeping import SqlTimerStore
from orchestrator.adapters.sql.tables import inbox
from orchestrator.errors import StoreUnavailable, UserError
from orchestrator.ports import InboxRow, ResolveChanges
from tests.contract.rows import NOW, another, save
from tests.services import PostgresServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[PostgresServer]:
    """A PostgreSQL that the test may hurt."""
    if missing := PostgresServer.missing():
        pytest.skip(missing)
    with PostgresServer(tmp_path / "postgres") as server:
        yield server


@pytest.mark.postgres
async def test_a_server_that_goes_and_comes_back(server: PostgresServer) -> None:
    database = Database(server.url)
    await migrate(database)
    timers = SqlTimerStore(database)
    assert await timers.next_due() is None
    server.kill()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="does not answer") as gone:
            await timers.next_due()
        assert server.url.split("@")[1] in str(gone.value), "it says which database"
    server.restart()
    assert await timers.next_due() is None
    await database.close()


@pytest.mark.postgres
async def test_a_server_that_dies_in_the_middle_of_a_transaction(server: PostgresServer) -> None:
    database = Database(server.url)
    await migrate(database)
    with pytest.raises(StoreUnavailable):
        async with database.write() as connection:
            await connection.execute(sa.select(inbox))
            server.kill()
            await connection.execute(sa.select(inbox))
    server.restart()
    await save(database, ResolveChanges(inbox=[InboxRow("hr#1", "resolved")]))
    await database.close()


@pytest.mark.postgres
async def test_a_server_that_hangs(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections stay open and nobody answers: to wait for ever is no way to notice."""
    monkeypatch.setattr(engine, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(engine, "CONNECT_SECONDS", 0.5)
    database = Database(server.url)
    await migrate(database)
    server.pause()
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailable):
            await SqlTimerStore(database).next_due()
    server.resume()
    assert await SqlTimerStore(database).next_due() is None
    await database.close()


@pytest.mark.postgres
async def test_a_name_or_database_that_the_server_does_not_know(server: PostgresServer) -> None:
    for url in (server.url.replace("postgres@", "nobody@"), server.url + "x"):
        database = Database(url)
        with pytest.raises(UserError, match="does not let us in"):
            await SqlTimerStore(database).next_due()
        await database.close()


async def test_nobody_listens() -> None:
    database = Database("postgresql+asyncpg://jml:secret@127.0.0.1:1/jml")
    with pytest.raises(StoreUnavailable, match="does not answer: ConnectionRefusedError") as refused:
        await SqlTimerStore(database).next_due()
    assert "secret" not in str(refused.value)
    assert str(refused.value).endswith("; start it, or correct [store] url")


async def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/file/jml.db")
    with pytest.raises(StoreUnavailable, match=r"answer.*; see who may write there, or correct \[store\] url$"):
        await SqlTimerStore(database).next_due()


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "jml.db").write_text("not a database" * 100)
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/jml.db")
    with pytest.raises(UserError, match="is no database"):
        await SqlTimerStore(database).next_due()


@pytest.mark.parametrize("url", ["sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="names no file"):
        Database(url)


async def test_tables_that_are_missing(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(UserError, match="run `jml db migrate`"):
        await SqlOutbox(database).leftover(older_than=NOW, limit=1)
    await database.close()


async def test_a_writer_of_another_process_that_does_not_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has one writer; whoever waits too long is told to come back."""
    if not database.is_sqlite:
        pytest.skip("PostgreSQL has many writers")
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 100)
    other = another(database)
    async with database.write():
        with pytest.raises(StoreUnavailable, match="locked"):
            await save(other, ResolveChanges(inbox=[InboxRow("hr#1", "resolved")]))
    await save(other, ResolveChanges(inbox=[InboxRow("hr#1", "resolved")]))
    await other.close()


async def test_several_processes_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    """The first of them may still be at it."""
    file = tmp_path / "jml.db"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as first:
        first.execute("CREATE TABLE something (x)")
        first.execute("BEGIN")
        first.execute("SELECT * FROM something")
        database = Database(f"sqlite+aiosqlite:///{file}")
        migrating = asyncio.create_task(migrate(database))
        await asyncio.sleep(0.2)
        assert not migrating.done()
        first.execute("COMMIT")
        assert (await migrating)[0] == "0001"
        await database.close()


async def test_a_reader_sees_one_instant(database: Database) -> None:
    """The operator's numbers belong together."""
    other = another(database)
    count = sa.select(sa.func.count()).select_from(inbox)
    async with database.read() as connection:
        before = (await connection.execute(count)).scalar_one()
        await save(other, ResolveChanges(inbox=[InboxRow("hr#1", "resolved")]))
        assert (await connection.execute(count)).scalar_one() == before
    async with database.read() as connection:
        assert (await connection.execute(count)).scalar_one() == before + 1
    await other.close()


async def test_a_cancelled_transaction_leaves_nothing_locked(database: Database) -> None:
    """A worker that is told to stop may be in the middle of one."""
    began = asyncio.Event()

    async def forever() -> None:
        async with database.write() as connection:
            await connection.execute(sa.insert(inbox), {"key": "hr#1", "outcome": "resolved", "received_at": NOW})
            began.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(forever())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await save(database, ResolveChanges(inbox=[InboxRow("hr#1", "resolved")]))


async def test_a_task_that_is_cancelled_ends_whatever_the_driver_makes_of_it(database: Database) -> None:
    """Or it would take the cancellation for an outage, go on, and whoever waits for its end would wait for ever."""

    inside = asyncio.Event()

    async def work() -> None:
        async with database.read():
            inside.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise OSError("the connection was closed in mid-statement") from None

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
