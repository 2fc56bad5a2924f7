"""A person as HR and identity providers describe them: engagements, and attributes over time.

`apply` adds what one change states. It never decides anything about access; `lifecycle` does, from the outcome.
The result does not depend on the order in which changes are applied.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast
from zoneinfo import ZoneInfo

from orchestrator.domain.days import start_of, utc, zone
from orchestrator.domain.history import History, Stated, Statement
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
    WorkerJoined,
    WorkerLeft,
    WorkerMoved,
    WorkerRehired,
    WorkerSnapshot,
)

T = TypeVar("T")

End = date | datetime
"""A last day of access, or the exact instant of its end."""

ON_LEAVE = "on_leave"
SUSPENDED = "suspended"
"""Attributes that say something about access; they live in the history beside the others."""

TIME_ZONE = "time_zone"
"""The attribute that says where the worker's days begin and end."""


class Engagement(NamedTuple):
    """One contract. Every fact of it counts as it was stated last."""

    id: str
    start: Stated[date | None] = Stated(None)
    kind: Stated[str] = Stated("employee")
    contract_end: Stated[date | None] = Stated(None)
    end: Stated[End | None] = Stated(None)

    @property
    def facts(self) -> "tuple[Stated[Any], ...]":
        """All of them."""
        return self.start, self.kind, self.contract_end, self.end


class ContractStatement(NamedTuple):
    """A change of contract that names no engagement; None in a field: not stated."""

    contract_end: Stated[date | None] | None
    kind: Stated[str] | None

    @property
    def place(self) -> tuple[datetime, str]:
        """When it was stated, and by which event."""
        fact = self.contract_end or self.kind
        assert fact is not None
        return fact.stated, fact.event_id


class Window(NamedTuple):
    """When a temporary entitlement holds; an open end is None."""

    starts: End
    ends: End | None


class Withdrawal(NamedTuple):
    """When an event was taken back, and by which event. Where several did, it was the first."""

    stated: datetime
    event_id: str


class Warned(NamedTuple):
    """The last warning that was issued of an end: so many days before `due`."""

    kind: str
    app: str | None
    group: str | None
    due: datetime
    days: int


class Decision(NamedTuple):
    """The last decision: the instant it was made for, the standing it found, the policy's digest."""

    at: datetime
    status: str
    kind: str
    policy: str


class Person(NamedTuple):
    """Everything that was stated of one person, and the last decision about access."""

    id: str
    history: History = History()
    engagements: Mapping[str, Engagement] = MappingProxyType({})
    ends: tuple[Stated[End | None], ...] = ()
    """Ends that name no engagement, in the order in which they were stated; None rescinds what was stated before."""
    contracts: tuple[ContractStatement, ...] = ()
    entitlements: Mapping[tuple[str, str], Stated[Window | None]] = MappingProxyType({})
    """Temporary entitlements by application and group; None: revoked."""
    withdrawn: Mapping[str, Withdrawal] = MappingProxyType({})
    """Events that count as never stated, also those that have not arrived."""
    decision: Decision | None = None
    warned: tuple[Warned, ...] = ()
    """Of each end that is still to come, the last warning."""
    identities: Mapping[str, Stated[Mapping[str, Any] | None]] = MappingProxyType({})
    """By application, the values that the account keeps from another one, by attribute path; None: it keeps none."""


def apply(person: Person, change: Change, *, event_id: str, stated: datetime, default_zone: str) -> Person:
    """The person after `change`, which was stated by the event `event_id` at `stated`."""
    if event_id in person.withdrawn and not isinstance(change, ChangeWithdrawn):
        return person
    return _APPLIERS[type(change)](person, change, _Context(event_id, utc(stated), default_zone))


class Zones(NamedTuple):
    """The worker's time zones, each with the day from which it was stated."""

    stated: tuple[tuple[date, ZoneInfo], ...]
    default: ZoneInfo

    def on(self, day: date) -> ZoneInfo:
        """The zone on a day. Before the first one was stated it is that one: better than a guess."""
        found = self.stated[0][1] if self.stated else self.default
        for since, where in self.stated:
            if since <= day:
                found = where
        return found


def zones(history: History, default_zone: str) -> Zones:
    """Where the worker was according to the history.

    By days and not by instants: which instant a day begins at is what the zone is needed for.
    """
    stated = []
    for statement in history.statements:
        if TIME_ZONE in statement.values:
            where = zone(statement.values[TIME_ZONE], default_zone)
            stated.append((statement.day or statement.effective.astimezone(where).date(), where))
    return Zones(tuple(stated), zone(None, default_zone))


