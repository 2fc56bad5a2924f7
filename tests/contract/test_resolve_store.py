"""The contract of `ports.ResolveStore`."""

import asyncio
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.resolving import SAFETY_NET, SqlResolveStore
from orchestrator.adapters.sql.sweeping import SqlTimerStore
from orchestrator.adapters.sql.tables import account as account_table
from orchestrator.adapters.sql.tables import inbox
from orchestrator.adapters.sql.tables import person as person_table
from orchestrator.adapters.sql.tables import quarantined as quarantined_table
from orchestrator.domain.account import Account
from orchestrator.domain.person import Person, apply
from orchestrator.errors import JmlError, StoreUnavailable
from orchestrator.ports import InboxRow, Quarantined, ResolveChanges, Timer
from schemas.changes import WorkerMoved
from tests.contract.rows import MINUTE, NOW, TRICKY_IDS, account, another, message, person, save, save_accounts, timer
from tests.unit.domain.strategies import person_ids, persons

on_one_database = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def store(database: Database) -> SqlResolveStore:
    return SqlResolveStore(database)


async def load(
    store: SqlResolveStore, *person_ids: str
) -> tuple[dict[str, Person], dict[str, dict[str, Account]], dict[str, list[Timer]]]:
    async with store.transaction() as transaction:
        return await transaction.load(person_ids)


@on_one_database
@given(known=st.lists(persons, max_size=4, unique_by=lambda one: one.id))
async def test_persons_come_back_as_they_were(database: Database, known: list[Person]) -> None:
    await save(database, ResolveChanges(persons=known))
    found, _, _ = await load(SqlResolveStore(database), *(one.id for one in known))
    assert found == {one.id: one for one in known}


@on_one_database
@given(stated=st.datetimes(timezones=st.integers(-80_000, 80_000).map(lambda odd: timezone(timedelta(seconds=odd)))))
async def test_what_was_stated_in_any_zone_comes_back(database: Database, stated: datetime) -> None:
    """Even with the odd seconds of a zone from before the railways."""
    change = WorkerMoved.model_validate({"worker_id": "w", "effective": stated, "attributes": {"title": "x"}})
    stated_person = apply(Person("w"), change, event_id="hr#1", stated=stated, default_zone="UTC")
    await save(database, ResolveChanges(persons=[stated_person]))
    found, _, _ = await load(SqlResolveStore(database), "w")
    assert found["w"] == stated_person


@on_one_database
@given(
    person_id=person_ids,
    resource=st.dictionaries(st.text(), json_values, max_size=4),
    groups=st.lists(st.text()).map(tuple),
    since=st.datetimes(timezones=st.just(UTC)),
)
async def test_accounts_come_back_as_they_were(
    database: Database, person_id: str, resource: dict[str, object], groups: tuple[str, ...], since: datetime
) -> None:
    saved = replace(account(person_id), resource=resource, groups=groups, since=since)
    await save(database, ResolveChanges(persons=[person(person_id)], accounts=[saved]))
    _, accounts, _ = await load(SqlResolveStore(database), person_id)
    assert accounts == {person_id: {"crm": saved}}


async def test_nothing_is_known_of_a_stranger(store: SqlResolveStore) -> None:
    assert await load(store, "nobody") == ({}, {}, {})
    assert await load(store) == ({}, {}, {})


async def test_an_update_replaces_what_was_known(store: SqlResolveStore, database: Database) -> None:
    first = ResolveChanges(persons=[person("w1", title="a")], accounts=[account("w1"), account("w1", "wiki")])
    await save(database, first)
    second = ResolveChanges(persons=[person("w1", title="b")], accounts=[account("w1", state="inactive", revision=2)])
    await save(database, second)
    persons_found, accounts, _ = await load(store, "w1")
    assert persons_found["w1"].history.at(NOW) == {"title": "b"}
    assert {app: (one.state, one.revision) for app, one in accounts["w1"].items()} == {
        "crm": ("inactive", 2),
        "wiki": ("active", 1),
    }


async def test_a_new_revision_is_looked_after_until_it_is_done(database: Database) -> None:
    await save_accounts(database, [account("w1")])
    async with database.read() as connection:
        assert (await connection.execute(sa.select(account_table.c.attention_at))).scalar_one() == NOW + SAFETY_NET


