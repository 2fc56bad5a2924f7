"""What travels on `audit.entries`, record by record as a stranger reads it, holds nothing personal."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import migrate
from schemas.topics import AUDIT_ENTRIES, IDP_EVENTS
from tests.integration.pipeline import NOW, Pipeline, configuration, embedded, event, eventually, joined, pipeline

CANARIES = ("zuzka", "byron", "w4711")  # none of them can be a part of a random number in hexadecimal


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Pipeline]:
    """Resolver, scheduler and auditor on an embedded broker."""
    url = f"sqlite+aiosqlite:///{tmp_path}/jml.db"
    database = Database(url)
    await migrate(database)
    await database.close()
    with embedded() as bootstrap:
        config = configuration(bootstrap, url, tmp_path / "audit")
        clock = SimulatedClock(NOW)
        async with pipeline(config, "resolver", "scheduler", "auditor", clock=clock) as running:
            yield running


async def test_the_topic_holds_nothing_personal(line: Pipeline) -> None:
    zuzka = {"given_name": "Zuzka", "family_name": "Byron", "user_name": "zuzka", "email": "Zuzka.Byron@example.com"}
    left = {"worker_id": "W4711", "last_day": "2026-03-01", "reason": "Zuzka Byron moves to Turin"}
    blocked = {"email": "zuzka.byron@example.com"}
    await line.send(joined("W4711", contract_end="2026-03-04", attributes=zuzka))
    await line.resolved("join-W4711")
    await line.send(
        joined("W4711", contract_end="2026-03-04", attributes=zuzka),
        event("worker.moved", {"worker_id": "W4711", "attributes": {"title": "Zuzka's"}}, event_id="move/W4711"),
        event("idp.account_disabled", blocked, event_id="block:zuzka.byron@example.com", topic=IDP_EVENTS),
        event("idp.account_enabled", {"email": "zuzka@nowhere.com"}, event_id="zuzka@nowhere.com", topic=IDP_EVENTS),
        event("worker.left", left, event_id="left-W4711"),
    )
    line.clock.advance_to(NOW + timedelta(days=9))

    async def complete() -> bool:
        kinds = {one["kind"] for one in line.entries()}
        events = [one for one in line.entries() if one["kind"] == "event_received"]
        return {"event_duplicated", "event_quarantined", "person_resolved"} <= kinds and len(events) >= 4

    await eventually(complete)
    travelled = [one for one in line.entries() if not one["writer"].startswith("auditor")]  # its own it just appends
    records = await line.records(AUDIT_ENTRIES, at_least=len(travelled))
    for record in records:
        content = b" ".join((record.key or b"", record.value or b"", *(value for _, value in record.headers))).lower()
        readable = {name: value for name, value in orjson.loads(record.value).items() if name != "sealed"}
        for canary in CANARIES:
            assert canary.encode() not in orjson.dumps(readable).lower(), readable
        assert b"w4711" not in content
        assert b"byron" not in content
    subjects = {record.key for record in records} - {b""}
    assert len(subjects) == 1
    told = await line.told()
    (received,) = [one for one in told if one["kind"] == "event_received" and one["event_id"] == "hr/test#left-W4711"]
    assert received["values"] == {"person_id": "W4711", "stated": left}, "whoever has the key reads it"
    assert received["details"] == {
        "type": "jml.worker.left.v1",
        "stated_at": "2026-03-02T08:15:00.000000Z",
        "effective": "2026-03-01",
        "reason_given": True,
    }
