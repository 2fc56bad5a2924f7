"""What hypothesis draws: changes of every type spread over two years, and persons with every field filled."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from hypothesis import strategies as st

from orchestrator.domain.history import EARLIEST, History, Stated, Statement
from orchestrator.domain.person import ContractStatement, Decision, Engagement, Person, Warned, Window, Withdrawal
from schemas.changes import (
    Change,
    ChangeWithdrawn,
    ContractChanged,
    EntitlementGranted,
    EntitlementRevoked,
    IdentityKept,
    IdpAccountDisabled,
    IdpAccountEnabled,
    IdpAttributesChanged,
    LeaveOfAbsenceEnded,
    LeaveOfAbsenceStarted,
    TimerFired,
    WorkerAttributes,
    WorkerJoined,
    WorkerLeft,
    WorkerMoved,
    WorkerRehired,
    WorkerSnapshot,
)

ZONES = (
    "Australia/Melbourne",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Europe/Helsinki",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "UTC",
)
FROM = datetime(2025, 1, 1, tzinfo=UTC)
UNTIL = datetime(2027, 1, 1, tzinfo=UTC)
WORKER = "w1"

Telling = tuple[Change, datetime, str]
"""A change, when it was stated, and the event that did."""

days = st.dates(FROM.date(), UNTIL.date())
instants = st.integers(0, 2 * 365 * 24 * 4).map(lambda quarters: FROM + timedelta(minutes=15 * quarters))
zones = st.sampled_from(ZONES)
engagement_ids = st.sampled_from([None, "e1", "e2"])
_effective = st.none() | days | instants
_kinds = st.sampled_from(["employee", "contractor"])
_words = st.sampled_from(["Sales", "R&D", "Zoë", "", None])


@st.composite
def attributes(draw: st.DrawFn) -> WorkerAttributes:
    """Some attributes stated, some stated to be empty, most not stated."""
    given: dict[str, object] = {}
    for name in ("department", "email"):
        if draw(st.booleans()):
            given[name] = draw(_words)
    if draw(st.booleans()):
        given["time_zone"] = draw(st.none() | st.just("Nowhere/Land") | zones)
    if draw(st.booleans()):
        given["custom"] = {"badge": draw(_words)}
    return WorkerAttributes.model_validate(given)


def _ordered(first: date | None, second: date | None) -> tuple[date | None, date | None]:
    return (second, first) if first and second and second < first else (first, second)


@st.composite
def _joined(draw: st.DrawFn) -> Change:
    start, end = _ordered(draw(days), draw(st.none() | days))
    kind = draw(st.sampled_from([WorkerJoined, WorkerRehired]))
    return kind(
        worker_id=WORKER,
        engagement_id=draw(engagement_ids),
        kind=draw(_kinds),
        start_date=start,
        contract_end=end,
        attributes=draw(attributes()),
    )


@st.composite
def _snapshot(draw: st.DrawFn) -> Change:
    start = draw(days)
    later = st.none() | st.dates(start, UNTIL.date())
    return WorkerSnapshot(
        worker_id=WORKER,
        engagement_id=draw(engagement_ids),
        kind=draw(_kinds),
        start_date=start,
        contract_end=draw(later),
        last_day=draw(later),
        on_leave=draw(st.booleans()),
        attributes=draw(attributes()),
    )


@st.composite
def _left(draw: st.DrawFn) -> Change:
    end = draw(st.none() | days | instants)
    last_day, ends_at = (None, end) if isinstance(end, datetime) else (end, None)
    return WorkerLeft(worker_id=WORKER, engagement_id=draw(engagement_ids), last_day=last_day, ends_at=ends_at)


@st.composite
def _contract_changed(draw: st.DrawFn) -> Change:
    given: dict[str, object] = {"worker_id": WORKER, "engagement_id": draw(engagement_ids)}
    stated = draw(st.sampled_from([("contract_end",), ("kind",), ("contract_end", "kind")]))
    if "contract_end" in stated:
        given["contract_end"] = draw(st.none() | days)
    if "kind" in stated:
        given["kind"] = draw(st.none() | _kinds)
    return ContractChanged.model_validate(given)


_entitlement = {
    "worker_id": st.just(WORKER),
    "app": st.sampled_from(["directory", "wiki"]),
    "group": st.sampled_from(["admins", "night shift"]),
}

changes: st.SearchStrategy[Change] = st.one_of(
    _joined(),
    _snapshot(),
    _left(),
    _contract_changed(),
    st.builds(WorkerMoved, worker_id=st.just(WORKER), effective=_effective, attributes=attributes()),
    st.builds(LeaveOfAbsenceStarted, worker_id=st.just(WORKER), effective=_effective),
    st.builds(LeaveOfAbsenceEnded, worker_id=st.just(WORKER), effective=_effective),
    st.builds(EntitlementGranted, **_entitlement, starts=_effective, ends=_effective),
    st.builds(EntitlementRevoked, **_entitlement),
    st.builds(
        IdentityKept,
        worker_id=st.just(WORKER),
        app=st.sampled_from(["directory", "wiki"]),
        values=st.dictionaries(st.just("userName"), st.sampled_from(["ann", "lee"]), max_size=1),
    ),
    st.just(ChangeWithdrawn(worker_id=WORKER, source="hr", id="?")),
    st.just(IdpAccountDisabled(worker_id=WORKER)),
    st.just(IdpAccountEnabled(worker_id=WORKER)),
    st.builds(IdpAttributesChanged, worker_id=st.just(WORKER), attributes=attributes()),
    st.builds(TimerFired, worker_id=st.just(WORKER), kind=st.just("contract_end"), due=instants),
)


@st.composite
def tellings(draw: st.DrawFn, most: int = 9) -> list[Telling]:
    """Changes stated at distinct times, in the order in which they were stated."""
    instants_told = sorted(draw(st.lists(instants, min_size=1, max_size=most, unique=True)))
    told: list[Telling] = [(draw(changes), stated, f"hr#{number}") for number, stated in enumerate(instants_told)]
    # Of a record that is repeated only the first and the last statement are kept, so it is no use to withdraw one.
    targets = [event for change, _, event in told if not isinstance(change, WorkerSnapshot | IdpAttributesChanged)]
    for number, (change, stated, event) in enumerate(told):
        if isinstance(change, ChangeWithdrawn):
            target = draw(st.sampled_from([*targets, "hr#never-came"])).removeprefix("hr#")
            told[number] = (change.model_copy(update={"id": target}), stated, event)
    return told


def shuffled(told: Sequence[Telling]) -> st.SearchStrategy[list[Telling]]:
    """The same, as it arrives."""
    return st.permutations(told)


# Persons for the store: whatever fits the types, however unlikely.
any_text = st.text(max_size=30)
any_instant = st.datetimes(timezones=st.just(UTC)) | st.just(EARLIEST)
_any_value = st.none() | st.booleans() | any_text
_any_end = st.none() | st.dates() | any_instant


def _facts(values: st.SearchStrategy[object]) -> st.SearchStrategy[Stated[object]]:
    alone = st.builds(Stated, values, any_instant, any_text, st.just(()))
    return st.builds(Stated, values, any_instant, any_text, st.lists(alone, max_size=2).map(tuple))


_statements = st.builds(
    Statement,
    any_instant,
    any_instant,
    any_text,
    st.dictionaries(any_text, _any_value, max_size=4),
    st.none() | st.dates(),
)
_engagements = st.builds(
    Engagement,
    any_text,
    start=_facts(st.none() | st.dates()),
    kind=_facts(any_text),
    contract_end=_facts(st.none() | st.dates()),
    end=_facts(_any_end),
)
_contracts = st.builds(ContractStatement, _facts(st.none() | st.dates()), st.none() | _facts(any_text)) | st.builds(
    ContractStatement, st.none(), _facts(any_text)
)
_statuses = st.sampled_from(["unknown", "prehire", "active", "on_leave", "suspended", "left"])
person_ids = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="/"), min_size=1, max_size=200
)
persons: st.SearchStrategy[Person] = st.builds(
    Person,
    person_ids,
    history=st.lists(_statements, max_size=5).map(lambda found: History(tuple(found))),
    engagements=st.lists(_engagements, max_size=3).map(lambda found: {one.id: one for one in found}),
    ends=st.lists(_facts(_any_end), max_size=3).map(tuple),
    contracts=st.lists(_contracts, max_size=3).map(tuple),
    entitlements=st.dictionaries(
        st.tuples(any_text, any_text),
        _facts(st.none() | st.builds(Window, st.dates() | any_instant, _any_end)),
        max_size=2,
    ),
    withdrawn=st.dictionaries(any_text, st.builds(Withdrawal, any_instant, any_text), max_size=2),
    warned=st.lists(
        st.builds(Warned, any_text, st.none() | any_text, st.none() | any_text, any_instant, st.integers(0, 99)),
        max_size=2,
    ).map(tuple),
    identities=st.dictionaries(
        any_text, _facts(st.none() | st.dictionaries(any_text, _any_value, max_size=2)), max_size=2
    ),
    decision=st.none() | st.builds(Decision, any_instant, _statuses, any_text, any_text),
)
