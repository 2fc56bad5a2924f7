"""A role that cannot go on says so: a process that looks alive and does nothing is the worst of its ends."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.adapters.sql.engine import Database
from orchestrator.bootstrap import running
from orchestrator.errors import JmlError
from orchestrator.roles import role
from tests.integration.pipeline import configuration, embedded, opened


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_relay_that_cannot_go_on_ends_its_process(database: Database, tmp_path: Path) -> None:
    with embedded() as address:
        config = configuration(address, str(database.url), tmp_path / "audit")
        async with opened(config) as runtime, running(runtime, [role("relay")(runtime)]) as failed:
            async with database.write() as connection:
                await connection.execute(sa.text("drop table outbox"))
            async with asyncio.timeout(10):
                error = await failed
    assert isinstance(error, JmlError)
    assert "jml db migrate" in str(error)
