"""What a person's engagements and attributes mean at an instant: the standing, and when it changes next."""

from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from orchestrator.domain.days import end_of, start_of
from orchestrator.domain.history import EARLIEST, History, Stated
from orchestrator.domain.person import ON_LEAVE, SUSPENDED, ContractStatement, End, Engagement, Person, Zones, zones


class Status(StrEnum):
    """A person's standing. Only `active` has access without a policy saying so."""

    UNKNOWN = "unknown"
    PREHIRE = "prehire"
    ACTIVE = "active"
    ON_LEAVE = "on_leave"
    SUSPENDED = "suspended"
    LEFT = "left"


class Transition(StrEnum):
    """What a change made of the person, in the field's words."""

    JOINER = "joiner"
    MOVER = "mover"
    LEAVER = "leaver"
    RETURNER = "returner"
    ABSENT = "absent"
    NONE = "none"


class Span(NamedTuple):
    """An engagement with its instants: access from `start` until `end` (None: open). `end_kind` says what ends it."""

    id: str
    kind: str
    start: datetime
    end: datetime | None
    end_kind: str
    event_id: str


class Standing(NamedTuple):
    """The person at an instant. `since` is the instant from which the status holds, `kind` that of the engagement."""

    status: Status
    since: datetime
    kind: str
    attributes: Mapping[str, Any]


class Boundary(NamedTuple):
    """An instant at which the standing may change, and the event that put it there."""

    kind: str
    due: datetime
    event_id: str


def spans(person: Person, default_zone: str, now: datetime | None = None) -> list[Span]:
    """The engagements as spans of time, in the order of their starts. One whose start nobody stated is left out.

    Each day is one of the zone in which the worker is on that day. `now` is ignored, and goes when nobody passes it.
    """
    where = zones(person.history, default_zone)
    started = sorted(
        ((engagement.start.value, engagement) for engagement in person.engagements.values() if engagement.start.value),
        key=lambda pair: (pair[0], pair[1].id),
    )
    engagements = [engagement for _, engagement in started]
    if not engagements:
        return []
    contracts = _by_engagement(person.contracts, engagements, where)
    ends = _ends(person.ends, engagements, where)
    return [_span(one, contracts.get(one.id, []), ends.get(one.id), where) for one in engagements]


def standing(person: Person, default_zone: str, now: datetime, engaged: list[Span] | None = None) -> Standing:
    """The person's standing at `now`."""
    engaged = spans(person, default_zone) if engaged is None else engaged
    attributes = person.history.at(now)
    running = [span for span in engaged if span.start <= now and (span.end is None or now < span.end)]
    if running:
        # An employee's contract decides before a contractor's, then the one that began first.
        primary = min(running, key=lambda span: (span.kind != "employee", span.start))
        since = max(min(span.start for span in running), _turned(person.history, SUSPENDED, now))
        if attributes.get(SUSPENDED):
            return Standing(Status.SUSPENDED, since, primary.kind, attributes)
        since = max(since, _turned(person.history, ON_LEAVE, now))
        status = Status.ON_LEAVE if attributes.get(ON_LEAVE) else Status.ACTIVE
        return Standing(status, since, primary.kind, attributes)
    over = [span for span in engaged if span.end is not None and span.end <= now]
    if over:
        last = max(over, key=lambda span: span.end or span.start)
        return Standing(Status.LEFT, last.end or last.start, last.kind, attributes)
    if engaged:
        return Standing(Status.PREHIRE, now, engaged[0].kind, attributes)
    return Standing(Status.UNKNOWN, now, "employee", attributes)


def boundaries(person: Person, engaged: list[Span], now: datetime) -> list[Boundary]:
    """Every later instant at which the person has to be decided anew."""
    found = []
    for span in engaged:
        if span.start > now:
            found.append(Boundary("engagement_start", span.start, span.event_id))
        if span.end is not None and span.end > now:
            found.append(Boundary(span.end_kind, span.end, span.event_id))
    for statement in person.history.after(now):
        kind = "scheduled_change"
        if ON_LEAVE in statement.values and len(statement.values) == 1:
            kind = "leave_of_absence_start" if statement.values[ON_LEAVE] else "leave_of_absence_end"
        found.append(Boundary(kind, statement.effective, statement.event_id))
    return found


