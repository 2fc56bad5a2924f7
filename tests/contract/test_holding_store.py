"""The breaker's part of the contracts of the resolver's, the relay's and the operators' stores."""

import asyncio
from datetime import timedelta

import pytest

from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.adapters.sql.sweeping import SqlAttentionStore, SqlTimerStore
from orchestrator.domain.breaker import Held, Window
from orchestrator.ports import Passed, ResolveChanges
from tests.contract.rows import MINUTE, NOW, account, another, message, person, save, save_accounts, timer

HOUR = timedelta(hours=1)


def held(person_id: str, app: str = "crm", *, source: str = "hr/a", held_at: int = 0) -> Held:
    decided = account(person_id, app, "inactive", revision=2)
    return Held(decided, "deactivate", "deactivate", source, NOW, NOW + held_at * MINUTE)


async def hold(database: Database, *those: Held) -> None:
    """The accounts as they were issued, and what is held of them."""
    await save_accounts(database, [account(one.account.person_id, one.account.app) for one in those])
    people = [person(who) for who in sorted({one.account.person_id for one in those})]
    await save(database, ResolveChanges(persons=people, held=list(those)))


async def held_of(database: Database, *person_ids: str) -> dict[tuple[str, str], Held]:
    async with SqlResolveStore(database).transaction() as transaction:
        await transaction.load(person_ids)
        return await transaction.held(person_ids)


async def windows(database: Database, *apps: str, since: int = -60, now: int = 0) -> dict[str, Window]:
    async with SqlResolveStore(database).transaction() as transaction:
        return await transaction.windows(apps, since=NOW + since * MINUTE, now=NOW + now * MINUTE)


async def test_what_is_held_comes_back_as_it_was_and_leaves_the_account_alone(database: Database) -> None:
    await hold(database, held("ada"), held("bob", "wiki"))
    assert await held_of(database, "ada", "bob") == {("ada", "crm"): held("ada"), ("bob", "wiki"): held("bob", "wiki")}
    assert await held_of(database, "ada") == {("ada", "crm"): held("ada")}
    row, _ = (await SqlConvergeStore(database).load("crm", ["ada"]))["ada"]
    assert row == account("ada")


async def test_the_relay_finds_nothing_to_issue_of_what_is_held(database: Database) -> None:
    await hold(database, held("ada"))
    async with SqlAttentionStore(database).transaction() as transaction:
        due = await transaction.take(now=NOW + HOUR, limit=10)
    assert [one.revision for one in due] == [1], "the account as it was issued, for the safety net"


async def test_a_newer_decision_takes_the_place_of_the_held_one_or_ends_it(database: Database) -> None:
    await hold(database, held("ada"), held("bob"))
    newer = held("ada", source="idp/b", held_at=3)
    await save(database, ResolveChanges(persons=[person("ada")], held=[newer], unheld=[("bob", "crm")]))
    assert await held_of(database, "ada", "bob") == {("ada", "crm"): newer}


async def test_what_passed_counts_by_application_and_source_within_the_window(database: Database) -> None:
    old, new = NOW - HOUR - MINUTE, NOW - 5 * MINUTE
    await windows(database, "crm", "wiki")
    for number in (3, 4):
        passed = [Passed("crm", "hr/a", new, number), Passed("crm", "hr/b", new, 1), Passed("wiki", "hr/a", old, 9)]
        await save(database, ResolveChanges(passed=passed))
    found = await windows(database, "crm", "wiki")
    assert found["crm"].passed == {"hr/a": 7, "hr/b": 2}
    assert found["wiki"].passed == {}
    assert (await windows(database, "crm", since=-4))["crm"].passed == {}


async def test_the_population_is_counted_now_and_then(database: Database) -> None:
    await save_accounts(database, [account("ada"), account("bob"), account("eve", state="inactive")])
    assert (await windows(database, "crm"))["crm"].population == 2
    await save_accounts(database, [account("joe")])
    assert (await windows(database, "crm"))["crm"].population == 2
    assert (await windows(database, "crm", now=2))["crm"].population == 3
    assert (await windows(database, "none"))["none"].population == 0


