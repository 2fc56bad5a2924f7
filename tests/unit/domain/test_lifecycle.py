"""What engagements and attributes mean at an instant."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.history import EARLIEST, History, Stated, Statement
from orchestrator.domain.lifecycle import Status, Transition, boundaries, spans, standing, transition
from orchestrator.domain.person import Person, apply, zones
from schemas.changes import (
    Change,
    ContractChanged,
    IdpAccountDisabled,
    IdpAccountEnabled,
    LeaveOfAbsenceEnded,
    LeaveOfAbsenceStarted,
    WorkerAttributes,
    WorkerJoined,
    WorkerLeft,
    WorkerMoved,
    WorkerRehired,
    WorkerSnapshot,
)
from tests.unit.domain import strategies
from tests.unit.domain.strategies import FROM, WORKER, days, instants

MELBOURNE, LOS_ANGELES = "Australia/Melbourne", "America/Los_Angeles"


def told(*changes: Change, zone: str = "UTC", first: datetime = FROM) -> Person:
    """The person after changes that were stated an hour apart."""
    person = Person(WORKER)
    for number, change in enumerate(changes):
        stated = first + timedelta(hours=number)
        person = apply(person, change, event_id=f"hr#{number}", stated=stated, default_zone=zone)
    return person


def joined(start: str, end: str | None = None, engagement: str | None = None, **attributes: str) -> WorkerJoined:
    return WorkerJoined(
        worker_id=WORKER,
        engagement_id=engagement,
        start_date=date.fromisoformat(start),
        contract_end=date.fromisoformat(end) if end else None,
        attributes=WorkerAttributes.model_validate(attributes),
    )


def left(last_day: str | None, engagement: str | None = None) -> WorkerLeft:
    day = date.fromisoformat(last_day) if last_day else None
    return WorkerLeft(worker_id=WORKER, engagement_id=engagement, last_day=day)


def status(person: Person, at: str, zone: str = "UTC") -> Status:
    return standing(person, zone, datetime.fromisoformat(at)).status


@given(days, st.none() | days, st.none() | days, strategies.zones, instants)
def test_one_engagement_against_an_oracle(
    start: date, contract_end: date | None, last_day: date | None, zone: str, at: datetime
) -> None:
    """Someone works from the first day to the last, by the calendar on the wall where they are."""
    changes: list[Change] = [joined(start.isoformat(), time_zone=zone)]
    if contract_end:
        changes.append(ContractChanged(worker_id=WORKER, contract_end=contract_end))
    if last_day:
        changes.append(WorkerLeft(worker_id=WORKER, engagement_id=start.isoformat(), last_day=last_day))
    today = at.astimezone(ZoneInfo(zone)).date()
    ends = [day for day in (contract_end, last_day) if day]
    if ends and today > min(ends):
        expected = Status.LEFT
    elif today < start:
        expected = Status.PREHIRE
    else:
        expected = Status.ACTIVE
    # An engagement whose end was moved before its start never was: no access, whatever it is called.
    found = standing(told(*changes, zone="Asia/Tokyo"), "Asia/Tokyo", at).status
    assert found == expected or (found, expected) == (Status.PREHIRE, Status.LEFT)


def test_nobody_is_known_before_something_is_stated() -> None:
    assert status(Person(WORKER), "2026-01-01T00:00Z") is Status.UNKNOWN
    assert status(told(left("2025-06-30")), "2026-01-01T00:00Z") is Status.UNKNOWN


def test_the_last_day_ends_where_the_worker_is() -> None:
    """17 hours late is what others' users complain of."""
    person = told(joined("2025-02-01", "2025-06-30", time_zone=MELBOURNE))
    assert status(person, "2025-06-30T13:59:59.999999Z") is Status.ACTIVE
    assert status(person, "2025-06-30T14:00Z") is Status.LEFT


def test_a_joiner_west_of_the_default_zone_does_not_begin_hours_early() -> None:
    """The zone comes with the attributes, which hold from the first day: that day has to begin in it nevertheless."""
    person = told(joined("2025-03-03", time_zone=LOS_ANGELES, email="ann@example.com"))
    assert status(person, "2025-03-03T07:59Z") is Status.PREHIRE
    begun = standing(person, "UTC", datetime.fromisoformat("2025-03-03T08:00Z"))
    assert begun.status is Status.ACTIVE
    assert begun.attributes["email"] == "ann@example.com"


def test_a_joiner_east_of_the_default_zone_does_not_begin_hours_late() -> None:
    person = told(joined("2025-03-03", time_zone=MELBOURNE))
    assert {one.due for one in boundaries(person, spans(person, "UTC"), FROM)} == {
        datetime.fromisoformat("2025-03-02T13:00Z")
    }