async def test_two_loads_in_one_transaction_add_up(store: SqlResolveStore, database: Database) -> None:
    """The second is for persons that were found by their e-mail address."""
    await save(database, ResolveChanges(persons=[person("w1"), person("w2")], accounts=[account("w1")]))
    async with store.transaction() as transaction:
        await transaction.load(["w1"])
        await transaction.load(["w2"])
        both = [person("w1", title="a"), person("w2", title="b")]
        await transaction.save(ResolveChanges(persons=both, accounts=[account("w1", revision=2)]), now=NOW)
    found, _, _ = await load(store, "w1", "w2")
    assert found == {one.id: one for one in both}


async def test_a_block_that_raises_writes_nothing(store: SqlResolveStore) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with store.transaction() as transaction:
            await transaction.load(["w1"])
            await transaction.save(ResolveChanges(persons=[person("w1")], inbox=[InboxRow("e", "resolved")]), now=NOW)
            raise RuntimeError("changed my mind")
    assert await load(store, "w1") == ({}, {}, {})


# --- the inbox


async def test_an_event_is_accepted_once(store: SqlResolveStore, database: Database) -> None:
    await save(database, ResolveChanges(inbox=[InboxRow("hr#1", "resolved"), InboxRow("hr#Zoë", "no_change")]))
    async with store.transaction() as transaction:
        assert await transaction.seen(["hr#1", "hr#2", "hr#Zoë", "HR#1"]) == {"hr#1", "hr#Zoë"}
        assert await transaction.seen([]) == set()


async def test_an_id_of_any_length_is_remembered(store: SqlResolveStore, database: Database) -> None:
    """PostgreSQL refuses to index it as it is, and would refuse at every further try."""
    long = ["hr#" + "".join(chr(0x4E00 + (seed * n) % 20_000) for n in range(5000)) for seed in (7919, 104_729)]
    await save(database, ResolveChanges(inbox=[InboxRow(long[0], "resolved")]))
    async with store.transaction() as transaction:
        assert await transaction.seen(long) == {long[0]}


async def test_two_resolvers_accept_one_event_once(database: Database) -> None:
    """After a rebalance two processes may hold the same record."""

    async def accept(store: SqlResolveStore) -> str:
        async with store.transaction() as transaction:
            if await transaction.seen(["hr#1"]):
                return "seen"
            await asyncio.sleep(0.05)
            await transaction.save(ResolveChanges(inbox=[InboxRow("hr#1", "resolved")]), now=NOW)
        return "accepted"

    other = another(database)
    outcomes = await asyncio.gather(
        *(accept(SqlResolveStore(one)) for one in (database, other)), return_exceptions=True
    )
    assert outcomes.count("accepted") == 1
    [loser] = [one for one in outcomes if one != "accepted"]
    assert loser == "seen" if database.is_sqlite else isinstance(loser, StoreUnavailable)
    assert await accept(SqlResolveStore(other)) == "seen"
    async with database.read() as connection:
        assert (await connection.execute(sa.select(sa.func.count()).select_from(inbox))).scalar_one() == 1
    await other.close()


# --- concurrency


async def test_two_resolvers_create_one_person_once(database: Database) -> None:
    async def create(store: SqlResolveStore, title: str) -> str:
        async with store.transaction() as transaction:
            found, accounts, _ = await transaction.load(["w1"])
            if found:
                return f"sees {found['w1'].history.at(NOW)['title']} and {sorted(accounts['w1'])}"
            await asyncio.sleep(0.05)
            rows = ResolveChanges(persons=[person("w1", title=title)], accounts=[account("w1")])
            await transaction.save(rows, now=NOW)
        return "created"

    other = another(database)
    stores = {"a": SqlResolveStore(database), "b": SqlResolveStore(other)}
    outcomes = dict(
        zip(
            stores,
            await asyncio.gather(*(create(s, t) for t, s in stores.items()), return_exceptions=True),
            strict=True,
        )
    )
    winner = next(title for title, outcome in outcomes.items() if outcome == "created")
    loser = "b" if winner == "a" else "a"
    if not database.is_sqlite:
        assert isinstance(outcomes[loser], StoreUnavailable)
    assert await create(stores[loser], loser) == f"sees {winner} and ['crm']"
    await other.close()


