"""Fixtures that several suites share: an empty or migrated database of each kind, and the address of a real Kafka.

`tests/services` starts the real servers; `make services-up` prints the two variables that lead here to them.
"""

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import migrate

POSTGRES = os.environ.get("JML_TEST_POSTGRES", "")
KAFKA = os.environ.get("JML_TEST_KAFKA", "")


class Databases:
    """New databases on the PostgreSQL server, each a copy of one template. The next copy is made while a test runs."""

    def __init__(self, template: str, options: str = "") -> None:
        self._create = f"TEMPLATE {template} {options}"
        self._server = ThreadPoolExecutor(1)
        self._next: Future[str] | None = None

    def take(self) -> str:
        """The URL of a database that nobody else has."""
        url = (self._next or self._server.submit(self._make)).result()
        self._next = self._server.submit(self._make)
        return url

    def drop(self, url: str) -> None:
        """Drop one, soon."""
        self._server.submit(_on_server, f"DROP DATABASE {make_url(url).database} WITH (FORCE)")

    def close(self) -> None:
        """Drop what nobody took."""
        if self._next:
            self.drop(self._next.result())
        self._server.shutdown()

    def _make(self) -> str:
        name = f"jml_test_{uuid.uuid4().hex}"
        _on_server(f"CREATE DATABASE {name} {self._create}")
        return make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def empty_databases() -> Iterator[Databases]:
    """Databases on PostgreSQL without a table."""
    # A dictionary's order, as production databases often have: what relies on the order of bytes must say so itself.
    databases = Databases("template0", "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' ENCODING 'UTF8'")
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def migrated_databases(empty_databases: Databases) -> Iterator[Databases]:
    """Databases on PostgreSQL with every table: migrated once, then copied."""
    template = empty_databases.take()
    _migrate(template)
    databases = Databases(str(make_url(template).database))
    yield databases
    databases.close()
    empty_databases.drop(template)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with every table, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "jml.db"
    _migrate(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of this test's own: migrated where the test takes `database` too, else empty."""
    migrated = "database" in request.fixturenames
    if request.param == "sqlite":
        path = tmp_path / "jml.db"
        if migrated:
            shutil.copy(request.getfixturevalue("migrated_file"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    if not POSTGRES:
        pytest.skip("needs a real PostgreSQL: `make services-up` says what to export (JML_TEST_POSTGRES)")
    databases: Databases = request.getfixturevalue("migrated_databases" if migrated else "empty_databases")
    url = databases.take()
    yield url
    databases.drop(url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated database of this test's own."""
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def kafka_bootstrap() -> str:
    """The address of a real Kafka; tests take topics and groups of their own on it and are marked `kafka`."""
    if not KAFKA:
        pytest.skip("needs a real Kafka: `make services-up` says what to export (JML_TEST_KAFKA)")
    return KAFKA


def _migrate(url: str) -> None:
    async def run() -> None:
        database = Database(url)
        await migrate(database)
        await database.close()

    asyncio.run(run())


def _on_server(statement: str) -> None:
    """Run one statement in the server's maintenance database, outside of any transaction."""

    async def run() -> None:
        connection = await asyncpg.connect(url.render_as_string(hide_password=False))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    url = make_url(POSTGRES).set(drivername="postgresql")
    asyncio.run(run())
