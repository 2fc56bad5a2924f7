"""The contract of `ports.PolicyStore` on both databases: everybody gets one timer, whatever is interrupted."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.policy import SqlPolicyStore
from orchestrator.adapters.sql.sweeping import SqlTimerStore
from orchestrator.adapters.sql.tables import timer as timer_table
from orchestrator.domain.timers import POLICY_CHANGED
from orchestrator.flows import policy_change
from orchestrator.flows.policy_change import schedule
from orchestrator.ports import ResolveChanges
from tests.contract.rows import NOW, TRICKY_IDS, account, person, save, save_accounts, timer

HOUR = timedelta(hours=1)


@pytest.fixture
async def store(database: Database, monkeypatch: pytest.MonkeyPatch) -> SqlPolicyStore:
    """People whom the policy p1 decided."""
    monkeypatch.setattr(policy_change, "PAGE", 4)
    await save(database, ResolveChanges(persons=[person(one) for one in TRICKY_IDS]))
    return SqlPolicyStore(database)


async def timers(database: Database) -> dict[str, datetime]:
    """Who waits, and for which instant."""
    async with database.read() as connection:
        rows = (await connection.execute(sa.select(timer_table).where(timer_table.c.kind == POLICY_CHANGED))).all()
    found = {row.person_id: row.due for row in rows}
    assert len(found) == len(rows), "one timer a person"
    assert {row.event_id for row in rows} <= {"jml/policy#p2"}
    return found


async def apply(store: SqlPolicyStore, version: str, begin: datetime = NOW) -> list[int]:
    return [number async for number in schedule(store, version, begin=begin, over=HOUR)]


async def test_everybody_is_scheduled_in_pages_and_spread(store: SqlPolicyStore, database: Database) -> None:
    assert await store.versions() == {"p1": len(TRICKY_IDS)}
    assert await apply(store, "p2") == [4, 8, 12, 13]
    found = await timers(database)
    assert set(found) == set(TRICKY_IDS)
    assert all(NOW <= due < NOW + HOUR for due in found.values())
    assert max(found.values()) - min(found.values()) > HOUR / 2
    assert await store.waiting() == len(TRICKY_IDS)


async def test_it_goes_on_where_it_stopped(store: SqlPolicyStore, database: Database) -> None:
    async for _ in schedule(store, "p2", begin=NOW, over=HOUR):
        break
    begun = await timers(database)
    assert len(begun) == 4
    assert await apply(store, "p2", NOW + HOUR) == [4, 8, 9]
    found = await timers(database)
    assert set(found) == set(TRICKY_IDS)
    assert {one: found[one] for one in begun} == begun, "whoever waits keeps the timer"
    assert await apply(store, "p2", NOW + 2 * HOUR) == []


async def test_who_was_decided_by_it_is_left_out(store: SqlPolicyStore, database: Database) -> None:
    decided = person("B")
    assert decided.decision is not None
    await save(database, ResolveChanges(persons=[decided._replace(decision=decided.decision._replace(policy="p2"))]))
    assert await store.versions() == {"p1": len(TRICKY_IDS) - 1, "p2": 1}
    await apply(store, "p2")
    assert set(await timers(database)) == set(TRICKY_IDS) - {"B"}


async def test_people_from_before_the_version_was_kept_are_scheduled(store: SqlPolicyStore, database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text("UPDATE person SET policy = NULL"))
    assert await store.versions() == {None: len(TRICKY_IDS)}
    await apply(store, "p2")
    assert len(await timers(database)) == len(TRICKY_IDS)


async def test_a_timer_that_fired_in_vain_is_set_again(store: SqlPolicyStore, database: Database) -> None:
    """Its event was decided by a resolver that had the old policy still."""
    await apply(store, "p2")
    async with SqlTimerStore(database).transaction() as transaction:
        due = await transaction.take_due(now=NOW + HOUR, limit=100)
        await transaction.fired(due, [], now=NOW + HOUR)
    assert await store.waiting() == 0
    assert sum(1 for _ in await apply(store, "p2", NOW + HOUR)) == 4
    assert await store.waiting() == len(TRICKY_IDS)


async def test_other_timers_keep_nobody_from_being_scheduled(store: SqlPolicyStore, database: Database) -> None:
    await save(database, ResolveChanges(timers_set=[timer("a"), timer("B", "pre_start")]))
    await apply(store, "p2")
    assert set(await timers(database)) == set(TRICKY_IDS)


async def test_the_population_is_what_should_be_active(database: Database) -> None:
    await save_accounts(database, [account("a"), account("B"), account("a", "wiki"), account("z9", state="inactive")])
    assert await SqlPolicyStore(database).population() == {"crm": 2, "wiki": 1}