async def test_a_person_is_locked_from_load_to_the_end(database: Database) -> None:
    """Two resolvers add to one number; none of the additions is lost."""
    other = another(database)
    await save(database, ResolveChanges(persons=[person("w1", title="0")]))

    async def add(store: SqlResolveStore) -> None:
        async with store.transaction() as transaction:
            found, _, _ = await transaction.load(["w1"])
            title = found["w1"].history.at(NOW)["title"]
            await asyncio.sleep(0.01)
            await transaction.save(ResolveChanges(persons=[person("w1", title=str(int(title) + 1))]), now=NOW)

    await asyncio.gather(*(add(SqlResolveStore(one)) for one in (database, other) for _ in range(5)))
    found, _, _ = await load(SqlResolveStore(other), "w1")
    assert found["w1"].history.at(NOW) == {"title": "10"}
    await other.close()


async def test_persons_are_locked_in_one_order_whatever_the_database_speaks(
    store: SqlResolveStore, database: Database
) -> None:
    await save(database, ResolveChanges(persons=[person(one) for one in TRICKY_IDS]))
    found, _, _ = await load(store, *TRICKY_IDS)
    assert list(found) == sorted(TRICKY_IDS)


# --- correlation


async def test_persons_are_found_by_the_address_they_hold(store: SqlResolveStore, database: Database) -> None:
    people = [
        person("w2", email="Ann@Example.com"),
        person("w1", email="ann@example.com"),
        person("w3", email="BOB@example.com", manager_id="w1"),
        person("w4", email=None),
    ]
    await save(database, ResolveChanges(persons=people))
    async with store.transaction() as transaction:
        found = await transaction.correlate_emails(["ann@example.com", "bob@example.com", "nobody@example.com"])
        assert found == {"ann@example.com": ["w1", "w2"], "bob@example.com": ["w3"]}
        assert await transaction.managers(["w1", "w3", "nobody"]) == {"w1": None, "w3": "w1"}


async def test_an_address_may_be_longer_in_lower_case(store: SqlResolveStore, database: Database) -> None:
    address = "İ" * 400
    await save(database, ResolveChanges(persons=[person("w1", email=address)]))
    async with store.transaction() as transaction:
        assert await transaction.correlate_emails([address.lower()]) == {address.lower(): ["w1"]}


# --- timers


async def test_timers_are_set_cancelled_and_replaced(store: SqlResolveStore, database: Database) -> None:
    later = NOW + 90 * MINUTE
    await save(database, ResolveChanges(persons=[person("w1")], timers_set=[timer("w1"), timer("w1", due=later)]))
    await save(
        database,
        ResolveChanges(timers_set=[timer("w1"), timer("w1", "termination")], timers_cancelled=[timer("w1", due=later)]),
    )
    _, _, timers = await load(store, "w1")
    assert sorted(timers["w1"], key=lambda one: one.kind) == [timer("w1"), timer("w1", "termination")]


async def test_a_timer_that_has_fired_is_neither_open_nor_cancelled(store: SqlResolveStore, database: Database) -> None:
    await save(database, ResolveChanges(persons=[person("w1")], timers_set=[timer("w1")]))
    scheduler = SqlTimerStore(database)
    async with scheduler.transaction() as sweep:
        await sweep.fired(await sweep.take_due(now=NOW, limit=9), [], now=NOW)
    assert (await load(store, "w1"))[2] == {}
    await save(database, ResolveChanges(timers_cancelled=[timer("w1")]))
    assert await scheduler.next_due() is None


async def test_a_timer_that_fired_before_its_time_can_be_set_again(database: Database) -> None:
    """By a scheduler whose clock was far ahead. Else the contract would never end."""
    await save(database, ResolveChanges(persons=[person("w1")], timers_set=[timer("w1")]))
    scheduler = SqlTimerStore(database)
    async with scheduler.transaction() as sweep:
        await sweep.fired(await sweep.take_due(now=NOW, limit=9), [], now=NOW)
    again = Timer("w1", "contract_end", NOW, "hr#2", "again")
    await save(database, ResolveChanges(timers_set=[again]))
    async with scheduler.transaction() as sweep:
        assert await sweep.take_due(now=NOW, limit=9) == [again]


# --- quarantine, and text from outside


