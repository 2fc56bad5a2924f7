"""Connections and transactions on SQLite and PostgreSQL.

SQLite: write-ahead log, every commit flushed, one writer at a time. Writers of one process queue in an asyncio lock,
because SQLite's own waiting polls; writers of other processes wait by `busy_timeout`.

What the driver says of an error may quote the row, and so a person. Errors therefore leave this module rewritten, with
the place where they arose and without their cause.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from orchestrator.errors import JmlError, StoreUnavailable, UserError

BUSY_TIMEOUT_MS = 20_000
CONNECT_SECONDS = 10
ANSWER_SECONDS = 60
"""A server that hangs with its connections open is as good as gone; no statement of ours takes half as long."""

_SQLITE_MAY_PASS = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
)


class Database:
    """One database, shared by all stores of a process."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database in (None, "", ":memory:"):
            raise UserError(f"{self.where} names no file, and a database in memory would forget what was promised")
        self._pool_size = pool_size
        self._engine: AsyncEngine | None = None
        self._writing = asyncio.Lock()

    @property
    def engine(self) -> AsyncEngine:
        """The engine; made at first use, so that constructing a Database does nothing."""
        if self._engine is None:
            self._engine = self._create()
        return self._engine

    def _create(self) -> AsyncEngine:
        if not self.is_sqlite:
            engine = create_async_engine(
                self.url,
                pool_size=self._pool_size,
                max_overflow=0,
                hide_parameters=True,
                connect_args={"timeout": CONNECT_SECONDS, "command_timeout": ANSWER_SECONDS},
            )
            sa.event.listen(engine.sync_engine, "connect", _postgresql_settings)
            return engine
        assert self.url.database is not None
        Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(self.url, pool_size=self._pool_size, max_overflow=0, hide_parameters=True)
        sa.event.listen(engine.sync_engine, "connect", _sqlite_settings)
        sa.event.listen(engine.sync_engine, "begin", _sqlite_begin)
        return engine

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A writing transaction: commits at the end of the block, rolls back when it raises."""
        if self.is_sqlite:
            async with self._writing, self._transaction(writing=True) as connection:
                yield connection
        else:
            async with self._transaction(writing=True) as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A reading transaction: all its statements see the database as of one instant."""
        async with self._transaction(writing=False) as connection:
            yield connection

    @asynccontextmanager
    async def look(self) -> AsyncIterator[AsyncConnection]:
        """A connection for one reading statement, without the round trips of a transaction around it."""
        if self.is_sqlite:
            async with self._transaction(writing=False) as connection:
                yield connection
            return
        try:
            async with self.engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                yield connection
        except (DBAPIError, OSError, sa.exc.TimeoutError) as error:
            raise self._ended_by(error).with_traceback(error.__traceback__) from None

    @asynccontextmanager
    async def _transaction(self, *, writing: bool) -> AsyncIterator[AsyncConnection]:
        try:
            async with self.engine.connect() as connection:
                await connection.execution_options(jml_writing=writing)
                if not writing and not self.is_sqlite:
                    await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                async with connection.begin():
                    yield connection
        except (DBAPIError, sqlite3.Error, OSError, sa.exc.TimeoutError) as error:
            raise self._ended_by(error).with_traceback(error.__traceback__) from None

    def _ended_by(self, error: Exception) -> BaseException:
        """What ended a block: a driver may answer a cancellation with an error of its own, and whoever waits for the
        task's end would wait for ever if the task went on after it."""
        task = asyncio.current_task()
        return asyncio.CancelledError() if task is not None and task.cancelling() else self._told(error)

    def _told(self, error: Exception) -> JmlError:
        """The error in our own words: its class says whether trying again can help."""
        what = _brief(error)
        if _is_duplicate(error):
            # Somebody else inserted the same row between our look and our write: the next try sees it.
            return StoreUnavailable(f"a concurrent transaction won: {what}")
        if _may_pass(error):
            remedy = _remedy(error, is_file=self.is_sqlite)
            return StoreUnavailable(f"the database at {self.where} does not answer: {what}{remedy}")
        state = _sqlstate(error)
        if state[:2] in ("28", "3D"):
            return UserError(f"the database at {self.where} does not let us in: {what}")
        if state == "42P01" or "no such table" in what:
            return UserError(f"the database at {self.where} lacks a table, run `jml db migrate`: {what}")
        if _sqlite_code(error) == sqlite3.SQLITE_NOTADB:
            return UserError(f"the file at {self.where} is no database: {what}")
        return JmlError(f"the database at {self.where} refused a statement: {what}")

    @property
    def where(self) -> str:
        """The database's address without credentials, for messages."""
        return self.url.render_as_string(hide_password=True)

    async def close(self) -> None:
        """Close all connections."""
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    def insert(self, table: sa.Table) -> Any:
        """The dialect's INSERT, which knows ON CONFLICT."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def among(self, column: sa.Column[Any], name: str = "ids") -> sa.ColumnElement[bool]:
        """`column` is one of the values bound to `name` by `values`: one cached statement for every length."""
        if self.is_sqlite:
            each = sa.func.json_each(sa.bindparam(name, type_=sa.Text)).table_valued("value")
            return column.in_(sa.select(each.c.value))
        return column == sa.any_(sa.bindparam(name, type_=postgresql.ARRAY(sa.Text)))

    def values(self, values: Sequence[str], name: str = "ids") -> dict[str, Any]:
        """The parameter for `among`."""
        return {name: orjson.dumps(list(values)).decode() if self.is_sqlite else list(values)}


def _postgresql_settings(connection: Any, _record: Any) -> None:
    """Statements are planned for the tables as they are now. A plan that was made while a table was nearly empty would
    be kept, and read the whole table for a handful of rows until PostgreSQL next gathers statistics."""
    cursor = connection.cursor()
    cursor.execute("SET plan_cache_mode = force_custom_plan")
    cursor.close()


def _sqlite_settings(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    connection.run_async(_use_write_ahead_log)


async def _use_write_ahead_log(driver: Any) -> None:
    """Turn it on, which is needed once in a file's life. SQLite's own waiting leaves out this one statement."""
    waits = BUSY_TIMEOUT_MS // 10
    while True:
        try:
            async with driver.execute("PRAGMA journal_mode=WAL"):
                return
        except sqlite3.OperationalError as error:
            if _sqlite_code(error) != sqlite3.SQLITE_BUSY or waits <= 0:
                raise
        waits -= 1
        await asyncio.sleep(0.01)


def _sqlite_begin(connection: sa.Connection) -> None:
    writing = connection.get_execution_options().get("jml_writing", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _is_duplicate(error: Exception) -> bool:
    """Whether a key is there already; other broken constraints would be broken at every try."""
    extended = getattr(_original(error), "sqlite_errorcode", None)
    codes = (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)
    return _sqlstate(error) == "23505" or extended in codes


def _may_pass(error: Exception) -> bool:
    """Whether trying again later can help: a lost connection, a lock, a deadlock, a server that is starting."""
    if isinstance(_original(error), sqlite3.Error):
        return _sqlite_code(error) in _SQLITE_MAY_PASS
    if not isinstance(error, DBAPIError) or error.connection_invalidated or isinstance(error, OperationalError):
        return True
    state = _sqlstate(error)
    return state[:2] in ("08", "40", "53", "57") or state == "55P03"


def _remedy(error: Exception, *, is_file: bool) -> str:
    """What to do where nobody answers at all; locks, deadlocks and a server that is busy pass by themselves."""
    if is_file:
        closed = isinstance(error, OSError) or _sqlite_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        return "; see who may write there, or correct [store] url" if closed else ""
    gone = isinstance(_original(error), OSError) or _sqlstate(error)[:2] == "08"
    return "; start it, or correct [store] url" if gone else ""


def _original(error: Exception) -> BaseException:
    """The driver's own error."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _sqlstate(error: Exception) -> str:
    return str(getattr(_original(error), "sqlstate", None) or "")


def _sqlite_code(error: Exception) -> int | None:
    """SQLite's primary result code."""
    code = getattr(_original(error), "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _brief(error: Exception) -> str:
    """The first line of what the driver says: it names tables and constraints, the further ones quote rows.

    A data exception (class 22) quotes the value in its first line, so of that only the name is told.
    """
    original = _original(error)
    if _sqlstate(error).startswith("22"):
        return type(original.__cause__ or original).__name__
    return f"{type(original).__name__}: {str(original).splitlines()[0] if str(original) else 'no details'}"[:200]
