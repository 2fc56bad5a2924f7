"""Ends that cannot be enforced, from the account that is stuck to the manager who reads of it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.config import Config
from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.ports import ProgressUpdate, ResolveChanges
from schemas.notices import Notice
from schemas.topics import AUDIT_ENTRIES, LIFECYCLE_NOTICES
from tests.contract.rows import NOW, person, save
from tests.integration.pipeline import Pipeline, embedded, eventually, pipeline
from tests.integration.receivers import Mailbox, mail_server

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

LATE = timedelta(minutes=30)


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with mail_server() as mailbox:
        yield mailbox


def leaver(app: str) -> Account:
    return Account("4711", app, 2, "inactive", {"userName": "ada"}, (), NOW - LATE, "hr#4", "case", "p1")


async def stuck(database: Database) -> None:
    """One account is parked, one waits for an application that is paused, one is closed."""
    people = [person("4711", display_name="Ada King", manager_id="boss"), person("boss", email="boss@example.com")]
    await save(database, ResolveChanges(persons=people), NOW - LATE)
    accounts = [leaver(app) for app in ("crm", "paused", "wiki")]
    await save(database, ResolveChanges(accounts=accounts), NOW - LATE)
    store = SqlConvergeStore(database)
    parked = Progress(applied_revision=1, active=True, status=AccountStatus.PARKED, error_code="rejected")
    closed = Progress(applied_revision=2, active=False, status=AccountStatus.APPLIED)
    for app, progress in (("crm", parked), ("wiki", closed)):
        async with store.transaction() as transaction:
            await transaction.save(app, [ProgressUpdate("4711", progress, None)], [], now=NOW)


def measured(name: str, app: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"app": app})


async def test_what_is_overdue_is_measured_and_its_manager_told_once(
    database: Database, tmp_path: Path, mailbox: Mailbox
) -> None:
    await stuck(database)
    email = {"host": "127.0.0.1", "port": mailbox.port, "security": "none", "sender": "jml@example.com"}
    with embedded() as bootstrap:
        config = Config.model_validate(
            {
                "kafka": {"bootstrap": bootstrap},
                "store": {"url": str(database.url)},
                "audit": {"dir": tmp_path / "audit"},
                "notices": {"overdue_after_minutes": 15, "email": email},
            }
        )
        clock = SimulatedClock(NOW)
        async with pipeline(config, "scheduler", "notifier", clock=clock) as line:
            await _letters(mailbox, 2)
            assert measured("jml_overdue_ends", "crm") == 1
            assert measured("jml_overdue_oldest_seconds", "paused") == LATE.total_seconds()
            assert not measured("jml_overdue_ends", "wiki")
            await _sweep(line)
        async with pipeline(config, "scheduler", "notifier", clock=clock) as line:
            await _sweep(line)
            entries = [one.value for one in await line.records(AUDIT_ENTRIES, at_least=2)]
            told = [Notice.model_validate_json(one.value) for one in await line.records(LIFECYCLE_NOTICES, at_least=2)]
            await _close(database)
            await _sweep(line)
            assert measured("jml_overdue_ends", "crm") == 0
    assert sum(b"notice_issued" in one for one in entries) == 2
    assert sorted((one.app, one.manager_id, one.due) for one in told) == [
        ("crm", "boss", NOW - LATE),
        ("paused", "boss", NOW - LATE),
    ]
    subjects = sorted(letter["Subject"] for letter in mailbox.to("boss@example.com"))
    assert subjects == [f"Ada King may still have access to {app}" for app in ("crm", "paused")]


async def _letters(mailbox: Mailbox, count: int) -> None:
    async def look() -> bool:
        return len(mailbox.received) == count

    await eventually(look)


async def _sweep(line: Pipeline) -> None:
    """One more sweep, by the flow itself: the role's comes every 15 seconds."""
    flow = line.runtime.overdue_flow()
    flow._measured |= {"crm", "paused"}
    assert await flow.sweep() == 0


async def _close(database: Database) -> None:
    """Somebody closed both accounts."""
    store = SqlConvergeStore(database)
    for app in ("crm", "paused"):
        ((_, known),) = (await store.load(app, ["4711"])).values()
        done = replace(known, applied_revision=2, active=False, status=AccountStatus.APPLIED)
        async with store.transaction() as transaction:
            await transaction.save(app, [ProgressUpdate("4711", done, None)], [], now=NOW)
