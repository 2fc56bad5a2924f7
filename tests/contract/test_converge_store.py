"""The contract of `ports.ConvergeStore`."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.resolving import SAFETY_NET, SqlResolveStore
from orchestrator.adapters.sql.sweeping import SqlAttentionStore
from orchestrator.domain.account import AccountStatus, Progress
from orchestrator.ports import ApplicationHealth, ProgressUpdate, ResolveChanges
from tests.contract.rows import MINUTE, NOW, TRICKY_IDS, account, another, message, person, save, save_accounts

texts = st.text(max_size=20)
printable = texts.map(lambda text: text.replace("\x00", ""))
progresses = st.builds(
    Progress,
    version=st.just(0),
    applied_revision=st.integers(0, 2**31 - 1),
    remote_id=st.none() | printable,
    active=st.none() | st.booleans(),
    resource=st.dictionaries(texts, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts | st.lists(texts)),
    groups=st.lists(texts).map(tuple),
    intent=st.none() | printable,
    status=st.sampled_from(AccountStatus),
    attempts=st.integers(0, 1000),
    error_code=st.none() | st.just("rejected"),
    error=st.none() | printable,
    refers_to=st.none() | st.sampled_from(["w1", "w2"]),
    number=st.integers(1, 50),
)


@pytest.fixture
def store(database: Database) -> SqlConvergeStore:
    return SqlConvergeStore(database)


async def converged(
    store: SqlConvergeStore, progress: Progress, attention_at: datetime | None = None, person_id: str = "w1"
) -> int | None:
    async with store.transaction() as transaction:
        await transaction.lock("crm", [person_id])
        update = ProgressUpdate(person_id, progress, attention_at)
        return await transaction.save("crm", [update], [], now=NOW)


async def test_the_number_of_a_name_is_the_connectors_and_the_resolver_reads_it(
    store: SqlConvergeStore, database: Database
) -> None:
    await save_accounts(database, [account("w1")])
    await converged(store, Progress(number=3))
    async with SqlResolveStore(database).transaction() as transaction:
        _, accounts, _ = await transaction.load(["w1"])
        assert accounts["w1"]["crm"].number == 3
        await transaction.save(ResolveChanges(accounts=[replace(account("w1", revision=2), number=1)]), now=NOW)
    found, progress = (await store.load("crm", ["w1"]))["w1"]
    assert (found.revision, found.number, progress.number) == (2, 3, 3)


async def test_who_has_an_account_on_record(store: SqlConvergeStore, database: Database) -> None:
    await save_accounts(database, [account("w1"), account("w2"), account("w1", "wiki")])
    await converged(store, Progress(remote_id="r1"))
    assert await store.holders("crm", ["r1", "r2"]) == {"r1": "w1"}
    assert await store.holders("wiki", ["r1"]) == {}


async def test_from_when_on_a_look_proves_something_is_kept(store: SqlConvergeStore, database: Database) -> None:
    await save_accounts(database, [account("w1"), account("w2")])
    opened = Progress(remote_id="r1", appeared_at=NOW, reopened_at=NOW + MINUTE / 7)
    await converged(store, opened)
    await converged(store, replace(opened, appeared_at=None), person_id="w2")
    found = await store.load("crm", ["w1", "w2"])
    assert found["w1"][1] == replace(opened, version=1)
    assert found["w2"][1] == replace(opened, appeared_at=None, version=1)


async def test_a_person_is_read_with_everything_stated(store: SqlConvergeStore, database: Database) -> None:
    ada = person("w1", email="ada@example.com")
    await save(database, ResolveChanges(persons=[ada]))
    assert await store.person("w1") == ada
    assert await store.person("nobody") is None


async def test_an_account_begins_with_nothing_known(store: SqlConvergeStore, database: Database) -> None:
    await save_accounts(database, [account("w1"), account("w2"), account("w1", "wiki")])
    assert await store.load("crm", ["w1", "nobody"]) == {"w1": (account("w1"), Progress())}
    assert await store.load("wiki", ["w1", "w2"]) == {"w1": (account("w1", "wiki"), Progress())}
    assert await store.load("crm", []) == {}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(progress=progresses)
async def test_progress_comes_back_as_it_was_one_version_on(database: Database, progress: Progress) -> None:
    store = SqlConvergeStore(database)
    await save_accounts(database, [account("w1")])
    _, known = (await store.load("crm", ["w1"]))["w1"]
    await converged(store, replace(progress, version=known.version))
    assert (await store.load("crm", ["w1"]))["w1"] == (account("w1"), replace(progress, version=known.version + 1))


async def test_what_the_application_answers_may_hold_anything(store: SqlConvergeStore, database: Database) -> None:
    await save_accounts(database, [account("w1")])
    await converged(store, Progress(error="bad\x00body", remote_id="\x00", resource={"title": "a\x00b"}))
    _, known = (await store.load("crm", ["w1"]))["w1"]
    assert (known.error, known.remote_id, known.resource) == ("bad\ufffdbody", "\ufffd", {"title": "a\x00b"})


async def test_neither_side_writes_the_others_part(store: SqlConvergeStore, database: Database) -> None:
    await save_accounts(database, [account("w1")])
    done = Progress(applied_revision=1, remote_id="r1", active=True, status=AccountStatus.APPLIED)
    await converged(store, done)
    await save_accounts(database, [account("w1", state="inactive", revision=2)])
    saved, known = (await store.load("crm", ["w1"]))["w1"]
    assert (saved, known) == (account("w1", state="inactive", revision=2), replace(done, version=1))


async def test_the_fence_rises_with_every_save(store: SqlConvergeStore, database: Database) -> None:
    await save_accounts(database, [account("w1", revision=1), account("w2", revision=7)])
    for version in range(3):
        async with store.transaction() as transaction:
            assert await transaction.lock("crm", ["w2", "w1", "nobody"]) == {"w1": (version, 1), "w2": (0, 7)}
            update = ProgressUpdate("w1", Progress(version=version, attempts=version), None)
            await transaction.save("crm", [update], [], now=NOW)
    _, known = (await store.load("crm", ["w1"]))["w1"]
    assert (known.version, known.attempts) == (3, 2)


async def test_whoever_comes_with_an_old_version_changes_nothing(store: SqlConvergeStore, database: Database) -> None:
    """A worker that was paused and woke up, even one that forgot to look."""
    await save_accounts(database, [account("w1"), account("w2")])
    await converged(store, Progress(applied_revision=1, remote_id="r1"))
    async with store.transaction() as transaction:
        late = [ProgressUpdate(one, Progress(remote_id="late"), NOW) for one in ("w2", "w1")]
        await transaction.save("crm", late, [], now=NOW)
    found = await store.load("crm", ["w1", "w2"])
    assert {one: known.remote_id for one, (_, known) in found.items()} == {"w1": "r1", "w2": "late"}


async def test_two_connectors_take_turns_at_one_account(database: Database) -> None:
    """Each decides by the version that it finds under the lock: exactly one of them wins every round."""
    other = another(database)
    await save_accounts(database, [account("w1")])

    async def write(store: SqlConvergeStore, version: int) -> bool:
        async with store.transaction() as transaction:
            found = await transaction.lock("crm", ["w1"])
            if found["w1"][0] != version:
                return False
            await asyncio.sleep(0.01)
            update = ProgressUpdate("w1", Progress(version=version, attempts=version + 1), None)
            await transaction.save("crm", [update], [], now=NOW)
            return True

    for version in range(5):
        won = await asyncio.gather(*(write(SqlConvergeStore(one), version) for one in (database, other)))
        assert sorted(won) == [False, True]
    _, known = (await SqlConvergeStore(other).load("crm", ["w1"]))["w1"]
    assert known.attempts == 5
    await other.close()


async def test_a_lock_shows_the_revision_that_a_resolver_is_about_to_commit(database: Database) -> None:
    """Else a connector would call an account done whose leaver has just been decided."""
    other = another(database)
    await save_accounts(database, [account("w1")])
    decided, may_commit = asyncio.Event(), asyncio.Event()

    async def resolve() -> None:
        async with SqlResolveStore(other).transaction() as transaction:
            await transaction.load(["w1"])
            rows = ResolveChanges(persons=[person("w1")], accounts=[account("w1", state="inactive", revision=2)])
            await transaction.save(rows, now=NOW)
            decided.set()
            await may_commit.wait()

    async def converge() -> dict[str, tuple[int, int]]:
        async with SqlConvergeStore(database).transaction() as transaction:
            return await transaction.lock("crm", ["w1"])

    resolving = asyncio.create_task(resolve())
    await decided.wait()
    converging = asyncio.create_task(converge())
    await asyncio.sleep(0.1)
    assert not converging.done()
    may_commit.set()
    await resolving
    assert await converging == {"w1": (0, 2)}
    await other.close()


async def test_accounts_are_locked_in_one_order_whatever_the_database_speaks(
    store: SqlConvergeStore, database: Database
) -> None:
    await save_accounts(database, [account(one) for one in TRICKY_IDS])
    async with store.transaction() as transaction:
        assert list(await transaction.lock("crm", TRICKY_IDS)) == sorted(TRICKY_IDS)


async def test_resolvers_and_connectors_at_the_same_accounts_do_not_deadlock(database: Database) -> None:
    databases = [database, *(another(database) for _ in range(3))]
    await save_accounts(database, [account(one) for one in TRICKY_IDS])

    async def resolve(one: Database, ids: Sequence[str]) -> None:
        for revision in range(2, 12):
            await save_accounts(one, [account(person_id, revision=revision) for person_id in ids])

    async def converge(one: Database, ids: Sequence[str]) -> None:
        for _ in range(10):
            async with SqlConvergeStore(one).transaction() as transaction:
                found = await transaction.lock("crm", ids)
                updates = [ProgressUpdate(p, Progress(version=v), None) for p, (v, _) in found.items()]
                await transaction.save("crm", updates, [], now=NOW)

    await asyncio.gather(
        resolve(databases[0], TRICKY_IDS),
        resolve(databases[1], TRICKY_IDS[::-1]),
        converge(databases[2], TRICKY_IDS),
        converge(databases[3], TRICKY_IDS[::-1]),
    )
    for one in databases[1:]:
        await one.close()


async def test_attention_ends_with_the_work_and_begins_with_the_next_revision(
    store: SqlConvergeStore, database: Database
) -> None:
    relay = SqlAttentionStore(database)

    async def due(now: datetime) -> list[str]:
        async with relay.transaction() as sweep:
            return [one.person_id for one in await sweep.take(now=now, limit=9)]

    await save_accounts(database, [account("w1")])
    await converged(store, Progress(), NOW + 30 * MINUTE)
    assert await due(NOW + 29 * MINUTE) == []
    assert await due(NOW + 30 * MINUTE) == ["w1"]
    await converged(store, Progress(version=1), None)
    assert await due(NOW + 999 * MINUTE) == []
    await save_accounts(database, [account("w1", revision=2)])
    assert await due(NOW + SAFETY_NET) == ["w1"]


async def test_a_group_commit_carries_its_messages(store: SqlConvergeStore, database: Database) -> None:
    async with store.transaction() as transaction:
        assert await transaction.save("crm", [], [], now=NOW) is None
        segment = await transaction.save("crm", [], [message("a"), message("b")], now=NOW)
    assert await SqlOutbox(database).leftover(older_than=NOW + MINUTE, limit=9) == [
        (segment, [message("a"), message("b")])
    ]


# --- groups


async def test_a_group_is_created_by_one_process(store: SqlConvergeStore, database: Database) -> None:
    other = another(database)
    stores = [store, SqlConvergeStore(other)] * 4
    claims = await asyncio.gather(*(one.claim_group("crm", "R&D", now=NOW, until=NOW + MINUTE) for one in stores))
    assert sorted(claims) == [False] * 7 + [True]
    await other.close()


async def test_a_claim_holds_until_it_runs_out(store: SqlConvergeStore) -> None:
    assert await store.claim_group("crm", "R&D", now=NOW, until=NOW + MINUTE)
    assert not await store.claim_group("crm", "R&D", now=NOW + MINUTE, until=NOW + 9 * MINUTE)
    assert await store.claim_group("wiki", "R&D", now=NOW, until=NOW + MINUTE)
    assert await store.claim_group("crm", "R&D", now=NOW + 2 * MINUTE, until=NOW + 9 * MINUTE)
    assert not await store.claim_group("crm", "R&D", now=NOW + 3 * MINUTE, until=NOW + 9 * MINUTE)
    assert await store.group_ids("crm", ["R&D"]) == {}


async def test_a_known_group_is_claimed_by_nobody_until_it_is_forgotten(store: SqlConvergeStore) -> None:
    await store.save_group_id("crm", "R&D", "g1")
    await store.save_group_id("crm", "Zoë's", "g2")
    await store.save_group_id("wiki", "R&D", "g3")
    assert await store.group_ids("crm", ["R&D", "Zoë's", "nonesuch"]) == {"R&D": "g1", "Zoë's": "g2"}
    assert await store.group_ids("crm", []) == {}
    assert not await store.claim_group("crm", "R&D", now=NOW, until=NOW + MINUTE)
    await store.save_group_id("crm", "R&D", None)
    assert await store.group_ids("crm", ["R&D"]) == {}
    assert await store.claim_group("crm", "R&D", now=NOW, until=NOW + MINUTE)


# --- health


async def test_how_an_application_is_doing_is_remembered(store: SqlConvergeStore) -> None:
    assert await store.load_health(["crm"]) == {}
    paused = ApplicationHealth("paused", "401", since=NOW, not_before=NOW + MINUTE)
    for health in (ApplicationHealth("open"), paused, ApplicationHealth("open", since=NOW)):
        await store.save_health("crm", health)
        assert await store.load_health(["crm"]) == {"crm": health}
    await store.save_health("code", paused)
    known = {"crm": health, "code": paused}
    assert await store.load_health(["code", "wiki", "crm"]) == known
    assert await store.load_health([]) == {}


async def test_a_wait_that_one_process_was_asked_for_is_not_ended_by_another(store: SqlConvergeStore) -> None:
    throttled = ApplicationHealth("throttled", "429", NOW, NOW + MINUTE)
    await store.save_health("crm", throttled)
    await store.save_health("crm", ApplicationHealth("open", since=NOW + MINUTE / 2))
    assert await store.load_health(["crm"]) == {"crm": throttled}
    await store.save_health("crm", ApplicationHealth("open", since=NOW + MINUTE))
    assert await store.load_health(["crm"]) == {"crm": ApplicationHealth("open", since=NOW + MINUTE)}


async def refer(store: SqlConvergeStore, person_id: str, referred: str, **known: object) -> None:
    progress = Progress(applied_revision=1, status=AccountStatus.APPLIED, refers_to=referred)
    await converged(store, replace(progress, **known), person_id=person_id)  # type: ignore[arg-type]


async def due(database: Database) -> set[str]:
    async with SqlAttentionStore(database).transaction() as transaction:
        taken = await transaction.take(now=NOW, limit=100)
        return {one.person_id for one in taken}


async def test_accounts_that_refer_to_one_with_a_new_id_are_looked_at_again(
    store: SqlConvergeStore, database: Database
) -> None:
    await save_accounts(database, [account(one) for one in ("w1", "w2", "w3", "w4")])
    await save_accounts(database, [account("w2", "wiki")])
    await refer(store, "w2", "w1")
    await refer(store, "w3", "w4")
    await refer(store, "w4", "w1", status=AccountStatus.PARKED)
    assert await due(database) == set()
    async with store.transaction() as transaction:
        await transaction.lock("crm", ["w1"])
        assert await transaction.remote_ids("crm", ["w1", "nobody"]) == {"w1": None}
        await transaction.save("crm", [ProgressUpdate("w1", Progress(remote_id="r1"), None)], [], now=NOW)
        assert await transaction.remote_ids("crm", ["w1"]) == {"w1": "r1"}
        await transaction.look_again("crm", ["w1"], now=NOW)
    assert await due(database) == {"w2"}


async def test_whoever_holds_a_referring_account_looks_itself(store: SqlConvergeStore, database: Database) -> None:
    """Two transactions that hold what the other wants must not wait for each other."""
    await save_accounts(database, [account("w1"), account("w2")])
    await refer(store, "w1", "w2")
    if database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    async with store.transaction() as first:
        await first.lock("crm", ["w1"])
        async with asyncio.timeout(5), store.transaction() as second:
            await second.lock("crm", ["w2"])
            await second.look_again("crm", ["w2"], now=NOW)