class _Context(NamedTuple):
    event_id: str
    stated: datetime
    default_zone: str

    def fact(self, value: T) -> Stated[T]:
        return Stated(value, self.stated, self.event_id)


def _state(
    person: Person,
    values: Mapping[str, Any],
    effective: date | datetime | None,
    now: _Context,
    *,
    repeats: bool = False,
) -> Person:
    """One more statement. A day begins in the zone that it states itself, or else in the worker's on that day.

    A zone that is stated late therefore moves the days of statements that arrived before it.
    """
    if not values:
        return person
    history, default_zone = person.history, now.default_zone
    day = None if isinstance(effective, datetime) else effective
    instant = utc(effective) if isinstance(effective, datetime) else now.stated
    statement = Statement(instant, now.stated, now.event_id, values, day)
    if day is not None:
        statement = statement._replace(effective=_begin(statement, zones(history, default_zone), default_zone))
    history = history.state(statement, repeats=repeats)
    moves = TIME_ZONE in values and len(history.statements) > 1  # it knows its own zone
    return person._replace(history=_placed(history, default_zone) if moves else history)


def _placed(history: History, default_zone: str) -> History:
    """The history after one more or one less statement of the zone: days begin elsewhere now."""
    if not any(one.day for one in history.statements):
        return history
    where = zones(history, default_zone)
    return history.moved(lambda one: _begin(one, where, default_zone))


def _begin(statement: Statement, where: Zones, default_zone: str) -> datetime:
    if statement.day is None:
        return statement.effective
    if TIME_ZONE in statement.values:
        return start_of(statement.day, zone(statement.values[TIME_ZONE], default_zone))
    return start_of(statement.day, where.on(statement.day))


def _engage(
    person: Person,
    engagement_id: str,
    now: _Context,
    *,
    repeats: bool = False,
    **facts: Any,
) -> Person:
    known = person.engagements.get(engagement_id) or Engagement(engagement_id)
    newer: dict[str, Any] = {
        name: cast("Stated[Any]", getattr(known, name)).newer(value, now.stated, now.event_id, repeats=repeats)
        for name, value in facts.items()
    }
    return person._replace(engagements={**person.engagements, engagement_id: known._replace(**newer)})


def _joined(person: Person, change: WorkerJoined, now: _Context) -> Person:
    engagement_id = change.engagement_id or change.start_date.isoformat()
    person = _engage(
        person, engagement_id, now, start=change.start_date, kind=change.kind, contract_end=change.contract_end
    )
    return _state(person, change.attributes.stated(), change.start_date, now)


def _moved(person: Person, change: WorkerMoved, now: _Context) -> Person:
    return _state(person, change.attributes.stated(), change.effective, now)


def _idp_attributes(person: Person, change: IdpAttributesChanged, now: _Context) -> Person:
    return _state(person, change.attributes.stated(), None, now, repeats=True)


def _left(person: Person, change: WorkerLeft, now: _Context) -> Person:
    end: End | None = change.last_day
    if change.ends_at is not None:
        end = utc(change.ends_at)
    if change.engagement_id is not None:
        return _engage(person, change.engagement_id, now, end=end)
    ends = sorted((*person.ends, now.fact(end)), key=lambda fact: (fact.stated, fact.event_id))
    return person._replace(ends=tuple(ends))


def _contract_changed(person: Person, change: ContractChanged, now: _Context) -> Person:
    facts: dict[str, Any] = {}
    if "contract_end" in change.model_fields_set:
        facts["contract_end"] = change.contract_end
    if change.kind is not None:  # null says nothing: no engagement is without a kind
        facts["kind"] = change.kind
    if not facts:
        return person
    if change.engagement_id is not None:
        return _engage(person, change.engagement_id, now, **facts)
    statement = ContractStatement(
        contract_end=now.fact(facts["contract_end"]) if "contract_end" in facts else None,
        kind=now.fact(facts["kind"]) if "kind" in facts else None,
    )
    return person._replace(contracts=tuple(sorted((*person.contracts, statement), key=lambda one: one.place)))


