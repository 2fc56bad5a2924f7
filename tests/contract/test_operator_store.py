"""The contract of `ports.OperatorStore`, over rows that the other stores wrote."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import orjson
import pytest
import sqlalchemy as sa

from orchestrator.adapters.sql.auditing import SqlAuditIndex
from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.adapters.sql.sweeping import SqlAttentionStore, SqlTimerStore
from orchestrator.adapters.sql.tables import audit_index
from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.person import Decision, Person
from orchestrator.domain.sealing import Subject, seal
from orchestrator.ports import (
    ApplicationHealth,
    InboxRow,
    OperatorStore,
    ProgressUpdate,
    Quarantined,
    ResolveChanges,
    Timer,
)
from schemas.commands import DesiredState
from schemas.envelope import Message

NOW = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)
SUBJECT = Subject("a" * 32, "1", b"1" * 32)


def person(person_id: str, status: str = "active") -> Person:
    return Person(person_id, decision=Decision(NOW, status, "employee", "p1"))


def account(person_id: str, app: str = "crm", state: DesiredState = "active", *, since: datetime = NOW) -> Account:
    return Account(person_id, app, 3, state, {"userName": person_id}, ("staff",), since, "hr#1", "case-1", "p1")


async def save(database: Database, changes: ResolveChanges) -> None:
    async with SqlResolveStore(database).transaction() as transaction:
        await transaction.load([one.id for one in changes.persons])
        await transaction.save(changes, now=NOW)


async def converged(database: Database, app: str, progress: Iterable[tuple[str, Progress]]) -> None:
    updates = [ProgressUpdate(person_id, one, None) for person_id, one in progress]
    async with SqlConvergeStore(database).transaction() as transaction:
        await transaction.save(app, updates, [], now=NOW)


def parked(code: str = "rejected") -> Progress:
    return Progress(status=AccountStatus.PARKED, attempts=4, error_code=code, error="400: the title is too long")


@pytest.fixture
def store(database: Database) -> OperatorStore:
    return SqlOperatorStore(database)


async def test_an_empty_store_has_a_status(store: OperatorStore) -> None:
    status = await store.status()
    assert (status.persons, status.accounts, status.parked_leavers, status.health) == ({}, {}, {}, {})
    assert (status.open_timers, status.next_due, status.outbox_segments, status.quarantined) == (0, None, 0, 0)


async def test_status_counts_everything(store: OperatorStore, database: Database) -> None:
    due = NOW + timedelta(days=7)
    await save(
        database,
        ResolveChanges(
            inbox=[InboxRow("hr#1", "resolved")],
            persons=[person("1"), person("2"), person("3", "left")],
            accounts=[account("1"), account("1", "wiki"), account("2"), account("3", state="inactive")],
            timers_set=[Timer("1", "contract_end", due, "hr#1", "r"), Timer("2", "contract_end", NOW, "hr#1", "r")],
            quarantined=[Quarantined("hr.events", 0, 7, "undecodable", "no JSON", None, b"\xff", None, NOW)],
            outbox=[Message("audit.entries", b"1", b"{}")],
        ),
    )
    async with SqlTimerStore(database).transaction() as timers:
        await timers.fired(await timers.take_due(now=NOW, limit=10), [], now=NOW)
    await converged(database, "crm", [("1", Progress(status=AccountStatus.APPLIED)), ("3", parked())])
    await SqlConvergeStore(database).save_health("crm", ApplicationHealth("paused", "401", NOW, due))

    status = await store.status()
    assert status.persons == {"active": 2, "left": 1}
    assert status.accounts == {"crm": {"applied": 1, "pending": 1, "parked": 1}, "wiki": {"pending": 1}}
    assert status.parked_leavers == {"crm": 1}
    assert (status.open_timers, status.next_due) == (1, due), "a timer that has fired is not open"
    assert (status.outbox_segments, status.outbox_oldest) == (1, NOW)
    assert status.quarantined == 1
    assert status.health == {"crm": ApplicationHealth("paused", "401", NOW, due)}


async def test_a_person_comes_with_accounts_timers_and_timeline_in_order(
    store: OperatorStore, database: Database
) -> None:
    timer = Timer("1", "contract_end", NOW, "hr#1", "r")
    await save(
        database,
        ResolveChanges(
            persons=[person("1"), person("2")],
            accounts=[account("1", "wiki"), account("1", "crm"), account("2")],
            timers_set=[timer, Timer("2", "contract_end", NOW, "hr#1", "r")],
        ),
    )
    await converged(database, "crm", [("1", parked())])
    async with SqlResolveStore(database).transaction() as transaction:
        await transaction.add_subjects([SUBJECT, Subject("b" * 32, "2", b"2" * 32)], now=NOW)
    await SqlAuditIndex(database).add([(2, entry("1", "command_parked")), (0, entry("1", "event_received"))])
    await SqlAuditIndex(database).add([(1, entry("2", "event_received"))])

    view = await store.person("1")
    assert view is not None
    assert view.person == person("1")
    assert [(one.account.app, one.progress.status.value) for one in view.accounts] == [
        ("crm", "parked"),
        ("wiki", "pending"),
    ]
    assert view.accounts[0].account == account("1")
    assert view.timers == [timer]
    assert [(one.position, one.kind) for one in view.timeline] == [(0, "event_received"), (2, "command_parked")]
    assert (view.timeline[1].revision, view.timeline[1].details, view.timeline[1].at) == (3, {"code": "x"}, NOW)
    assert (view.subject, view.timeline[1].values) == (SUBJECT.id, {"title": "Analyst"})
    assert await store.person("3") is None


async def test_the_index_of_a_long_log_goes_on_and_takes_an_entry_once(database: Database) -> None:
    index, far, first = SqlAuditIndex(database), 1 << 40, entry("1", "event_received")
    await index.add([(far, first)])
    await index.add([(far, first), (far + 1, entry("1", "command_parked"))])
    assert await index.next_position() == far + 2
    async with database.read() as connection:
        rows = await connection.execute(sa.select(audit_index.c.position, audit_index.c.kind).order_by("position"))
        assert [tuple(row) for row in rows] == [(far, "event_received"), (far + 1, "command_parked")]


def entry(person_id: str, kind: str) -> bytes:
    return orjson.dumps(
        {
            "id": "w/1/1",
            "writer": "w",
            "epoch": 1,
            "sequence": 1,
            "at": NOW,
            "kind": kind,
            "actor": "hr",
            "subject": {"1": SUBJECT.id, "2": "b" * 32}[person_id],
            "app": "crm",
            "revision": 3,
            "details": {"code": "x"},
            "sealed": seal(SUBJECT.key or b"", "w/1/1", {"title": "Analyst"}),
        }
    )


async def test_parked_leavers_come_first_then_those_that_wait_longest(store: OperatorStore, database: Database) -> None:
    await save(
        database,
        ResolveChanges(
            persons=[person(one) for one in "12345"],
            accounts=[
                account("1", since=NOW - timedelta(days=9)),
                account("2", since=NOW - timedelta(days=10)),
                account("3", state="inactive"),
                account("4", state="absent", since=NOW - timedelta(days=1)),
                account("5"),
            ],
        ),
    )
    await converged(database, "crm", [(one, parked()) for one in "1234"])
    found = await store.parked()
    assert [(one.person_id, one.leaver) for one in found] == [("4", True), ("3", True), ("2", False), ("1", False)]
    assert (found[0].error_code, found[0].attempts, found[0].revision) == ("rejected", 4, 3)
    assert [one.person_id for one in await store.parked(app="crm", person_id="2")] == ["2"]
    assert await store.parked(app="wiki") == []


async def test_a_retry_is_taken_by_the_relay_and_its_messages_are_in_the_outbox(
    store: OperatorStore, database: Database
) -> None:
    await save(database, ResolveChanges(persons=[person("1"), person("2")], accounts=[account("1"), account("2")]))
    await converged(database, "crm", [("1", parked()), ("2", Progress(status=AccountStatus.APPLIED))])
    message = Message("audit.entries", b"1", b"{}", (("ce_id", b"1"),))
    async with store.retry() as transaction:
        taken = await transaction.take("crm", ["1", "2", "3"])
        assert [one.person_id for one in taken] == ["1"], "only what is parked still"
        await transaction.retried("crm", ["1"], [message], now=NOW)

    assert await store.parked() == []
    (loaded,) = (await SqlConvergeStore(database).load("crm", ["1"])).values()
    assert (loaded[1].status, loaded[1].attempts, loaded[1].version) == (AccountStatus.PENDING, 0, 2)
    async with SqlAttentionStore(database).transaction() as relay:
        assert [one.person_id for one in await relay.take(now=NOW, limit=10)] == ["1"]
    leftover = await SqlOutbox(database).leftover(older_than=NOW + timedelta(seconds=1), limit=10)
    assert [messages for _, messages in leftover] == [[message]]


async def test_a_retry_that_fails_changes_nothing(store: OperatorStore, database: Database) -> None:
    await save(database, ResolveChanges(persons=[person("1")], accounts=[account("1")]))
    await converged(database, "crm", [("1", parked())])
    with pytest.raises(RuntimeError):
        async with store.retry() as transaction:
            await transaction.retried("crm", ["1"], [Message("audit.entries", b"1", b"{}")], now=NOW)
            raise RuntimeError
    assert [one.person_id for one in await store.parked()] == ["1"]
    assert (await store.status()).outbox_segments == 0


async def test_quarantine_lists_sizes_and_shows_bytes(store: OperatorStore, database: Database) -> None:
    records = [
        Quarantined("hr.events", 0, offset, "undecodable", "no JSON", b"k", value, None, NOW + timedelta(hours=offset))
        for offset, value in ((1, b"\xff\x00abc"), (2, None), (3, b""))
    ]
    await save(database, ResolveChanges(quarantined=records))
    assert [(one.offset, one.bytes) for one in await store.quarantined(limit=2)] == [(3, 0), (2, 0)]
    assert [(one.offset, one.bytes) for one in await store.quarantined(limit=9)] == [(3, 0), (2, 0), (1, 5)]
    assert await store.quarantined_record("hr.events", 0, 1) == records[0]
    assert await store.quarantined_record("hr.events", 1, 1) is None