async def test_a_trip_is_remembered(database: Database) -> None:
    assert (await windows(database, "crm"))["crm"].tripped_at is None
    await save(database, ResolveChanges(tripped={"crm": NOW}))
    assert (await windows(database, "crm"))["crm"].tripped_at == NOW


async def test_two_resolvers_let_no_more_pass_than_one(database: Database) -> None:
    """Each looks, thinks, and writes; the other one waits for it."""
    await windows(database, "crm", "wiki")
    seen: list[int] = []

    async def resolver(number: int) -> None:
        mine = another(database)
        store = SqlResolveStore(mine)
        async with store.transaction() as transaction:
            # In whatever order they are named: two who lock them in different orders would wait for each other.
            apps = ["crm", "wiki"] if number % 2 else ["wiki", "crm"]
            found = await transaction.windows(apps, since=NOW - HOUR, now=NOW)
            seen.append(sum(found["crm"].passed.values()))
            await asyncio.sleep(0.01)
            await transaction.save(ResolveChanges(passed=[Passed("crm", "hr/a", NOW, 1)]), now=NOW)
        await mine.close()

    await asyncio.gather(*(resolver(number) for number in range(5)))
    assert sorted(seen) == [0, 1, 2, 3, 4]


# --- operators -------------------------------------------------------------------------------------------------------


async def test_held_commands_are_listed_by_what_they_have_in_common(database: Database) -> None:
    await hold(database, held("ada", held_at=2), held("bob", "wiki", held_at=1), held("eve", source="idp/b"))
    store = SqlOperatorStore(database)

    async def listed(**by: str) -> list[str]:
        return [one.account.person_id for one in await store.held(**by)]  # type: ignore[arg-type]  # names of options

    assert await listed() == ["eve", "bob", "ada"], "what waits longest comes first"
    assert await listed(app="crm") == ["eve", "ada"]
    assert await listed(source="hr/a") == ["bob", "ada"]
    assert await listed(person_id="ada") == ["ada"]
    assert await SqlAttentionStore(database).held() == {"crm": 2, "wiki": 1}


async def test_a_released_command_becomes_the_accounts_and_is_due_for_the_relay(database: Database) -> None:
    await hold(database, held("ada"), held("bob"))
    end = timer("ada", "retention_end", NOW + HOUR)
    async with SqlOperatorStore(database).holds() as transaction:
        taken = await transaction.take("crm", ["ada", "nobody"])
        assert taken == [held("ada")]
        segment = await transaction.released(taken, [end], [message()], now=NOW + MINUTE)
    assert segment is not None
    row, _ = (await SqlConvergeStore(database).load("crm", ["ada"]))["ada"]
    assert row == held("ada").account
    assert row.issued_at == NOW + MINUTE, "an end that was held is not overdue since the day it was decided"
    async with SqlAttentionStore(database).transaction() as relay:
        assert [one.person_id for one in await relay.take(now=NOW + MINUTE, limit=10)] == ["ada"]
    assert await SqlTimerStore(database).next_due() == end.due
    assert await held_of(database, "ada", "bob") == {("bob", "crm"): held("bob")}


async def test_a_rejected_command_stays_on_record_and_is_no_alarm_any_more(database: Database) -> None:
    await hold(database, held("ada"))
    store = SqlOperatorStore(database)
    async with store.holds() as transaction:
        await transaction.rejected(await transaction.take("crm", ["ada"]), [], now=NOW + MINUTE)
    assert await store.held() == []
    (found,) = await store.held(rejected=True)
    assert found.rejected_at == NOW + MINUTE
    assert await SqlAttentionStore(database).held() == {}
    row, _ = (await SqlConvergeStore(database).load("crm", ["ada"]))["ada"]
    assert row == account("ada")


@pytest.mark.parametrize("decision", ["released", "rejected"])
async def test_a_decision_that_fails_changes_nothing(database: Database, decision: str) -> None:
    await hold(database, held("ada"))
    store = SqlOperatorStore(database)
    with pytest.raises(KeyError):
        async with store.holds() as transaction:
            taken = await transaction.take("crm", ["ada"])
            if decision == "released":
                await transaction.released(taken, [], [message()], now=NOW)
            else:
                await transaction.rejected(taken, [message()], now=NOW)
            raise KeyError("no power")
    assert await store.held() == [held("ada")]
