"""Erasure on both databases: nothing of the person is left in any table, and nothing of anybody else is touched."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.adapters.sql.auditing import SqlAuditIndex
from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.erasing import SqlErasureStore
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.adapters.sql.subjects import SqlSubjectStore
from orchestrator.adapters.sql.tables import metadata
from orchestrator.domain.account import AccountStatus, Progress
from orchestrator.domain.history import History, Stated, Statement
from orchestrator.domain.person import Decision, Engagement, Person
from orchestrator.domain.sealing import new_subject
from orchestrator.errors import UserError
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.erase import Erased, EraseFlow
from orchestrator.ports import InboxRow, ProgressUpdate, Quarantined, ResolveChanges
from schemas.audit import AuditEntry, AuditKind
from schemas.envelope import Message
from tests.contract.rows import NOW, account, timer

ADA, BEA = new_subject("4711"), new_subject("4712")
CANARIES = ("4711", "Ada", "ada.byron", "4711/hired")


def person(person_id: str, name: str, email: str, **more: Any) -> Person:
    values = {"given_name": name, "email": email, **more}
    history = History((Statement(NOW, NOW, f"hr#{person_id}/hired", values),))
    day = (NOW - timedelta(days=30)).date()
    engagement = Engagement(
        "e1", start=Stated(day, NOW, f"hr#{person_id}/hired"), end=Stated(day, NOW, f"hr#{person_id}:left")
    )
    return Person(person_id, history, {"e1": engagement}, decision=Decision(NOW, "left", "employee", "p1"))


def quarantined(offset: int, key: bytes | None, value: bytes | None, event_id: str | None = None) -> Quarantined:
    return Quarantined("hr.events", 0, offset, "invalid", "no start_date", key, value, event_id, NOW)


@pytest.fixture
async def database(database: Database) -> AsyncIterator[Database]:
    """Ada, who has left, and Bea, whose boss she was; each with everything that a person can have."""
    writer = AuditWriter("resolver", NOW)
    entries = [
        Entry(AuditKind.EVENT_RECEIVED, NOW, "hr", subject, event_id=event_id, sealed={"person_id": subject.person_id})
        for subject, event_id in (
            (ADA, "hr#4711/hired"),
            (ADA, "jml/scheduler#4711/contract_end/2026"),
            (ADA, "idp#Ada.Byron@example.com/7"),
            (ADA, "hr#batch-7"),
            (BEA, "hr#4712/hired"),
        )
    ]
    keys = [*(one.event_id or "" for one in entries), "hr#4711:left", "hr#4712/moved-from-4711"]
    async with SqlResolveStore(database).transaction() as transaction:
        await transaction.load([])
        await transaction.add_subjects([ADA, BEA], now=NOW)
        changes = ResolveChanges(
            inbox=[InboxRow(key, "resolved") for key in keys],
            persons=[
                person("4711", "Ada", "Ada.Byron@example.com"),
                person("4712", "Bea", "bea@example.com", manager_id="4711"),
            ],
            accounts=[
                replace(account(one, app, "absent"), resource={"userName": name})
                for one, name in (("4711", "ada.byron"), ("4712", "bea"))
                for app in ("crm", "wiki")
            ],
            timers_set=[timer("4711"), timer("4712")],
            quarantined=[
                quarantined(1, b"4711", b"\xff"),
                quarantined(2, None, b'{"worker_id": "4711", "start_date": 7}'),
                quarantined(3, None, b'{"data": {"worker_id": "4711"}}'),
                quarantined(4, b"x", b'{"email": "Ada.Byron@example.com"}', "idp#ada.byron@example.com/8"),
                quarantined(5, b"4712", b'{"worker_id": "4712", "start_date": 4711}'),
                quarantined(6, b"47110", b'{"worker_id": "47110"}', "hr#47110/8/bob@example.com"),
                quarantined(7, None, b"\xff", "hr#4711/9"),
                quarantined(8, None, b"\xff", "hr#ada.byron@example.com/9"),
            ],
        )
        await transaction.save(changes, now=NOW)
    done = Progress(applied_revision=1, status=AccountStatus.APPLIED)
    for app in ("crm", "wiki"):
        await progress(database, app, {"4711": done, "4712": done})
    records = [message.value for message in writer.stamp(entries)]
    await SqlAuditIndex(database).add(list(enumerate(records)))
    yield database


async def progress(database: Database, app: str, known: Mapping[str, Progress]) -> None:
    updates = [ProgressUpdate(person_id, one, None) for person_id, one in known.items()]
    async with SqlConvergeStore(database).transaction() as transaction:
        await transaction.save(app, updates, [], now=NOW)


async def erase(database: Database, person_id: str = "4711", **options: Any) -> Erased | None:
    retention = options.pop("retention", None)
    flow = EraseFlow(SqlErasureStore(database), AuditWriter("operator", NOW), retention=retention, default_zone="UTC")
    settings = {"operator": "grace", "reason": "request 118", "leave_accounts": False, "now": NOW, **options}
    return await flow(person_id, **settings)


async def rows(database: Database) -> dict[str, list[Any]]:
    """Everything in every table, by its name."""
    async with database.read() as connection:
        return {
            table.name: [tuple(row) for row in await connection.execute(sa.select(table))]
            for table in metadata.sorted_tables
        }


def tells_of(canary: str, line: str) -> bool:
    """Whether a line holds it as a word of its own: keys and subject ids are random, and hold any four letters."""
    return re.search(rf"(?<![0-9A-Za-z]){re.escape(canary)}(?![0-9A-Za-z])", line) is not None


async def test_nothing_of_the_person_is_left_in_any_table(database: Database) -> None:
    before = str(await rows(database))
    assert all(tells_of(canary, before) for canary in CANARIES), "else there is nothing to find"
    done = await erase(database)
    assert done is not None
    after = await rows(database)
    of_others = ("person", "quarantined", "inbox")  # where the id is a part of somebody else's story; see below
    left = [str(row) for name, found in after.items() if name not in of_others for row in found]
    assert not [line for line in left if any(tells_of(canary, line) for canary in CANARIES)]
    assert [row[0] for row in after["person"]] == ["4712"]
    assert [row[0] for row in after["account"]] == ["4712", "4712"]
    assert [row[0] for row in after["timer"]] == ["4712"]
    assert sorted(row[2] for row in after["quarantined"]) == [5, 6]
    assert sorted(row[0] for row in after["inbox"]) == ["hr#4712/hired", "hr#4712/moved-from-4711", "hr#batch-7"]
    assert done.rows == {"person": 1, "account": 2, "timer": 1, "quarantined": 6, "inbox": 4}


async def test_the_key_and_the_link_are_gone_and_the_entries_stay(database: Database) -> None:
    before = (await rows(database))["audit_index"]
    await erase(database)
    after = await rows(database)
    assert after["audit_index"] == before
    (erased,) = [row for row in after["subject"] if row[0] == ADA.id]
    assert (erased[1], erased[2], erased[4]) == (None, None, NOW)
    store = SqlSubjectStore(database)
    assert await store.of_people(["4711"]) == {}
    assert await store.called([ADA.id, BEA.id]) == {BEA.id: BEA}
    assert await SqlOperatorStore(database).person("4711") is None


async def test_the_erasure_is_an_entry_that_names_the_subject_and_no_person(database: Database) -> None:
    await erase(database)
    ((_, (message,)),) = await SqlOutbox(database).leftover(older_than=NOW + timedelta(seconds=1), limit=9)
    entry = AuditEntry.model_validate_json(message.value)
    assert (entry.kind, entry.subject, entry.actor) == (AuditKind.SUBJECT_ERASED, ADA.id, "operator:grace")
    assert entry.details == {"reason": "request 118", "accounts_left": []}
    assert entry.sealed is None
    assert b"4711" not in message.value + message.key


async def test_a_second_time_is_harmless(database: Database) -> None:
    await erase(database)
    before = await rows(database)
    assert await erase(database) is None
    assert await erase(database, "nobody") is None
    assert await rows(database) == before


async def test_the_manager_in_somebody_elses_record_stays(database: Database) -> None:
    """It is what HR said about that other person. The id leads nowhere any more."""
    await erase(database)
    view = await SqlOperatorStore(database).person("4712")
    assert view is not None
    assert view.person.history.at(NOW)["manager_id"] == "4711"


async def test_whoever_is_refused_stays_as_they_are(database: Database) -> None:
    retrying = Progress(version=1, applied_revision=1, status=AccountStatus.RETRYING, remote_id="r1")
    await progress(database, "crm", {"4711": retrying})
    before = await rows(database)
    with pytest.raises(UserError) as refused:
        await erase(database, retention=timedelta(days=100))
    assert [line.partition(":")[2][:30] for line in str(refused.value).splitlines()] == [
        " the account in crm is not kno",
        " the records have to be kept u",
    ]
    assert await rows(database) == before


async def test_accounts_can_be_left_and_are_named(database: Database) -> None:
    closed = Progress(version=1, applied_revision=1, status=AccountStatus.APPLIED, remote_id="r1", active=False)
    await progress(database, "crm", {"4711": closed})
    with pytest.raises(UserError, match="--leave-accounts"):
        await erase(database)
    done = await erase(database, leave_accounts=True)
    assert done is not None
    assert done.accounts_left == ("crm",)


@pytest.mark.parametrize("key", [b"4711", ADA.id.encode()], ids=["worker id", "subject"])
async def test_what_is_still_in_the_outbox_goes_out_first(database: Database, key: bytes) -> None:
    async with SqlResolveStore(database).transaction() as transaction:
        segment = await transaction.save(
            ResolveChanges(outbox=[Message("scim.crm.deprovision", key, b"{}"), Message("x", b"4712", b"{}")]), now=NOW
        )
    assert segment is not None
    with pytest.raises(UserError, match="1 message about the person is on its way"):
        await erase(database)
    await SqlOutbox(database).published([segment])
    assert await erase(database) is not None


async def test_a_connector_that_holds_the_account_cannot_write_about_the_person_any_more(database: Database) -> None:
    """It loaded the key before the erasure; its save finds no row, and without the row no entry is written."""
    loaded = await SqlConvergeStore(database).load("crm", ["4711"])
    assert loaded["4711"][0].subject == ADA
    await erase(database)
    async with SqlConvergeStore(database).transaction() as transaction:
        assert await transaction.lock("crm", ["4711"]) == {}


async def test_somebody_who_comes_back_is_somebody_new(database: Database) -> None:
    await erase(database)
    again = new_subject("4711")
    async with SqlResolveStore(database).transaction() as transaction:
        assert await transaction.load(["4711"]) == ({}, {}, {})
        assert await transaction.seen(["hr#4711/hired"]) == set()
        assert await transaction.subjects(["4711"]) == {}
        await transaction.add_subjects([again], now=NOW)
    found = await SqlSubjectStore(database).of_people(["4711"])
    assert found == {"4711": again}
    assert found["4711"].id != ADA.id