def transition(before: Status, after: Status, *, attributes_changed: bool) -> Transition:
    """The kind of change, derived from the standing before and after and not from the name of the event."""
    had, has = before is Status.ACTIVE, after is Status.ACTIVE
    if has and not had:
        return Transition.JOINER if before in (Status.UNKNOWN, Status.PREHIRE) else Transition.RETURNER
    if had and not has:
        return Transition.LEAVER if after is Status.LEFT else Transition.ABSENT
    if after is Status.LEFT and before is not Status.LEFT:
        return Transition.LEAVER
    return Transition.MOVER if attributes_changed and has else Transition.NONE


def _span(
    engagement: Engagement, contracts: list[ContractStatement], unnamed: Stated[End | None] | None, where: Zones
) -> Span:
    contract_end, kind = engagement.contract_end, engagement.kind
    for statement in contracts:
        if statement.contract_end is not None:
            contract_end = contract_end.newer(*statement.contract_end)
        if statement.kind is not None:
            kind = kind.newer(*statement.kind)
    end = engagement.end if unnamed is None else engagement.end.newer(*unnamed)
    ends = [
        (_instant(fact.value, where), name, fact.event_id)
        for fact, name in ((end, "termination"), (contract_end, "contract_end"))
        if fact.value is not None
    ]
    assert engagement.start.value is not None
    start = start_of(engagement.start.value, where.on(engagement.start.value))
    if not ends:
        return Span(engagement.id, kind.value, start, None, "", engagement.start.event_id)
    instant, name, event_id = min(ends)
    return Span(engagement.id, kind.value, start, instant, name, event_id)


def _instant(end: End, where: Zones) -> datetime:
    return end if isinstance(end, datetime) else end_of(end, where.on(end))


def _day(end: End, where: Zones) -> date:
    return end.astimezone(where.on(end.date())).date() if isinstance(end, datetime) else end


def _by_engagement(
    contracts: tuple[ContractStatement, ...], engagements: list[Engagement], where: Zones
) -> dict[str, list[ContractStatement]]:
    """Contract changes that name no engagement, by the one that ran (or was next to begin) when they were stated."""
    found: dict[str, list[ContractStatement]] = {}
    for statement in contracts:
        stated = _day(statement.place[0], where)
        begun = [one for one in engagements if one.start.value is not None and one.start.value <= stated]
        found.setdefault((begun[-1] if begun else engagements[0]).id, []).append(statement)
    return found


def _ends(
    ends: tuple[Stated[End | None], ...], engagements: list[Engagement], where: Zones
) -> dict[str, Stated[End | None]]:
    """Ends that name no engagement: each ends the engagement that runs on its day, and those before that are open.

    Where none has begun by that day the person never starts: it ends the first one that was known when it was stated.

    A further end of the same engagement corrects the one before; to rescind takes back all that was said of it.
    """
    standing: dict[str, Stated[End | None]] = {}  # by engagement, the one stated last at the end
    for fact in ends:
        if fact.value is None:
            if standing:
                standing.popitem()
            continue
        day = _day(fact.value, where)
        begun = [one.id for one in engagements if one.start.value is not None and one.start.value <= day]
        running = begun[-1] if begun else _next_known(engagements, fact)
        standing.pop(running, None)
        standing[running] = fact
    found: dict[str, Stated[End | None]] = {}
    following: Stated[End | None] | None = None
    for one in reversed(engagements):
        following = standing.get(one.id, following)
        if following is not None and (one.id in standing or one.end.value is None):
            found[one.id] = following
    return found


def _next_known(engagements: list[Engagement], fact: Stated[End | None]) -> str:
    """Somebody who leaves before the first day: the end is of the first engagement that HR had named by then."""
    return next((one.id for one in engagements if one.start.stated < fact.stated), "")


def _turned(history: History, flag: str, now: datetime) -> datetime:
    """Since when a flag has been as it is, without a break."""
    since, held = EARLIEST, False
    for statement in history.statements:
        if statement.effective > now:
            break
        if flag in statement.values and bool(statement.values[flag]) is not held:
            since, held = statement.effective, not held
    return since
