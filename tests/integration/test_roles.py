"""A role that cannot go on says so: a process that looks alive and does nothing is the worst of its ends."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.adapters.sql.engine import Database
from orchestrator.bootstrap import running
from orchestrator.errors import JmlError
from orchestrator.roles import role
from schemas.envelope import Message
from schemas.topics import AUDIT_ENTRIES
from tests.audit_log import KEY, entry, writer
from tests.integration.pipeline import configuration, embedded, eventually, opened


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


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_auditor_that_stops_leaves_the_log_to_others_whatever_still_arrives(
    database: Database, tmp_path: Path
) -> None:
    """Its consumer ends after it: a batch in between is for whoever comes next, and must not take the log again."""
    with embedded() as address:
        config = configuration(address, str(database.url), tmp_path / "audit")
        async with opened(config) as runtime:
            auditor = role("auditor")(runtime)
            await auditor.start()
            await runtime.consumers.start()
            unread = runtime.unread
            assert unread is not None

            async def read() -> bool:
                return unread.messages == 0

            for number, then in ((1, auditor.stop), (2, runtime.consumers.stop)):
                await runtime.publisher.publish([Message(AUDIT_ENTRIES, b"", entry(number))])
                await eventually(read)
                await then()
            await writer(tmp_path / "audit", KEY).append([entry(3)])