def test_a_move_to_another_zone_moves_the_end_of_the_contract() -> None:
    move = WorkerMoved(worker_id=WORKER, effective=date(2025, 4, 1), attributes=WorkerAttributes(time_zone=LOS_ANGELES))
    person = told(joined("2025-02-01", "2025-06-30", time_zone=MELBOURNE), move)
    assert status(person, "2025-07-01T06:59Z") is Status.ACTIVE
    assert status(person, "2025-07-01T07:00Z") is Status.LEFT
    assert (
        status(told(joined("2025-02-01", "2025-03-31", time_zone=MELBOURNE), move), "2025-03-31T13:00Z") is Status.LEFT
    )


def test_the_zone_of_a_day_before_any_was_stated_is_the_first() -> None:
    history = told(joined("2025-03-03", time_zone=MELBOURNE)).history
    assert zones(history, "UTC").on(date(2020, 1, 1)).key == MELBOURNE
    assert zones(History(), "Asia/Tokyo").on(date(2020, 1, 1)).key == "Asia/Tokyo"


def test_an_exact_instant_ends_in_the_middle_of_a_day() -> None:
    ends_at = datetime.fromisoformat("2025-06-30T15:30+10:00")
    person = told(joined("2025-02-01", time_zone=MELBOURNE), WorkerLeft(worker_id=WORKER, ends_at=ends_at))
    assert status(person, "2025-06-30T05:29Z") is Status.ACTIVE
    assert status(person, "2025-06-30T05:30Z") is Status.LEFT


@pytest.mark.parametrize(
    ("changes", "last_active"),
    [
        pytest.param([joined("2025-02-01", "2025-06-30")], "2025-06-30", id="fixed term"),
        pytest.param(
            [joined("2025-02-01", "2025-06-30"), ContractChanged(worker_id=WORKER, contract_end=date(2025, 9, 30))],
            "2025-09-30",
            id="extension",
        ),
        pytest.param(
            [joined("2025-02-01", "2025-06-30"), ContractChanged(worker_id=WORKER, contract_end=date(2025, 4, 30))],
            "2025-04-30",
            id="shortening",
        ),
        pytest.param(
            [joined("2025-02-01", "2025-06-30"), ContractChanged(worker_id=WORKER, contract_end=None)],
            None,
            id="made permanent",
        ),
        pytest.param(
            [joined("2025-02-01", "2025-06-30"), left("2025-05-15")], "2025-05-15", id="leaves before the end"
        ),
        pytest.param([joined("2025-02-01"), left("2025-05-15"), left(None)], None, id="leave rescinded"),
        pytest.param([joined("2025-02-01"), left("2025-05-15"), left("2025-08-31")], "2025-08-31", id="leaves later"),
        pytest.param([joined("2025-02-01"), left("2025-08-31"), left("2025-05-15")], "2025-05-15", id="leaves earlier"),
        pytest.param(
            [joined("2025-02-01"), left("2025-08-31"), left("2025-05-15"), left(None)],
            None,
            id="a corrected leave rescinded is rescinded",
        ),
        pytest.param(
            [
                joined("2025-02-01", engagement="e1"),
                left("2025-08-31", "e1"),
                left("2025-05-15", "e1"),
                left(None, "e1"),
            ],
            None,
            id="the same by engagement",
        ),
        pytest.param(
            [joined("2025-02-01", engagement="e1"), joined("2025-03-01", engagement="e2"), left("2025-06-30")],
            "2025-06-30",
            id="two engagements end at once",
        ),
        pytest.param(
            [
                joined("2025-02-01", engagement="e1"),
                joined("2025-03-01", engagement="e2"),
                left("2025-06-30"),
                left("2025-05-15"),
            ],
            "2025-05-15",
            id="two engagements end earlier than said first",
        ),
        pytest.param(
            [joined("2025-02-01", engagement="e1"), left("2025-03-31", "e2"), joined("2025-02-01", engagement="e2")],
            None,
            id="an end for another engagement",
        ),
    ],
)
def test_when_access_ends(changes: list[Change], last_active: str | None) -> None:
    person = told(*changes)
    if last_active is None:
        assert status(person, "2026-12-31T00:00Z") is Status.ACTIVE
        return
    over = datetime.fromisoformat(last_active).replace(tzinfo=UTC) + timedelta(days=1)
    assert standing(person, "UTC", over - timedelta(microseconds=1)).status is Status.ACTIVE
    assert standing(person, "UTC", over).status is Status.LEFT
    assert standing(person, "UTC", over + timedelta(days=100)).since == over


