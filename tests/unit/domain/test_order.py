"""The promise that reordering is harmless, over changes of every type."""

from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.entitlements import grants
from orchestrator.domain.lifecycle import spans, standing
from orchestrator.domain.person import Person, apply
from schemas.changes import (
    LeaveOfAbsenceStarted,
    TimerFired,
    WorkerAttributes,
    WorkerJoined,
    WorkerMoved,
    WorkerSnapshot,
)
from tests.unit.domain.story import Story, app, policy
from tests.unit.domain.strategies import FROM, UNTIL, WORKER, Telling, instants, shuffled, tellings

ZONE = "Europe/Helsinki"
RULES = policy(
    app("directory", groups='person.department == "" ? [] : ["dept " + person.department]'),
    app("wiki", scope='person.department == "R&D"', leave_of_absence="deactivate"),
    app("badges", attributes={"userName": "person.id", "nickName": "person.custom.badge"}),
    default_zone=ZONE,
)
"""The last one fails for whoever has no badge stated."""


def known(told: list[Telling]) -> Person:
    person = Person(WORKER)
    for change, stated, event_id in told:
        person = apply(person, change, event_id=event_id, stated=stated, default_zone=ZONE)
    return person


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_standing_does_not_depend_on_the_order_of_arrival(data: st.DataObject) -> None:
    told = data.draw(tellings())
    in_order, as_arrived = known(told), known(data.draw(shuffled(told)))
    assert spans(in_order, ZONE) == spans(as_arrived, ZONE)
    assert grants(in_order, ZONE) == grants(as_arrived, ZONE)
    assert in_order.withdrawn == as_arrived.withdrawn
    last = told[-1][1]
    for instant in (last, *(one for one in data.draw(st.lists(instants, max_size=6)) if one > last), UNTIL):
        first, second = standing(in_order, ZONE, instant), standing(as_arrived, ZONE, instant)
        if len(in_order.history.statements) != len(as_arrived.history.statements):
            second = second._replace(since=first.since)  # see the nightly feed
        assert first == second


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_neither_do_the_accounts_and_timers(data: st.DataObject) -> None:
    told = data.draw(tellings())
    now = max([told[-1][1], data.draw(instants)])
    stories = []
    for order in (told, data.draw(shuffled(told))):
        story = Story(RULES)
        for change, stated, event_id in order:
            story.tell(change, now, stated=stated, event=event_id)
        stories.append(story)
    in_order, as_arrived = stories
    failing = bool(in_order.tell(TimerFired(worker_id=WORKER, kind="probe", due=now), now).problems)
    for name in RULES.applications:
        if not (failing and name == "badges"):  # untouched by the failure, so what it has depends on the past
            assert in_order.access().get(name) == as_arrived.access().get(name)
    assert in_order.timers.keys() == as_arrived.timers.keys()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_timers_miss_nothing(data: st.DataObject) -> None:
    """With events as they come and timers as they fire, access at any moment is what the facts of that moment say."""
    told = data.draw(tellings(most=6))
    delays = [data.draw(st.sampled_from([0, 0, 1, 30])) for _ in told]
    arrivals = sorted(
        (
            (stated + timedelta(days=delay), change, stated, event)
            for (change, stated, event), delay in zip(told, delays, strict=True)
        ),
        key=lambda arrival: (arrival[0], arrival[3]),
    )
    probes = sorted(data.draw(st.lists(instants, max_size=4)))
    story = Story(RULES)

    def check(now: datetime) -> None:
        story.wait_until(now)
        afresh = Story(RULES)
        afresh.person = story.person._replace(decision=None)
        afresh.tell(TimerFired(worker_id=WORKER, kind="probe", due=now), now)
        for name in ("directory", "wiki"):  # the third is left untouched by a failure: what it has depends on the past
            assert story.access().get(name) == afresh.access().get(name)

    for now, change, stated, event in arrivals:
        for probe in [one for one in probes if one < now]:
            probes.remove(probe)
            check(probe)
        story.wait_until(now)
        if not isinstance(change, TimerFired):
            story.tell(change, now, stated=stated, event=event)
        check(now)
    for probe in (*probes, UNTIL + timedelta(days=60)):
        check(max(probe, arrivals[-1][0]))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_revision_is_raised_for_a_difference_only(data: st.DataObject) -> None:
    told = data.draw(tellings())
    story = Story(RULES)
    now = FROM
    for change, stated, event_id in told:
        now = max(now, stated)
        before = dict(story.accounts)
        raised = story.tell(change, now, stated=stated, event=event_id).raised
        for one in raised:
            old = before.get(one.account.app)
            assert old is None or (old.state, old.resource, old.groups) != (
                one.account.state,
                one.account.resource,
                one.account.groups,
            )
        again = story.tell(TimerFired(worker_id=WORKER, kind="again", due=now), now)
        assert (again.raised, again.timers_set, again.timers_cancelled) == ((), (), ())


def test_a_zone_that_is_stated_late_moves_the_days_stated_before() -> None:
    """The move arrives before the join that says where the worker is."""
    moved = WorkerMoved(
        worker_id=WORKER, effective=FROM.date() + timedelta(days=99), attributes=WorkerAttributes(title="Lead")
    )
    joined = WorkerJoined(
        worker_id=WORKER, start_date=FROM.date(), attributes=WorkerAttributes(time_zone="Australia/Melbourne")
    )
    told: list[Telling] = [(joined, FROM, "hr#1"), (moved, FROM + timedelta(hours=1), "hr#2")]
    in_order, reversed_ = known(told), known(told[::-1])
    assert in_order == reversed_
    assert in_order.history.statements[1].effective == datetime.fromisoformat("2025-04-10T00:00+10:00")


def test_a_scheduled_move_that_repeats_another_still_ends_a_third_between_them() -> None:
    def move(day: int, department: str) -> WorkerMoved:
        effective = FROM.date() + timedelta(days=day)
        return WorkerMoved(worker_id=WORKER, effective=effective, attributes=WorkerAttributes(department=department))

    told: list[Telling] = [
        (move(day, name), FROM - timedelta(days=9, hours=-hour), f"hr#{hour}")
        for hour, (day, name) in enumerate([(10, "Sales"), (50, "R&D"), (70, "Sales"), (90, "Sales"), (110, "Sales")])
    ]
    late = [told[0], *told[2:], told[1]]
    at = FROM + timedelta(days=80)
    assert known(told).history.at(at) == known(late).history.at(at) == {"department": "Sales"}


def test_a_nightly_feed_does_not_grow_the_history() -> None:
    """What repeats is kept as first and last, so that a late arrival from before the last still loses."""
    snapshot = WorkerSnapshot(worker_id=WORKER, start_date=FROM.date(), attributes=WorkerAttributes(title="Lead"))
    nights: list[Telling] = [(snapshot, FROM + timedelta(days=night), f"hr#{night:03}") for night in range(200)]
    person = known(nights)
    assert [one.stated for one in person.history.statements] == [nights[0][1], nights[-1][1]]
    late = LeaveOfAbsenceStarted(worker_id=WORKER, effective=FROM + timedelta(days=100, hours=1))
    person = apply(person, late, event_id="hr#x", stated=FROM + timedelta(days=100, hours=1), default_zone=ZONE)
    assert standing(person, ZONE, FROM + timedelta(days=200)).status == "active"
