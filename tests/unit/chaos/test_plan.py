"""The load of a chaos run is seeded, and what is expected of it follows the instants."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from orchestrator.chaos.plan import expected, make_plan
from tests.unit.chaos.good_run import START, told


def test_the_load_is_seeded_and_has_the_shares_it_promises() -> None:
    plan = make_plan(7, 3000, 60, START, "Canary")
    assert plan == make_plan(7, 3000, 60, START, "Canary") != make_plan(8, 3000, 60, START, "Canary")
    events = {one.id: one for one in plan}
    kinds = Counter(one.kind for one in events.values())
    contractors = sum(one.data.get("kind") == "contractor" for one in events.values())
    first: dict[str, list[str]] = {}
    for one in plan:
        if one.id not in first.setdefault(one.person, []):
            first[one.person].append(one.id)
    reordered = sum(ids != sorted(ids) for ids in first.values())
    shares = {
        "contractors": contractors / 3000,
        "leavers": kinds["left"] / 3000,
        "rehires": kinds["rehired"] / 3000,
        "duplicates": len(plan) / len(events) - 1,
        "reordered": reordered / 3000,
    }
    wanted = {"contractors": 0.2, "leavers": 0.3, "rehires": 0.05, "duplicates": 0.1, "reordered": 0.1}
    assert {name: round(share, 1) for name, share in shares.items()} == pytest.approx(wanted, abs=0.051)
    assert all(0 <= one.offset <= 60 for one in plan)


def test_the_expectation_follows_the_instants() -> None:
    ends = START + timedelta(seconds=5)
    story = [
        told(0, "W1", "joined", engagement_id="1", start_date=date(2026, 1, 5), contract_end=date(2026, 3, 2)),
        told(1, "W1", "left", engagement_id="1", ends_at=ends),
        told(2, "W1", "rehired", engagement_id="2", start_date=date(2026, 3, 4)),
    ]
    engaged = [START, ends, datetime(2026, 3, 4, tzinfo=UTC)]
    assert [expected(reversed(story), now)["W1"].engaged for now in engaged] == [True, False, True]
    assert not expected(story[:1], datetime(2026, 3, 3, tzinfo=UTC))["W1"].engaged
