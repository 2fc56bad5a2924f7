"""The contracts of `ports.TimerStore` and `ports.AttentionStore`: what is due is taken once, in order."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.sweeping import _OPEN, _TAKE_TIMERS, SqlAttentionStore, SqlTimerStore
from orchestrator.adapters.sql.tables import account as account_table
from orchestrator.adapters.sql.tables import timer as timer_table
from orchestrator.ports import ResolveChanges, Timer
from tests.contract.rows import MINUTE, NOW, account, another, message, save, save_accounts, timer

MANY = 400


@pytest.fixture
def timers(database: Database) -> SqlTimerStore:
    return SqlTimerStore(database)


@pytest.fixture
def attention(database: Database) -> SqlAttentionStore:
    return SqlAttentionStore(database)


async def sweep(store: SqlTimerStore, now: datetime = NOW, limit: int = 100) -> list[Timer]:
    """One sweep of a scheduler."""
    async with store.transaction() as transaction:
        due = await transaction.take_due(now=now, limit=limit)
        await transaction.fired(due, [message(one.person_id) for one in due], now=now)
        return due


async def test_nothing_is_due(timers: SqlTimerStore) -> None:
    assert await timers.next_due() is None
    assert await sweep(timers) == []


async def test_a_timer_fires_at_its_instant_and_once(timers: SqlTimerStore, database: Database) -> None:
    second = timedelta(microseconds=1)
    await save(database, ResolveChanges(timers_set=[timer("w1"), timer("w2", due=NOW + MINUTE)]))
    assert await timers.next_due() == NOW
    assert await sweep(timers, NOW - second) == []
    assert await sweep(timers, NOW) == [timer("w1")]
    assert await timers.next_due() == NOW + MINUTE
    assert await sweep(timers, NOW + MINUTE) == [timer("w2", due=NOW + MINUTE)]
    assert await timers.next_due() is None
    assert await sweep(timers, NOW + 99 * MINUTE) == []


async def test_ends_come_before_starts_and_earlier_before_later(timers: SqlTimerStore, database: Database) -> None:
    """Who moves from one contract to the next at midnight leaves before joining."""
    kinds = ["contract_end", "entitlement_end", "leave_of_absence_start", "termination"]
    ends = [timer("w2", kind) for kind in kinds]
    starts = ("engagement_start", "entitlement_start", "leave_of_absence_end", "pre_start", "scheduled_change")
    mail = [timer("w0", kind) for kind in ("contract_ends_notice", "entitlement_ends_notice")]
    rest = [*(timer("w1", kind) for kind in starts), *mail]
    early, late = timer("w3", "scheduled_change", NOW - MINUTE), timer("w0", "termination", NOW + MINUTE)
    await save(database, ResolveChanges(timers_set=[*rest, late, *ends, early]))
    due = await sweep(timers, NOW + MINUTE)
    assert (due[0], due[-1]) == (early, late)
    assert {one.kind for one in due[1:5]} == set(kinds)
    assert {one.kind for one in due[5:-3]} == set(starts)
    assert due[-3:-1] == mail


async def test_a_sweep_takes_no_more_than_it_can_chew(timers: SqlTimerStore, database: Database) -> None:
    rows = [timer(f"w{number:02}", due=NOW - number * MINUTE) for number in range(10)]
    await save(database, ResolveChanges(timers_set=rows))
    taken = [await sweep(timers, limit=4) for _ in range(4)]
    assert [len(one) for one in taken] == [4, 4, 2, 0]
    assert [one for some in taken for one in some] == rows[::-1]


async def test_a_sweep_that_fails_has_taken_nothing(timers: SqlTimerStore, database: Database) -> None:
    await save(database, ResolveChanges(timers_set=[timer("w1")]))
    with pytest.raises(RuntimeError):
        async with timers.transaction() as transaction:
            await transaction.fired(await transaction.take_due(now=NOW, limit=9), [message()], now=NOW)
            raise RuntimeError
    assert await SqlOutbox(database).leftover(older_than=NOW + MINUTE, limit=9) == []
    assert await sweep(timers) == [timer("w1")]


async def test_two_schedulers_fire_every_timer_once(database: Database) -> None:
    rows = [timer(f"w{number:04}", due=NOW - timedelta(seconds=number % 7)) for number in range(MANY)]
    await save(database, ResolveChanges(timers_set=rows))
    other = another(database)
    fired: list[Timer] = []

    async def run(store: SqlTimerStore) -> int:
        rounds = 0
        while due := await sweep(store, limit=25):
            fired.extend(due)
            rounds += 1
        return rounds

    rounds = await asyncio.gather(*(run(SqlTimerStore(one)) for one in (database, other)))
    assert sorted(one.person_id for one in fired) == [one.person_id for one in rows]
    assert sum(rounds) == MANY / 25
    segments = await SqlOutbox(database).leftover(older_than=NOW + MINUTE, limit=MANY)
    assert sorted(one.key.decode() for _, messages in segments for one in messages) == [one.person_id for one in rows]
    await other.close()


async def test_what_another_scheduler_has_taken_is_skipped(timers: SqlTimerStore, database: Database) -> None:
    """On SQLite, which has one writer, the second waits instead and finds nothing left."""
    if database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    await save(database, ResolveChanges(timers_set=[timer("w1"), timer("w2", due=NOW - MINUTE)]))
    other = another(database)
    async with timers.transaction() as first, SqlTimerStore(other).transaction() as second:
        taken = await first.take_due(now=NOW, limit=1)
        assert [one.person_id for one in taken] == ["w2"]
        assert [one.person_id for one in await second.take_due(now=NOW, limit=9)] == ["w1"]
    assert len(await sweep(timers)) == 2, "neither of them said that it had fired"
    await other.close()


# --- attention


async def test_accounts_that_wait_longest_come_first(attention: SqlAttentionStore, database: Database) -> None:
    for minutes, person_id in enumerate(["w3", "w1", "w2"]):
        await save_accounts(database, [account(person_id)], NOW + minutes * MINUTE)
    await save_accounts(database, [account("w0")], NOW + timedelta(days=1))
    async with attention.transaction() as transaction:
        due = await transaction.take(now=NOW + 60 * MINUTE, limit=9)
        assert [one.person_id for one in due] == ["w3", "w1", "w2"]
        assert due[0] == account("w3")
        assert [one.person_id for one in await transaction.take(now=NOW + 60 * MINUTE, limit=1)] == ["w3"]


async def test_an_account_is_reissued_once_and_again_later(attention: SqlAttentionStore, database: Database) -> None:
    await save_accounts(database, [account("w1"), account("w1", "wiki")])
    now, later = NOW + 20 * MINUTE, NOW + 40 * MINUTE
    async with attention.transaction() as transaction:
        due = await transaction.take(now=now, limit=1)
        assert await transaction.reissued(due, [message()], next_attention=later, now=now) is not None
    async with attention.transaction() as transaction:
        rest = await transaction.take(now=now, limit=9)
        assert [one.app for one in (*due, *rest)] in (["crm", "wiki"], ["wiki", "crm"])
        assert await transaction.reissued([], [], next_attention=later, now=now) is None
    async with attention.transaction() as transaction:
        assert len(await transaction.take(now=later, limit=9)) == 2


async def test_two_relays_reissue_every_account_once(database: Database) -> None:
    await save_accounts(database, [account(f"w{number:04}") for number in range(MANY)])
    other = another(database)
    now, later = NOW + 20 * MINUTE, NOW + 40 * MINUTE
    reissued: list[str] = []

    async def run(store: SqlAttentionStore) -> None:
        while True:
            async with store.transaction() as transaction:
                due = await transaction.take(now=now, limit=25)
                await transaction.reissued(due, [], next_attention=later, now=now)
            if not due:
                return
            reissued.extend(one.person_id for one in due)

    await asyncio.gather(*(run(SqlAttentionStore(one)) for one in (database, other)))
    assert sorted(reissued) == [f"w{number:04}" for number in range(MANY)]
    await other.close()


async def test_an_account_without_attention_is_left_alone(attention: SqlAttentionStore, database: Database) -> None:
    await save_accounts(database, [account("w1")])
    async with database.write() as connection:
        await connection.execute(sa.update(account_table).values(attention_at=None))
    async with attention.transaction() as transaction:
        assert await transaction.take(now=NOW + timedelta(days=9999), limit=9) == []


# --- what it costs


async def test_a_sweep_reads_what_is_due_and_nothing_else(timers: SqlTimerStore, database: Database) -> None:
    """The cost of a sweep must not follow the number of timers: both statements walk the index of open timers."""
    far = [timer(f"w{number:05}", due=NOW + timedelta(days=1, seconds=number)) for number in range(2000)]
    await save(database, ResolveChanges(timers_set=far))
    due = _TAKE_TIMERS.params(b_now=NOW, most=500)
    for statement in (due, sa.select(timer_table.c.due).where(_OPEN).order_by(timer_table.c.due).limit(1)):
        plan = await explain(database, statement)
        assert "ix_timer_open" in plan, plan
        assert "SCAN timer\n" not in plan, plan
        assert "Seq Scan" not in plan, plan
    assert await sweep(timers) == []


async def explain(database: Database, statement: sa.Select[Any]) -> str:
    """How the database would carry a statement out, once it knows the table."""
    async with database.write() as connection:
        await connection.execute(sa.text("analyze timer"))
        compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        prefix = "explain query plan " if database.is_sqlite else "explain "
        rows = await connection.exec_driver_sql(prefix + str(compiled))
        return "\n".join(str(row[-1]) for row in rows) + "\n"
