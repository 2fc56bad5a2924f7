"""The contract of `ports.ReconcileStore` on both databases."""

from dataclasses import replace

import pytest

from orchestrator.adapters.sql import reconciling
from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.reconciling import SqlReconcileStore
from orchestrator.adapters.sql.sweeping import SqlAttentionStore
from orchestrator.domain.account import AccountStatus, Progress
from orchestrator.ports import ProgressUpdate
from tests.contract.rows import MINUTE, NOW, TRICKY_IDS, account, message, save_accounts


@pytest.fixture
async def store(database: Database) -> SqlReconcileStore:
    """Accounts in two applications; those of crm are known there as `r-PERSON`, but for one that was never made."""
    await save_accounts(database, [account(person_id, app) for person_id in TRICKY_IDS for app in ("crm", "wiki")])
    await save_accounts(database, [account("never")])
    known = Progress(applied_revision=1, active=True, status=AccountStatus.APPLIED)
    async with SqlConvergeStore(database).transaction() as transaction:
        updates = [ProgressUpdate(one, replace(known, remote_id=f"r-{one}"), None) for one in TRICKY_IDS]
        await transaction.save("crm", updates, [], now=NOW)
    return SqlReconcileStore(database)


async def test_accounts_are_found_by_the_ids_of_their_application(store: SqlReconcileStore) -> None:
    found = await store.by_remote_id("crm", ["r-ß", "r-9", "r-nobody"])
    assert {one: row[0].person_id for one, row in found.items()} == {"r-ß": "ß", "r-9": "9"}
    assert await store.by_remote_id("wiki", ["r-ß"]) == {}
    assert await store.remote_ids("crm", ["ß", "never", "nobody"]) == {"ß": "r-ß"}


async def test_all_linked_accounts_come_once_in_pages(
    store: SqlReconcileStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "PAGE", 3)
    small = SqlReconcileStore(database)
    pages = [[account.person_id for account, _ in page] async for page in small.linked("crm")]
    assert max(map(len, pages)) == 3
    assert [one for page in pages for one in page] == sorted(TRICKY_IDS)
    assert [page async for page in small.linked("wiki")] == []


async def test_a_look_is_saved_with_its_messages_and_seen_by_the_relay(
    store: SqlReconcileStore, database: Database
) -> None:
    async with store.look() as transaction:
        rows = await transaction.lock("crm", ["é", "nobody"])
        [(found, progress)] = rows.values()
        marked = replace(progress, intent="recheck@2026-03-02T08:15:00.000000Z")
        segment = await transaction.save("crm", [ProgressUpdate("é", marked, NOW)], [message()], now=NOW)
    assert (found.person_id, progress.remote_id) == ("é", "r-é")
    assert segment is not None
    leftover = await SqlOutbox(database).leftover(older_than=NOW + MINUTE, limit=10)
    assert [messages for _, messages in leftover] == [[message()]]
    async with SqlAttentionStore(database).transaction() as sweep:
        assert [one.person_id for one in await sweep.take(now=NOW, limit=10)] == ["é"]
    _, after = (await SqlConvergeStore(database).load("crm", ["é"]))["é"]
    assert (after.version, after.intent) == (progress.version + 1, marked.intent)


async def test_a_look_that_fails_leaves_nothing_behind(store: SqlReconcileStore, database: Database) -> None:
    with pytest.raises(RuntimeError, match="no power"):
        async with store.look() as transaction:
            [(_, progress)] = (await transaction.lock("crm", ["é"])).values()
            await transaction.save("crm", [ProgressUpdate("é", replace(progress, intent="x"), NOW)], [], now=NOW)
            raise RuntimeError("no power")
    _, after = (await SqlConvergeStore(database).load("crm", ["é"]))["é"]
    assert after == progress


async def test_entries_are_saved_without_a_change(store: SqlReconcileStore, database: Database) -> None:
    assert await store.record([message("found")], now=NOW) is not None
    assert await store.record([], now=NOW) is None
    leftover = await SqlOutbox(database).leftover(older_than=NOW + MINUTE, limit=10)
    assert [messages for _, messages in leftover] == [[message("found")]]


async def test_a_link_sees_who_has_an_account(store: SqlReconcileStore) -> None:
    async with store.look() as transaction:
        await transaction.lock("crm", ["é"])
        assert await transaction.holders("crm", ["r-ß", "r-nobody"]) == {"r-ß": "ß"}
        assert await transaction.holders("wiki", ["r-ß"]) == {}


async def test_candidates_are_kept_until_they_are_none(store: SqlReconcileStore, database: Database) -> None:
    for candidates in (("a", "é"), ()):
        async with store.look() as transaction:
            [(_, progress)] = (await transaction.lock("crm", ["é"])).values()
            parked = replace(progress, status=AccountStatus.PARKED, candidates=candidates)
            await transaction.save("crm", [ProgressUpdate("é", parked, None)], [], now=NOW)
        assert (await SqlConvergeStore(database).load("crm", ["é"]))["é"][1].candidates == candidates
        assert [one.candidates for one in await SqlOperatorStore(database).parked()] == [candidates]
