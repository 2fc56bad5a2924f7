"""The contracts of `ports.noticing`: a notice is claimed by one process, an overdue end is told of once."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from orchestrator.adapters.sql.coming import SqlComing
from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.notices import SqlNoticeStore
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.overdue import SqlOverdueStore
from orchestrator.adapters.sql.tables import account as account_table
from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.notices import Receiver, notice_key
from orchestrator.ports import ProgressUpdate, ResolveChanges
from orchestrator.ports.noticing import Delivery, Issued, Overdue, OverdueEnd, Settled
from schemas.notices import Notice
from tests.contract.rows import MINUTE, NOW, TRICKY_IDS, account, another, message, person, save, save_accounts, timer

HOOK, BOSS = Receiver("webhook", "webhook"), Receiver("email:manager", "email")


def issued(number: int = 1, *receivers: Receiver, person_id: str = "w1") -> Issued:
    told = Notice(id=f"n{number}", kind="contract_ends", person_id=person_id, due=NOW, event_id="hr#1")
    return Issued(notice_key(told), told, NOW, receivers or (HOOK,))


async def claim(store: SqlNoticeStore, channel: str = "webhook", at: int = 0, limit: int = 99) -> list[Delivery]:
    """What is due `at` minutes later, for ten minutes."""
    now = NOW + at * MINUTE
    return await store.claim(channel, now=now, until=now + 10 * MINUTE, limit=limit)


# --- notices ----------------------------------------------------------------------------------------------------------


async def test_a_notice_is_claimed_once_for_each_receiver_until_its_lease_is_over(database: Database) -> None:
    store = SqlNoticeStore(database)
    await store.accept([issued(1, HOOK, BOSS)], [], now=NOW)
    await store.accept([issued(1, HOOK, BOSS)], [], now=NOW + MINUTE)
    assert [(one.receiver, one.attempt) for one in await claim(store)] == [("webhook", 1)]
    assert await claim(store, at=9) == []
    assert [one.receiver for one in await claim(store, "email")] == ["email:manager"]
    assert [one.attempt for one in await claim(store, at=10)] == [2]


async def test_two_notifiers_share_the_deliveries(database: Database) -> None:
    store, other = SqlNoticeStore(database), SqlNoticeStore(another(database))
    await store.accept([issued(number) for number in range(60)], [], now=NOW)

    async def all_of(one: SqlNoticeStore) -> list[str]:
        found = []
        while some := await claim(one, limit=7):
            found += [delivery.key for delivery in some]
        return found

    here, there = await asyncio.gather(all_of(store), all_of(other))
    assert len({*here, *there}) == len(here) + len(there) == 60


async def test_whoever_comes_back_after_the_lease_changes_nothing(database: Database) -> None:
    store = SqlNoticeStore(database)
    await store.accept([issued()], [], now=NOW)
    (slow,) = await claim(store)
    (fast,) = await claim(store, at=10)
    late = Settled(slow, "parked", NOW, None, "refused", "no")
    await store.settle([late])
    assert await store.listed(statuses=("parked",), limit=9) == []
    await store.settle([Settled(fast, "delivered", NOW + MINUTE)])
    await store.settle([late])
    (one,) = await store.listed(statuses=("parked", "delivered"), limit=9)
    assert (one.status, one.delivered_at, one.error_code, one.next_attempt_at) == (
        "delivered",
        NOW + MINUTE,
        None,
        None,
    )


async def test_only_what_is_parked_is_tried_again(database: Database) -> None:
    store = SqlNoticeStore(database)
    await store.accept([issued(1), issued(2)], [], now=NOW)
    first, second = await claim(store)
    await store.settle([Settled(first, "parked", NOW, None, "refused", "no"), Settled(second, "delivered", NOW)])
    async with store.retry() as transaction:
        taken = await transaction.take([first.key, second.key])
        await transaction.retried(taken, [message()], now=NOW + MINUTE)
    assert [one.key for one in taken] == [first.key]
    (again,) = await claim(store, at=1)
    assert (again.key, again.attempt) == (first.key, 1)
    assert len(await SqlOutbox(database).leftover(older_than=NOW + 2 * MINUTE, limit=9)) == 1


async def test_a_notice_is_outdated_when_its_end_is_not_there(database: Database) -> None:
    store = SqlNoticeStore(database)
    await save(database, ResolveChanges(timers_set=[timer("w1")]))
    await store.accept([issued(1), issued(2, person_id="w2")], [], now=NOW)
    found = await claim(store)
    assert await store.outdated(found) == {issued(2).key}
    await save(database, ResolveChanges(timers_cancelled=[timer("w1")]))
    assert await store.outdated(found) == {one.key for one in found}


async def test_contacts_are_those_of_the_moment(database: Database) -> None:
    people = [person(one, email=f"{number}@example.com", given_name="Zoë") for number, one in enumerate(TRICKY_IDS)]
    await save(database, ResolveChanges(persons=people))
    found = await SqlNoticeStore(database).contacts([*TRICKY_IDS, "nobody"], now=NOW)
    assert {one: found[one].email for one in found} == {
        one: f"{number}@example.com" for number, one in enumerate(TRICKY_IDS)
    }
    assert {one.name for one in found.values()} == {"Zoë"}
    before = await SqlNoticeStore(database).contacts(["a"], now=NOW - MINUTE)
    assert (before["a"].email, before["a"].name) == (None, "a")


# --- overdue ends -----------------------------------------------------------------------------------------------------


def leaver(person_id: str, app: str = "crm", minutes: int = 10) -> Account:
    return replace(account(person_id, app, "inactive", 2), since=NOW - minutes * MINUTE)


async def progressed(database: Database, person_id: str, status: AccountStatus, applied: int) -> None:
    """The connector got so far with the account in crm."""
    store = SqlConvergeStore(database)
    ((_, known),) = (await store.load("crm", [person_id])).values()
    async with store.transaction() as transaction:
        learned = Progress(version=known.version, applied_revision=applied, status=status, active=False)
        await transaction.save("crm", [ProgressUpdate(person_id, learned, None)], [], now=NOW)


async def count(database: Database, minutes: int = 1) -> dict[str, Overdue]:
    before = NOW - minutes * MINUTE
    return dict(await SqlOverdueStore(database).count(due=before, known=before + 30 * MINUTE))


async def test_ends_that_are_open_are_overdue_by_application_and_age(database: Database) -> None:
    await save_accounts(database, [leaver("w1"), leaver("w2", minutes=20), leaver("w1", "wiki"), account("w3")])
    await save_accounts(database, [leaver("w4", minutes=0)])
    assert await count(database) == {
        "crm": Overdue(2, NOW - 20 * MINUTE),
        "wiki": Overdue(1, NOW - 10 * MINUTE),
    }
    assert [one.person_id for one in await _listed(database)] == ["w2", "w1"]


@pytest.mark.parametrize(
    ("status", "applied", "overdue"),
    [
        (AccountStatus.APPLIED, 2, False),
        (AccountStatus.APPLIED, 1, True),
        (AccountStatus.RETRYING, 1, True),
        (AccountStatus.PARKED, 1, True),
        (AccountStatus.PARKED, 2, True),
        (AccountStatus.PENDING, 0, True),
    ],
)
async def test_an_end_is_overdue_until_it_is_applied_and_seen(
    database: Database, status: AccountStatus, applied: int, overdue: bool
) -> None:
    await save_accounts(database, [leaver("w1")])
    await progressed(database, "w1", status, applied)
    assert bool(await count(database)) is overdue


async def test_an_end_that_hr_stated_late_is_not_overdue_at_once(database: Database) -> None:
    await save_accounts(database, [leaver("w1", minutes=9999)], now=NOW)
    store = SqlOverdueStore(database)
    assert await store.count(due=NOW, known=NOW) == {}
    assert (await store.count(due=NOW, known=NOW + MINUTE))["crm"].ends == 1


async def test_an_overdue_end_is_told_of_once_and_the_next_end_again(database: Database) -> None:
    await save_accounts(database, [leaver("w1"), leaver("w2")])
    assert sorted(await _told(database)) == ["w1", "w2"]
    assert await _told(database) == []
    async with database.write() as connection:  # back in between, and out again
        again = NOW - 5 * MINUTE
        await connection.execute(sa.update(account_table).where(account_table.c.person_id == "w1").values(since=again))
    assert await _told(database) == ["w1"]


async def test_two_sweeps_tell_of_each_end_once(database: Database) -> None:
    await save_accounts(database, [leaver(f"w{number:02}") for number in range(30)])
    here, there = await asyncio.gather(_all_told(database), _all_told(another(database)))
    assert sorted([*here, *there]) == [f"w{number:02}" for number in range(30)]


async def test_a_sweep_that_fails_has_told_nobody(database: Database) -> None:
    await save_accounts(database, [leaver("w1")])
    with pytest.raises(RuntimeError):
        async with SqlOverdueStore(database).transaction() as transaction:
            taken = await transaction.take(due=NOW, known=NOW + MINUTE, limit=9)
            await transaction.told([one for one, _ in taken], [message()], now=NOW)
            raise RuntimeError
    assert await _told(database) == ["w1"]


async def _listed(database: Database) -> list[OverdueEnd]:
    return await SqlOverdueStore(database).listed(due=NOW - MINUTE, known=NOW + MINUTE, app="crm")


async def _told(database: Database, limit: int = 9) -> list[str]:
    async with SqlOverdueStore(database).transaction() as transaction:
        taken = await transaction.take(due=NOW - MINUTE, known=NOW + MINUTE, limit=limit)
        await transaction.told([one for one, _ in taken], [message()], now=NOW)
        return [one.person_id for one, _ in taken]


async def _all_told(database: Database) -> list[str]:
    found: list[str] = []
    while some := await _told(database, limit=4):
        found += some
    return found


# --- what comes -------------------------------------------------------------------------------------------------------


async def test_what_is_due_is_paged_in_order(database: Database) -> None:
    rows = [timer(f"w{number:02}", due=NOW + (number % 3) * MINUTE) for number in range(10)]
    await save(database, ResolveChanges(timers_set=[*rows, timer("w99", due=NOW + timedelta(days=9))]))
    store, last, found = SqlComing(database), None, []
    while some := await store.due(until=NOW + 5 * MINUTE, after=last, limit=3):
        found += some
        last = some[-1]
    assert found == sorted(rows, key=lambda one: (one.due, one.person_id))