def test_somebody_who_never_starts_never_gets_access() -> None:
    person = told(joined("2025-02-01"), left("2025-01-20"))
    assert status(person, "2025-02-01T12:00Z") is Status.LEFT
    assert status(told(left("2025-01-20"), joined("2025-02-01")), "2025-02-01T12:00Z") is Status.ACTIVE  # hired after


def test_a_rehired_person_is_out_in_between() -> None:
    rehired = WorkerRehired(worker_id=WORKER, start_date=date(2025, 9, 1))
    person = told(joined("2025-02-01"), left("2025-05-31"), rehired, left("2025-12-31"), left(None))
    assert [status(person, f"2025-{month}-01T00:00Z") for month in ("01", "05", "06", "09")] == [
        Status.PREHIRE,
        Status.ACTIVE,
        Status.LEFT,
        Status.ACTIVE,
    ]
    assert status(person, "2026-06-01T00:00Z") is Status.ACTIVE


def test_a_conversion_to_employee_removes_nobody() -> None:
    contractor = WorkerJoined(
        worker_id=WORKER, kind="contractor", start_date=date(2025, 2, 1), contract_end=date(2025, 6, 30)
    )
    converted = ContractChanged(worker_id=WORKER, kind="employee", contract_end=None)
    assert standing(told(contractor), "UTC", FROM + timedelta(days=60)).kind == "contractor"
    after = standing(told(contractor, converted), "UTC", FROM + timedelta(days=300))
    assert (after.status, after.kind) == (Status.ACTIVE, "employee")


def test_a_contract_change_without_engagement_speaks_of_the_one_that_runs_where_the_worker_is() -> None:
    """Stated on the evening before in UTC, when the second engagement had begun in Melbourne."""
    first, second = joined("2025-02-01", engagement="e1", time_zone=MELBOURNE), joined("2025-03-03", engagement="e2")
    person = told(first, second)
    stated = datetime.fromisoformat("2025-03-02T20:00Z")
    change = ContractChanged(worker_id=WORKER, contract_end=date(2025, 12, 31))
    person = apply(person, change, event_id="hr#9", stated=stated, default_zone="UTC")
    assert {one.id: one.end is not None for one in spans(person, "UTC")} == {"e1": False, "e2": True}


def test_no_engagement_is_without_a_kind() -> None:
    null = ContractChanged.model_validate({"worker_id": WORKER, "engagement_id": "e1", "kind": None})
    person = told(joined("2025-02-01", engagement="e1"), null)
    assert standing(person, "UTC", FROM + timedelta(days=60)).kind == "employee"


def test_an_employment_decides_before_a_contract() -> None:
    contractor = WorkerJoined(worker_id=WORKER, engagement_id="e1", kind="contractor", start_date=date(2025, 1, 1))
    person = told(contractor, joined("2025-03-01", engagement="e2"))
    assert standing(person, "UTC", datetime(2025, 2, 1, tzinfo=UTC)).kind == "contractor"
    assert standing(person, "UTC", datetime(2025, 4, 1, tzinfo=UTC)).kind == "employee"


def test_absences_and_since_when_they_hold() -> None:
    hour = timedelta(hours=1)
    person = told(
        joined("2024-01-01"),
        LeaveOfAbsenceStarted(worker_id=WORKER),
        IdpAccountDisabled(worker_id=WORKER),
        IdpAccountEnabled(worker_id=WORKER),
        LeaveOfAbsenceEnded(worker_id=WORKER),
    )
    seen = [standing(person, "UTC", FROM + number * hour) for number in range(5)]
    assert [(one.status, one.since) for one in seen] == [
        (Status.ACTIVE, datetime(2024, 1, 1, tzinfo=UTC)),
        (Status.ON_LEAVE, FROM + hour),
        (Status.SUSPENDED, FROM + 2 * hour),
        (Status.ON_LEAVE, FROM + 3 * hour),
        (Status.ACTIVE, FROM + 4 * hour),
    ]


def test_an_absence_that_is_repeated_began_when_it_was_stated_first() -> None:
    person = told(joined("2024-01-01"), *[LeaveOfAbsenceStarted(worker_id=WORKER)] * 5)
    assert standing(person, "UTC", FROM + timedelta(days=9)).since == FROM + timedelta(hours=1)


