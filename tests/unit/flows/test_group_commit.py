"""Loader and Saver: one statement for everybody who waits, lost races told, outages waited for, defects raised."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.domain.account import AccountStatus, Progress
from orchestrator.domain.retry import Backoff
from orchestrator.domain.sealing import Subject
from orchestrator.errors import JmlError
from orchestrator.flows import group_commit
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.group_commit import BUSY_ROWS, ENOUGH_ROWS, SAFETY_NET, Loader, Saver
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.ports import ProgressUpdate
from schemas.audit import AuditKind
from tests.unit.flows.fakes import (
    NOW,
    FakeConvergeStore,
    FakeOutboxStore,
    FakePublisher,
    account,
    rounds,
    until,
)


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "_BACKOFF", Backoff(base=0.001, most=0.01))


@pytest.fixture
def store() -> FakeConvergeStore:
    store = FakeConvergeStore()
    for person_id in ("ada", "bea", "cyd"):
        store.add(account(person_id))
    return store


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
async def outbox(publisher: FakePublisher) -> AsyncIterator[OutboxPublisher]:
    outbox = OutboxPublisher(publisher, FakeOutboxStore())
    outbox.start()
    yield outbox
    await outbox.drain(0)


@pytest.fixture
async def saver(store: FakeConvergeStore, outbox: OutboxPublisher) -> AsyncIterator[Saver]:
    saver = Saver(store, "crm", outbox, AuditWriter("connector.crm", NOW), SimulatedClock(NOW))
    yield saver
    await saver.drain(0.1)


@pytest.fixture
async def loader(store: FakeConvergeStore) -> AsyncIterator[Loader]:
    loader = Loader(store, "crm")
    yield loader
    await loader.close()


def applied(person_id: str, version: int = 0, revision: int = 1) -> ProgressUpdate:
    return ProgressUpdate(person_id, Progress(version=version, applied_revision=revision), None)


async def save(saver: Saver, update: ProgressUpdate, *entries: Entry, revision: int = 1) -> int:
    return await saver.save(update, entries, revision=revision)


def entry(person_id: str | None = None) -> Entry:
    subject = Subject(f"subject of {person_id}", person_id) if person_id else None
    return Entry(AuditKind.COMMAND_APPLIED, NOW, "connector", subject)


def numbers(store: FakeConvergeStore) -> list[tuple[int, int]]:
    """Epoch and sequence of every entry that was saved, in order."""
    entries = [orjson.loads(message.value) for segment in store.segments for message in segment]
    return [(one["epoch"], one["sequence"]) for one in entries]


# --- saver -----------------------------------------------------------------------------------------------------------


async def test_what_comes_together_is_saved_together(saver: Saver, store: FakeConvergeStore) -> None:
    saved = await asyncio.gather(*(save(saver, applied(person), entry(person)) for person in ("ada", "bea", "cyd")))
    assert saved == [True, True, True]
    assert store.transactions == 1
    assert [sequence for _, sequence in numbers(store)] == [1, 2, 3]


async def test_many_wait_for_company_and_one_that_loses_access_does_not(
    saver: Saver, store: FakeConvergeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "LINGER_SECONDS", 60.0)
    joiners = [f"j{number}" for number in range(BUSY_ROWS)]
    for person_id in joiners:
        store.add(account(person_id))
    await asyncio.gather(*(save(saver, applied(person_id)) for person_id in joiners))
    joiner = asyncio.create_task(save(saver, applied("ada")))
    await rounds()
    assert not joiner.done()
    async with asyncio.timeout(5):
        assert await saver.save(applied("bea"), (), revision=1, urgent=True)
        assert await joiner


async def test_enough_company_waits_for_no_more(
    saver: Saver, store: FakeConvergeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "LINGER_SECONDS", 60.0)
    people = [f"j{number}" for number in range(BUSY_ROWS + ENOUGH_ROWS)]
    for person_id in people:
        store.add(account(person_id))
    await asyncio.gather(*(save(saver, applied(person_id)) for person_id in people[:BUSY_ROWS]))
    async with asyncio.timeout(5):
        assert all(await asyncio.gather(*(save(saver, applied(person_id)) for person_id in people[BUSY_ROWS:])))


async def test_whoever_comes_with_an_old_version_has_lost(saver: Saver, store: FakeConvergeStore) -> None:
    store.add(account("ada"), Progress(version=7))
    lost, won = await asyncio.gather(
        save(saver, applied("ada", version=6), entry("ada")), save(saver, applied("bea"), entry("bea"))
    )
    assert (lost, won) == (False, True)
    assert store.rows["ada"][1] == Progress(version=7)
    assert len(numbers(store)) == 1, "what did not happen is not recorded"


async def test_an_account_without_a_row_has_lost(saver: Saver) -> None:
    assert not await save(saver, applied("nobody"))


async def test_of_two_saves_that_began_alike_one_wins(saver: Saver, store: FakeConvergeStore) -> None:
    """A run that was cut short may have left its save behind when the account comes back to the same process."""
    first, second = await asyncio.gather(*(save(saver, applied("ada"), entry("ada")) for _ in range(2)))
    assert (first, second) == (True, False)
    assert store.rows["ada"][1].version == 1
    assert len(numbers(store)) == 1


async def test_an_outage_is_waited_for(saver: Saver, store: FakeConvergeStore) -> None:
    store.outages = 3
    assert await save(saver, applied("ada"), entry("ada"))
    assert store.rows["ada"][1].applied_revision == 1


async def test_numbers_have_no_gaps_within_an_epoch_whatever_the_store_did(
    saver: Saver, store: FakeConvergeStore
) -> None:
    """A commit of unknown outcome ends the epoch: its numbers may be taken."""
    await save(saver, applied("ada"), entry("ada"), entry("ada"))
    store.outages, store.commits_first = 1, True
    assert not await save(saver, applied("bea"), entry("bea")), "it was committed the first time, and that is seen"
    store.commits_first = False
    assert await save(saver, applied("cyd"), entry("cyd"))
    epochs: dict[int, list[int]] = {}
    for epoch, sequence in numbers(store):
        epochs.setdefault(epoch, []).append(sequence)
    assert list(epochs.values()) == [[1, 2, 3], [1]]


async def test_an_account_that_moved_on_keeps_its_safety_net(saver: Saver, store: FakeConvergeStore) -> None:
    store.add(account("ada", revision=2))
    await save(saver, applied("ada", revision=1))
    await save(saver, applied("bea", revision=1))
    assert store.attention == {"ada": NOW + SAFETY_NET, "bea": None}


async def test_an_account_that_is_parked_waits_for_a_person(saver: Saver, store: FakeConvergeStore) -> None:
    """At its present revision. When a newer one came meanwhile, that one may still get lost."""
    store.add(account("ada", revision=2))
    parked = Progress(applied_revision=1, status=AccountStatus.PARKED)
    assert await save(saver, ProgressUpdate("ada", parked, None), revision=2)
    assert store.attention["ada"] is None
    assert await save(saver, ProgressUpdate("ada", replace(parked, version=1), None), revision=1)
    assert store.attention["ada"] == NOW + SAFETY_NET


async def test_loose_entries_go_with_the_next_transaction(
    saver: Saver, store: FakeConvergeStore, publisher: FakePublisher
) -> None:
    await saver.note(Entry(AuditKind.APPLICATION_PAUSED, NOW, "connector", app="crm"))
    await until(lambda: publisher.published)
    assert len(numbers(store)) == 1


async def test_a_defect_ends_whoever_waits_and_nobody_waits_for_ever(saver: Saver, store: FakeConvergeStore) -> None:
    store.defect = JmlError("the database refused a statement")
    outcomes = await asyncio.gather(
        *(save(saver, applied(person)) for person in ("ada", "bea")), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [JmlError, JmlError]
    assert await save(saver, applied("ada")), "and the saver goes on"


async def test_a_defect_loses_no_loose_entry(saver: Saver, store: FakeConvergeStore) -> None:
    store.defect = JmlError("the database refused a statement")
    with pytest.raises(JmlError):
        await saver.note(entry())
    await save(saver, applied("ada"), entry("ada"))
    assert len(numbers(store)) == 2


async def test_a_store_that_stays_down_does_not_keep_the_process_from_ending(
    saver: Saver, store: FakeConvergeStore
) -> None:
    store.outages = 10**9
    saving = asyncio.create_task(save(saver, applied("ada")))
    await rounds()
    async with asyncio.timeout(2):
        await saver.drain(0.05)
    saving.cancel()


async def test_a_broker_that_stays_down_does_not_either(
    store: FakeConvergeStore, publisher: FakePublisher, outbox: OutboxPublisher
) -> None:
    publisher.refusals = 10**9
    saver = Saver(store, "crm", outbox, AuditWriter("connector.crm", NOW), SimulatedClock(NOW))
    for version in range(10):
        saving = asyncio.create_task(save(saver, applied("ada", version=version), entry("ada")))
        await rounds()
    async with asyncio.timeout(2):
        await saver.drain(0.05)
    saving.cancel()
    assert store.rows["ada"][1].version > 1


async def test_whom_an_account_refers_to_is_locked_with_it(saver: Saver, store: FakeConvergeStore) -> None:
    """Or each of two transactions could miss what the other is about to write."""
    done = Progress(applied_revision=1, status=AccountStatus.APPLIED, refers_to="bea")
    store.add(account("bea"), Progress(remote_id="r7"))
    await save(saver, ProgressUpdate("ada", done, None, linked=None))
    assert store.locked == [["ada", "bea"]]
    assert store.attention["ada"] == NOW, "its reference has an id that it was not linked to"
    await save(saver, ProgressUpdate("ada", replace(done, version=1), None, linked="r7"))
    assert store.attention["ada"] is None
    assert store.looked_again == []
    await save(saver, ProgressUpdate("bea", Progress(remote_id="r8"), None, appeared=True))
    assert store.looked_again == [["bea"]]


# --- loader ----------------------------------------------------------------------------------------------------------


async def test_who_asks_together_is_answered_by_one_read(loader: Loader, store: FakeConvergeStore) -> None:
    rows = await asyncio.gather(*(loader.load(person) for person in ("ada", "bea", "nobody", "ada")))
    assert [row and row[0].person_id for row in rows] == ["ada", "bea", None, "ada"]
    assert store.loads == [["ada", "bea", "nobody"]]


async def test_who_asks_while_a_read_is_under_way_gets_a_later_one(loader: Loader, store: FakeConvergeStore) -> None:
    first = asyncio.create_task(loader.load("ada"))
    await until(lambda: store.loads)
    second = asyncio.create_task(loader.load("ada"))
    await asyncio.gather(first, second)
    assert len(store.loads) == 2


async def test_a_read_waits_for_the_store(loader: Loader, store: FakeConvergeStore) -> None:
    store.outages = 3
    row = await loader.load("ada")
    assert row is not None
    assert row == (store.rows["ada"][0], replace(store.rows["ada"][1]))


async def test_a_defect_in_reading_ends_whoever_waits(loader: Loader, store: FakeConvergeStore) -> None:
    store.defect = JmlError("no such column")
    with pytest.raises(JmlError, match="no such column"):
        await loader.load("ada")
    assert await loader.load("ada") is not None


async def test_who_is_asked_for_a_holder_or_a_person_waits_while_the_store_is_down(
    store: FakeConvergeStore, loader: Loader
) -> None:
    account, progress = store.rows["ada"]
    store.add(account, replace(progress, remote_id="r1"))
    store.outages = 3
    assert await loader.holders(["r1", "r2"]) == {"r1": "ada"}
    store.outages = 3
    person = await loader.person("ada")
    assert person is not None
    assert person.id == "ada"
    assert await loader.person("nobody") is None