@on_one_database
@given(st.none() | st.binary(), st.none() | st.binary(), st.text(), st.none() | st.text())
async def test_quarantined_bytes_survive(
    database: Database, key: bytes | None, value: bytes | None, reason: str, event_id: str | None
) -> None:
    record = Quarantined("hr.events", 0, 1 << 40, "undecodable", reason, key, value, event_id, NOW)
    async with database.write() as connection:
        await connection.execute(sa.delete(quarantined_table))
    await save(database, ResolveChanges(quarantined=[record]))
    await save(database, ResolveChanges(quarantined=[replace(record, reason="seen again")]))
    async with database.read() as connection:
        row = (await connection.execute(sa.select(quarantined_table))).one()
    assert (row.key, row.value, row.offset, row.received_at) == (key, value, 1 << 40, NOW)
    assert (row.reason, row.event_id) == (_shown(reason), _shown(event_id))
    place, other = ("hr.events", 0, 1 << 40), ("hr.events", 1, 1 << 40)
    async with SqlResolveStore(database).transaction() as transaction:
        assert await transaction.quarantined([other, place]) == {place: value}
        assert await transaction.quarantined([other]) == {}


async def test_two_resolvers_quarantine_one_record_once(database: Database) -> None:
    """The new owner of its partition had it while the old one slept between its look and its write: told twice."""
    record = Quarantined("hr.events", 0, 7, "undecodable", "cut off", b"k", b"{", None, NOW)
    place = ("hr.events", 0, 7)

    async def set_aside(store: SqlResolveStore, record: Quarantined) -> str:
        async with store.transaction() as transaction:
            if (await transaction.quarantined([place])).get(place) == record.value:
                return "seen"
            await asyncio.sleep(0.05)
            await transaction.save(ResolveChanges(quarantined=[record]), now=NOW)
        return "told"

    other = another(database)
    stores = [SqlResolveStore(database), SqlResolveStore(other)]
    outcomes = await asyncio.gather(*(set_aside(one, record) for one in stores), return_exceptions=True)
    assert outcomes.count("told") == 1
    [loser] = [one for one in outcomes if one != "told"]
    assert loser == "seen" if database.is_sqlite else isinstance(loser, StoreUnavailable)
    assert await set_aside(stores[0], record) == "seen"
    assert await set_aside(stores[1], replace(record, value=b"[")) == "told", "the topic was made anew"
    await other.close()


def _shown(text: str | None) -> str | None:
    return text and text.replace("\x00", "\ufffd")


async def test_text_that_no_database_takes_does_not_stop_the_batch(store: SqlResolveStore, database: Database) -> None:
    """A correlation id with a NUL is no reason to lose the event, nor to try it for ever."""
    odd = replace(account("w1"), correlation_id="case\x001")
    await save(database, ResolveChanges(persons=[person("w1")], accounts=[odd]))
    _, accounts, _ = await load(store, "w1")
    assert accounts["w1"]["crm"].correlation_id == "case\ufffd1"


# --- the outbox of the transaction


async def test_messages_are_saved_with_the_change(database: Database) -> None:
    assert await save(database, ResolveChanges()) is None
    segment = await save(database, ResolveChanges(outbox=[message()]))
    assert segment is not None
    assert (await save(database, ResolveChanges(outbox=[message()])) or 0) > segment


# --- errors


async def test_a_lost_race_names_no_person(database: Database) -> None:
    rows = ResolveChanges(persons=[person("Zoë-Quince", title="Duchess")])
    await save(database, rows)
    with pytest.raises(StoreUnavailable, match="a concurrent transaction won") as lost:
        async with SqlResolveStore(database).transaction() as transaction:
            await transaction.save(rows, now=NOW)
    _holds_nothing_personal(lost.value)


async def test_a_refused_statement_names_no_person_and_is_not_tried_again(database: Database) -> None:
    row = {"id": "Zoë-Quince", "record": "Duchess", "status": "active", "updated_at": NOW}
    changes: list[dict[str, str | None]] = [{"record": None}]
    if not database.is_sqlite:  # which takes text of any length and kind
        changes += [{"id": "Zoë-Quince" * 99}, {"id": "Zoë-Quince\ud800"}]
    for change in changes:
        with pytest.raises(JmlError, match="refused a statement") as refused:
            async with database.write() as connection:
                await connection.execute(sa.insert(person_table), {**row, **change})
        assert not isinstance(refused.value, StoreUnavailable)
        _holds_nothing_personal(refused.value)


def _holds_nothing_personal(error: BaseException) -> None:
    told = "".join(traceback.format_exception(error))
    told = "\n".join(line for line in told.splitlines() if not line.startswith("    "))  # the source of this very test
    assert "Quince" not in told
    assert "Duchess" not in told
