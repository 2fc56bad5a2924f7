"""Fixtures that several suites share: an empty or migrated database of each kind, and the address of a real Kafka.

`tests/services` starts the real servers; `make services-up` prints the two variables that lead here to them.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import migrate

POSTGRES = os.environ.get("JML_TEST_POSTGRES", "")
KAFKA = os.environ.get("JML_TEST_KAFKA", "")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/jml.db"
        return
    if not POSTGRES:
        pytest.skip("needs a real PostgreSQL: `make services-up` says what to export (JML_TEST_POSTGRES)")
    name = f"jml_test_{uuid.uuid4().hex}"
    # A dictionary's order, as production databases often have: what relies on the order of bytes must say so itself.
    options = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' ENCODING 'UTF8'"
    asyncio.run(_on_server(f"CREATE DATABASE {name} {options}"))
    yield make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    asyncio.run(_on_server(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated database of this test's own."""
    database = Database(database_url)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
def kafka_bootstrap() -> str:
    """The address of a real Kafka; tests take topics and groups of their own on it and are marked `kafka`."""
    if not KAFKA:
        pytest.skip("needs a real Kafka: `make services-up` says what to export (JML_TEST_KAFKA)")
    return KAFKA


async def _on_server(statement: str) -> None:
    """Run one statement in the server's maintenance database, outside of any transaction."""
    url = make_url(POSTGRES).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
