"""A change of the policy at the resolver: the timer decides, once, and outlives decisions by the old policy."""

from datetime import UTC, date, datetime, timedelta

import pytest

from orchestrator.domain.breaker import BreakerPolicy, Rule
from orchestrator.domain.lifecycle import Boundary
from orchestrator.domain.planning import Planned
from orchestrator.domain.timers import POLICY_CHANGED, policy_event, spread
from orchestrator.flows.policy_change import Impact, takes_away
from schemas.changes import TimerFired, WorkerJoined, WorkerMoved
from tests.unit.domain.story import Story, app, policy

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
DUE = NOW + timedelta(minutes=20)
OLD, NEW = policy(app()), policy(app(attributes={"userName": "person.id", "title": "person.department"}))


def waiting() -> Story:
    """Somebody whom the old policy decided, with a timer for the new one."""
    story = Story(OLD)
    story.tell(WorkerJoined(worker_id="w1", start_date=date(2026, 3, 1), attributes={"department": "R&D"}), NOW)
    story.timers[POLICY_CHANGED, DUE] = Boundary(POLICY_CHANGED, DUE, policy_event(NEW.digest))
    return story


def test_the_timer_has_somebody_decided_by_the_new_policy() -> None:
    story = waiting()
    story.rules = NEW
    story.wait_until(DUE)
    assert story.accounts["directory"].resource["title"] == "R&D"
    assert story.accounts["directory"].policy == NEW.digest
    assert story.timers == {}


def test_an_event_before_it_takes_its_place() -> None:
    story = waiting()
    story.rules = NEW
    told = story.tell(WorkerMoved(worker_id="w1", attributes={"department": "Sales"}), NOW)
    assert [one.kind for one in told.timers_cancelled] == [POLICY_CHANGED]
    assert story.accounts["directory"].resource["title"] == "Sales"


def test_a_decision_by_the_old_policy_leaves_it_standing() -> None:
    story = waiting()
    told = story.tell(WorkerMoved(worker_id="w1", attributes={"department": "Sales"}), NOW)
    assert told.timers_cancelled == ()
    assert (POLICY_CHANGED, DUE) in story.timers


def test_who_is_decided_already_gets_no_command_by_it() -> None:
    story = waiting()
    told = story.tell(TimerFired(worker_id="w1", kind=POLICY_CHANGED, due=DUE), DUE)
    assert told.raised == ()


def test_turns_are_spread_over_the_whole_time_and_always_the_same() -> None:
    turns = [spread(f"w{number}", "v", NOW, timedelta(hours=1)) for number in range(1000)]
    assert turns == [spread(f"w{number}", "v", NOW, timedelta(hours=1)) for number in range(1000)]
    tenths = [int((one - NOW) / timedelta(minutes=6)) for one in turns]
    assert set(tenths) == set(range(10))
    assert all(60 < tenths.count(tenth) < 140 for tenth in range(10))


@pytest.mark.parametrize(
    ("kind", "removed", "counts"),
    [("deactivate", (), True), ("delete", (), True), ("patch", ("staff",), True), ("patch", (), False)],
)
def test_what_counts_is_what_the_breaker_counts(kind: str, removed: tuple[str, ...], *, counts: bool) -> None:
    assert takes_away(Planned("w1", "crm", kind, {}, (), removed)) is counts  # type: ignore[arg-type]


def test_the_smaller_limit_of_the_breaker_counts() -> None:
    breaker = BreakerPolicy(timedelta(hours=1), Rule(5, 0.1, 8, 0.0, min_population=10))
    found = Impact()
    found.removals.update({"big": 9, "small": 1, "within": 8})
    population = {"big": 100, "small": 3, "within": 80}
    assert [(one.app, one.limit) for one in found.past(breaker, population)] == [("big", 8), ("small", None)]
    assert [one.app for one in found.past(None, population)] == ["big", "small", "within"]
