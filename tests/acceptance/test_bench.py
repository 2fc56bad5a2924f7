"""The benchmarks at a small size: they measure what they say, and leave nothing behind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.bench import reading
from orchestrator.bench.quantiles import spread
from orchestrator.bench.server import Applications
from orchestrator.domain.scim_diff import patch_body, set_active

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> dict[str, Any]:
    """Run one to its end on the embedded broker and SQLite."""
    command = [sys.executable, "-m", "orchestrator.cli", "bench", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_pipeline_brings_everybody_into_every_application() -> None:
    found = bench("pipeline", "--events", "100", "--apps", "2", "--audit-cost")
    assert (found["broker"], found["store"], found["applications"], found["events"]) == ("embedded", "sqlite", 2, 100)
    assert found["calls_per_account"] >= 1
    assert found["messages_per_event"] >= 2 + 2 * 3  # received, resolved; for each account issued, intended, applied
    assert found["events_per_second"] > 0
    assert found["cpu_ms_per_event"]["all roles"] > 0
    assert found["ratio_to_floor"] > 0
    assert found["events_per_second_without_auditing"] > 0
    assert found["auditing_costs"] < 1


def test_leavers_are_timed_by_the_applications_own_witness() -> None:
    found = bench("leaver", "--joiners", "100", "--leavers", "10", "--latency-ms", "5")
    assert found["leavers"] == 10
    assert found["in_line_at_first"] <= 100
    assert 2 * 5 <= found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]  # a change and a read
    assert found["floor_p50_ms"] >= 2 * 5


def test_memory_is_read_at_every_size_and_the_made_people_count() -> None:
    found = bench("memory", "--people", "3000")
    assert found["resident_megabytes"].keys() == {"1,000 people", "3,000 people"}
    assert found["growth"]["all roles"] > 0.5


async def test_the_memory_of_readers_is_seen_at_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SIZES", ())
    monkeypatch.setattr(reading, "COMMANDS", {"reconcile": ("reconcile", reading.APP)})
    found = await reading.bench_reading("sqlite", accounts=600, progress=lambda *_: None)
    (peaks,) = found["peak_megabytes"].values()
    assert peaks["reconcile"] > 20, "an interpreter alone takes more"


def test_several_resolvers_need_a_broker_that_can_be_shared() -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "bench", "resolve", "--processes", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--kafka, --store" in done.stderr


async def test_the_lean_applications_keep_what_they_are_told() -> None:
    async with Applications(0.0) as applications, httpx.AsyncClient(timeout=20) as client:
        base = applications.base_url("app3")
        made = await client.post(f"{base}/Users", json={"userName": "w1", "externalId": "W1", "active": True})
        user = made.json()["id"]
        assert made.status_code == 201
        assert (await client.post(f"{base}/Users", json={"userName": "w1"})).status_code == 409
        assert (await client.get(f"{base}/Users", params={"filter": 'userName eq "w1"'})).json()["totalResults"] == 1
        assert (await client.get(f"{base}/Users", params={"filter": 'userName eq "w2"'})).json()["totalResults"] == 0
        assert (await client.get(f"{base}/Users/{user}")).json()["active"] is True
        assert (await applications.stats())["out"] == {}
        changed = await client.patch(f"{base}/Users/{user}", json=patch_body([set_active(False)]))
        assert changed.json()["active"] is False
        assert (await applications.stats())["out"] == {}, "nobody has looked yet"
        await client.get(f"{base}/Users/{user}")
        stats = await applications.stats()
        assert (stats["accounts"], stats["active"], list(stats["out"])) == (1, 0, ["app3/W1"])
        assert (await client.get(f"{base}/Users/none")).status_code == 404
        assert (await client.get(applications.base_url("app4") + "/Users")).json()["totalResults"] == 0


@pytest.mark.parametrize(
    ("took", "found"),
    [([], {"measured": 0}), ([2.0, 1.0], {"measured": 2, "p50": 1.0, "p95": 2.0, "p99": 2.0, "max": 2.0})],
)
def test_a_spread_is_of_values_that_were_measured(took: list[float], found: dict[str, float]) -> None:
    assert spread(took) == found