def _snapshot(person: Person, change: WorkerSnapshot, now: _Context) -> Person:
    person = _engage(
        person,
        change.engagement_id or change.start_date.isoformat(),
        now,
        repeats=True,
        start=change.start_date,
        kind=change.kind,
        contract_end=change.contract_end,
        end=change.last_day,
    )
    return _state(person, {**change.attributes.stated(), ON_LEAVE: change.on_leave}, None, now, repeats=True)


def _granted(person: Person, change: EntitlementGranted, now: _Context) -> Person:
    starts = now.stated if change.starts is None else _end(change.starts)
    return _entitle(person, change.app, change.group, Window(starts, _end(change.ends)), now)


def _revoked(person: Person, change: EntitlementRevoked, now: _Context) -> Person:
    return _entitle(person, change.app, change.group, None, now)


def _entitle(person: Person, app: str, group: str, window: Window | None, now: _Context) -> Person:
    known = person.entitlements.get((app, group)) or _NEVER_GRANTED
    newer = known.newer(window, now.stated, now.event_id)
    return person._replace(entitlements={**person.entitlements, (app, group): newer})


_NEVER_GRANTED: Stated[Window | None] = Stated(None)
_NEVER_KEPT: Stated[Mapping[str, Any] | None] = Stated(None)


def _identity_kept(person: Person, change: IdentityKept, now: _Context) -> Person:
    known = person.identities.get(change.app) or _NEVER_KEPT
    newer = known.newer(change.model_dump()["values"] or None, now.stated, now.event_id)
    return person._replace(identities={**person.identities, change.app: newer})


def _end(stated: date | datetime | None) -> Any:
    return utc(stated) if isinstance(stated, datetime) else stated


def _withdrew(person: Person, change: ChangeWithdrawn, now: _Context) -> Person:
    """Everything as if the event had never been stated. It may arrive later: its key is kept.

    A withdrawal itself cannot be withdrawn: what became of the person would depend on which of the three came first.
    """
    key = f"{change.source}#{change.id}"
    by = Withdrawal(now.stated, now.event_id)
    withdrawn = {**person.withdrawn, key: min(by, person.withdrawn.get(key, by))}
    engagements = {name: _without(engagement, key) for name, engagement in person.engagements.items()}
    entitlements = {place: fact.without(key, _NEVER_GRANTED) for place, fact in person.entitlements.items()}
    identities = {name: fact.without(key, _NEVER_KEPT) for name, fact in person.identities.items()}
    history = person.history.without(key)
    return person._replace(
        history=history if history is person.history else _placed(history, now.default_zone),
        engagements={name: one for name, one in engagements.items() if any(fact.is_stated for fact in one.facts)},
        ends=tuple(one for one in person.ends if one.event_id != key),
        contracts=tuple(one for one in person.contracts if one.place[1] != key),
        entitlements={place: fact for place, fact in entitlements.items() if fact.is_stated},
        withdrawn=withdrawn,
        identities={name: fact for name, fact in identities.items() if fact.is_stated},
    )


def _flag(name: str, value: bool) -> Callable[[Person, Any, _Context], Person]:
    def state(person: Person, change: Change, now: _Context) -> Person:
        return _state(person, {name: value}, getattr(change, "effective", None), now)

    return state


def _nothing(person: Person, change: Change, now: _Context) -> Person:
    """A timer states nothing: it only asks for a new decision."""
    return person


def _without(engagement: Engagement, key: str) -> Engagement:
    unstated = Engagement(engagement.id)
    kept = (fact.without(key, none) for fact, none in zip(engagement.facts, unstated.facts, strict=True))
    return Engagement(engagement.id, *kept)


_APPLIERS: dict[type[Change], Callable[[Person, Any, _Context], Person]] = {
    WorkerJoined: _joined,
    WorkerRehired: _joined,
    WorkerMoved: _moved,
    WorkerLeft: _left,
    ContractChanged: _contract_changed,
    WorkerSnapshot: _snapshot,
    EntitlementGranted: _granted,
    EntitlementRevoked: _revoked,
    IdentityKept: _identity_kept,
    ChangeWithdrawn: _withdrew,
    LeaveOfAbsenceStarted: _flag(ON_LEAVE, True),
    LeaveOfAbsenceEnded: _flag(ON_LEAVE, False),
    IdpAccountDisabled: _flag(SUSPENDED, True),
    IdpAccountEnabled: _flag(SUSPENDED, False),
    IdpAttributesChanged: _idp_attributes,
    TimerFired: _nothing,
}
