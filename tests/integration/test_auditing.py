"""The audit log when its writer changes: whoever takes over goes on exactly where the other one stopped."""

from collections import defaultdict
from pathlib import Path

import pytest

from orchestrator.adapters.audit_log import read_entries
from orchestrator.adapters.audit_verify import verify
from orchestrator.adapters.audit_verify.topic import compare_topic
from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import migrate
from orchestrator.domain.tlog import HISTORY, split_history
from schemas.topics import AUDIT_CHECKPOINTS
from tests.audit_log import KEY
from tests.integration.pipeline import NOW, Pipeline, configuration, event, eventually, fresh_topics, joined, pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]


async def test_an_auditor_that_stood_by_goes_on_where_the_other_stopped(
    own_kafka: str, database_url: str, tmp_path: Path
) -> None:
    """It had read the log when it started, and much has been appended since."""
    config = configuration(own_kafka, database_url, tmp_path / "audit")
    database = Database(database_url)
    await migrate(database)
    await database.close()
    await fresh_topics(config)
    clock = SimulatedClock(NOW)
    async with pipeline(config, "resolver", "auditor", clock=clock) as first:
        async with pipeline(config, "auditor", clock=clock) as second:
            # Which of the two has the partition is the broker's choice: each is the only one for a while.
            await _told(first, 0)
            assert second.entries() == first.entries()
        await _told(first, 1)
        async with pipeline(config, "auditor", clock=clock):
            await _told(first, 2)
        await _told(first, 3)
    lines = [entry for _, entry in read_entries(tmp_path / "audit")]
    assert len(lines) == len(set(lines))
    verdict = verify(tmp_path / "audit", [KEY.verifier])
    assert verdict.good, verdict.problems
    findings, records = await compare_topic(own_kafka, lambda: read_entries(tmp_path / "audit"))
    assert (findings.problems, findings.notes) == ([], [])
    assert records >= len(lines) - 1, "the auditor's own entry does not come through the topic"
    async with pipeline(config, "auditor", clock=clock) as last:
        published = [one.value for one in await last.records(AUDIT_CHECKPOINTS, at_least=2)]
        kept = set(split_history((tmp_path / "audit" / HISTORY).read_bytes()))
        assert set(published) <= kept
        assert verify(tmp_path / "audit", [KEY.verifier], since=published[0]).good
        numbers: dict[tuple[str, int], list[int]] = defaultdict(list)
        for one in last.entries():
            numbers[one["writer"], one["epoch"]].append(one["sequence"])
        assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())
        timeline = (await last.person("p3-19")).timeline
        assert [one.kind for one in timeline] == ["event_received", "person_resolved", "command_issued"] * 2


async def _told(line: Pipeline, round_: int) -> None:
    """Twenty people are hired and change their title; returns when all of it is in the log."""
    people = [f"p{round_}-{number}" for number in range(20)]
    moves = [
        event("worker.moved", {"worker_id": one, "attributes": {"title": "Lead"}}, event_id=f"move-{one}")
        for one in people
    ]
    await line.send(*map(joined, people))
    await line.send(*moves)

    async def complete() -> bool:
        issued = {one["event_id"] for one in await line.told() if one["kind"] == "command_issued"}
        return {f"hr/test#move-{one}" for one in people} <= issued

    await eventually(complete)