def test_a_snapshot_says_all_at_once() -> None:
    snapshot = WorkerSnapshot(worker_id=WORKER, start_date=date(2025, 1, 1), last_day=date(2025, 6, 30), on_leave=True)
    corrected = snapshot.model_copy(update={"last_day": None, "on_leave": False})
    assert status(told(snapshot), "2025-02-01T00:00Z") is Status.ON_LEAVE
    assert status(told(snapshot), "2025-07-01T00:00Z") is Status.LEFT
    assert status(told(snapshot, corrected), "2025-07-01T00:00Z") is Status.ACTIVE


def test_boundaries_are_every_later_change() -> None:
    person = told(
        joined("2025-02-01", "2025-06-30"),
        LeaveOfAbsenceStarted(worker_id=WORKER, effective=date(2025, 3, 1)),
        LeaveOfAbsenceEnded(worker_id=WORKER, effective=date(2025, 4, 1)),
        WorkerMoved(worker_id=WORKER, effective=date(2025, 5, 1), attributes=WorkerAttributes(title="Lead")),
        left("2025-06-15"),
    )
    found = {(one.kind, one.due.date().isoformat()) for one in boundaries(person, spans(person, "UTC"), FROM)}
    assert found == {
        ("engagement_start", "2025-02-01"),
        ("leave_of_absence_start", "2025-03-01"),
        ("leave_of_absence_end", "2025-04-01"),
        ("scheduled_change", "2025-05-01"),
        ("termination", "2025-06-16"),
    }
    at_the_end = datetime(2025, 6, 16, tzinfo=UTC)
    assert boundaries(person, spans(person, "UTC"), at_the_end) == []


@pytest.mark.parametrize(
    ("before", "after", "changed", "expected"),
    [
        (Status.UNKNOWN, Status.ACTIVE, True, Transition.JOINER),
        (Status.PREHIRE, Status.ACTIVE, False, Transition.JOINER),
        (Status.LEFT, Status.ACTIVE, False, Transition.RETURNER),
        (Status.ON_LEAVE, Status.ACTIVE, True, Transition.RETURNER),
        (Status.ACTIVE, Status.ACTIVE, True, Transition.MOVER),
        (Status.ACTIVE, Status.ACTIVE, False, Transition.NONE),
        (Status.ACTIVE, Status.LEFT, True, Transition.LEAVER),
        (Status.SUSPENDED, Status.LEFT, False, Transition.LEAVER),
        (Status.ACTIVE, Status.SUSPENDED, False, Transition.ABSENT),
        (Status.LEFT, Status.LEFT, True, Transition.NONE),
        (Status.UNKNOWN, Status.PREHIRE, True, Transition.NONE),
    ],
)
def test_the_kind_of_change(before: Status, after: Status, changed: bool, expected: Transition) -> None:
    assert transition(before, after, attributes_changed=changed) is expected


def test_events_of_absurd_times_do_not_overflow() -> None:
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        instant = datetime.fromisoformat(moment)
        person = apply(
            told(joined("2025-02-01", time_zone=LOS_ANGELES)),
            WorkerMoved(worker_id=WORKER, effective=instant, attributes=WorkerAttributes(time_zone=MELBOURNE)),
            event_id="hr#9",
            stated=instant,
            default_zone="UTC",
        )
        ended = WorkerLeft(worker_id=WORKER, ends_at=instant)
        person = apply(person, ended, event_id="hr#x", stated=instant, default_zone="UTC")
        changed = ContractChanged(worker_id=WORKER, contract_end=date.max)
        person = apply(person, changed, event_id="hr#y", stated=instant, default_zone="UTC")
        spans(person, "UTC")


def test_of_two_facts_stated_at_once_one_wins_whatever_the_order() -> None:
    fact = Stated("a").newer("b", FROM, "hr#1")
    assert fact.newer("c", FROM, "hr#2") == Stated("b").newer("c", FROM, "hr#2").newer("b", FROM, "hr#1")
    assert Stated("a").newer("b", EARLIEST, "hr#1").value == "b"


@given(st.lists(st.tuples(instants, instants, st.sampled_from("ab"), st.sampled_from([None, "x", "y"])), max_size=8))
def test_history_against_an_oracle(rows: list[tuple[datetime, datetime, str, str | None]]) -> None:
    history = History()
    for number, (effective, stated, name, value) in enumerate(rows):
        history = history.state(Statement(effective, stated, f"hr#{number}", {name: value}))
    for now in {row[0] for row in rows}:
        in_force = sorted((row[0], row[1], number, row) for number, row in enumerate(rows) if row[0] <= now)
        expected = {name: value for *_, (_, _, name, value) in in_force}
        if len(history.statements) == len(rows):
            assert history.at(now) == expected
        assert all(one.effective > now for one in history.after(now))
