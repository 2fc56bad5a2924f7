"""The contract of `ports.ReconcileRuns` on both databases."""

import asyncio

import pytest

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.reconcile_runs import SqlReconcileRuns
from tests.contract.rows import MINUTE, NOW


@pytest.fixture
def runs(database: Database) -> SqlReconcileRuns:
    return SqlReconcileRuns(database)


async def test_one_process_begins_a_run(runs: SqlReconcileRuns, database: Database) -> None:
    others = [SqlReconcileRuns(database) for _ in range(4)]
    for run in (1, 2):
        claims = [one.claim("crm", run, now=NOW, until=NOW + MINUTE) for one in others]
        assert sorted(await asyncio.gather(*claims)) == [False, False, False, True]
        assert await runs.end("crm", run, "complete", {"linked": run}, now=NOW + MINUTE)
    assert not await runs.claim("crm", 2, now=NOW, until=NOW + MINUTE), "who was slow does not repeat it"
    last = (await runs.last())["crm"]
    assert (last.run, last.began_at, last.ended_at, last.outcome) == (2, NOW, NOW + MINUTE, "complete")
    assert (last.lease_until, last.counts) == (None, {"linked": 2})


async def test_a_lease_that_is_over_is_taken_over_and_its_holder_is_told(runs: SqlReconcileRuns) -> None:
    assert await runs.claim("crm", 1, now=NOW, until=NOW + MINUTE)
    assert await runs.renew("crm", 1, until=NOW + 2 * MINUTE)
    assert not await runs.claim("crm", 2, now=NOW + MINUTE, until=NOW + 3 * MINUTE), "it was renewed"
    assert await runs.claim("crm", 2, now=NOW + 2 * MINUTE, until=NOW + 3 * MINUTE)
    assert not await runs.renew("crm", 1, until=NOW + 9 * MINUTE)
    assert not await runs.end("crm", 1, "complete", {}, now=NOW)
    assert (await runs.last())["crm"].run == 2


async def test_a_run_by_hand_is_the_last_one_unless_a_process_is_at_another(runs: SqlReconcileRuns) -> None:
    ended = NOW + MINUTE
    assert await runs.note("crm", "incomplete", {"orphan": 1}, began_at=NOW, ended_at=ended)
    last = (await runs.last())["crm"]
    assert (last.run, last.began_at, last.ended_at, last.outcome) == (1, NOW, ended, "incomplete")
    assert await runs.claim("crm", 2, now=ended, until=ended + MINUTE)
    assert not await runs.note("crm", "complete", {"orphan": 2}, began_at=NOW, ended_at=ended)
    assert (await runs.last())["crm"].counts == {"orphan": 1}
    assert await runs.end("crm", 2, "complete", {"orphan": 3}, now=ended)
    assert await runs.note("crm", "complete", {"orphan": 4}, began_at=ended, ended_at=ended)
    assert not await runs.claim("crm", 3, now=ended, until=ended + MINUTE), "who has not seen it looks again"
    last = (await runs.last())["crm"]
    assert (last.run, last.lease_until, last.counts) == (3, None, {"orphan": 4})


async def test_a_run_that_failed_leaves_the_counts_of_the_one_before(runs: SqlReconcileRuns) -> None:
    for run, outcome, counts in ((1, "complete", {"orphan": 3}), (2, "unavailable", None)):
        await runs.claim("crm", run, now=NOW, until=NOW + MINUTE)
        await runs.end("crm", run, outcome, counts, now=NOW)
    assert (await runs.last())["crm"].counts == {"orphan": 3}
