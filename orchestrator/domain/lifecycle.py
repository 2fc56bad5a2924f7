"""What a person's engagements and attributes mean at an instant: the standing, and when it changes next."""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

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
    """An engagement with its instants: access from `start` until `end` (None: open). `end_kind` says what ends it.

    `event_id` is the event that put the end there, or else the start, `begun_by` the one of the start, which is the
    first instant of `first_day` in `zone`.
    """

    id: str
    kind: str
    start: datetime
    end: datetime | None
    end_kind: str
    event_id: str
    begun_by: str
    first_day: date
    zone: ZoneInfo

    @property
    def last_day(self) -> date | None:
        """The day on which access ends, where the worker is; None: it is open."""
        if self.end is None:
            return None
        try:
            return (self.end - timedelta(microseconds=1)).astimezone(self.zone).date()
        except OverflowError:  # at the ends of the calendar
            return self.end.date()

    @property
    def never_begins(self) -> bool:
        """Whether its end was moved before its start."""
        return self.end is not None and self.end <= self.start

    def opens(self, days: int) -> datetime:
        """The first instant of the day that is so many days before the first one."""
        return start_of(max(self.first_day, date.min + timedelta(days=days)) - timedelta(days=days), self.zone)


class Standing(NamedTuple):
    """The person at an instant. `since` is the instant from which the status holds, `kind` that of the engagement.

    `ahead` is the next engagement of somebody who has none and is not blocked, `first_attributes` belong to its start.
    `start_date` and `end_date` are the first and the last day of the engagement that counts, `end_date` as known now.
    """

    status: Status
    since: datetime
    kind: str
    attributes: Mapping[str, Any]
    ahead: Span | None = None
    first_attributes: Mapping[str, Any] = MappingProxyType({})
    start_date: date | None = None
    end_date: date | None = None


class Boundary(NamedTuple):
    """An instant at which the standing may change, and the event that put it there."""

    kind: str
    due: datetime
    event_id: str


class Facts(NamedTuple):
    """What counts of an engagement: facts that name it against those that name none, the latest of each."""

    engagement: Engagement
    kind: Stated[str]
    contract_end: Stated[date | None]
    end: Stated[End | None]


def spans(person: Person, default_zone: str, access_ends: time | None = None) -> list[Span]:
    """The engagements as spans of time, in the order of their starts. One whose start nobody stated is left out.

    Each day is one of the zone in which the worker is on that day. `access_ends` is the hour of the last day at which
    access ends; None: it is the end of that day.
    """
    where = zones(person.history, default_zone)
    found = facts(person, where)
    first_days = {one.engagement.start.value for one in found}
    return [_span(one, where, access_ends, first_days) for one in found]


def facts(person: Person, where: Zones) -> list[Facts]:
    """What counts of each engagement, in the order of their starts. One whose start nobody stated is left out."""
    started = sorted(
        ((engagement.start.value, engagement) for engagement in person.engagements.values() if engagement.start.value),
        key=lambda pair: (pair[0], pair[1].id),
    )
    engagements = [engagement for _, engagement in started]
    if not engagements:
        return []
    contracts = _by_engagement(person.contracts, engagements, where)
    ends = _ends(person.ends, engagements, where)
    return [_facts(one, contracts.get(one.id, []), ends.get(one.id)) for one in engagements]


def standing(person: Person, default_zone: str, now: datetime, engaged: list[Span] | None = None) -> Standing:
    """The person's standing at `now`. `engaged` are the spans, where they are known."""
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
        days = (primary.first_day, primary.last_day)
        return Standing(status, since, primary.kind, attributes, None, MappingProxyType({}), *days)
    ahead = next((span for span in engaged if span.start > now and not span.never_begins), None)
    first_attributes: Mapping[str, Any] = {}
    if ahead is not None:
        first_attributes = person.history.at(ahead.start)
        if attributes.get(SUSPENDED):
            ahead = None
    over = [span for span in engaged if span.end is not None and span.end <= now]
    if over:
        last = max(over, key=lambda span: span.end or span.start)
        return Standing(Status.LEFT, last.end or last.start, last.kind, attributes, ahead, first_attributes)
    if engaged:
        return Standing(Status.PREHIRE, now, engaged[0].kind, attributes, ahead, first_attributes)
    return Standing(Status.UNKNOWN, now, "employee", attributes)


def boundaries(person: Person, engaged: list[Span], now: datetime) -> list[Boundary]:
    """Every later instant at which the person has to be decided anew."""
    found = []
    for span in engaged:
        if span.start > now:
            found.append(Boundary("engagement_start", span.start, span.begun_by))
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


def _facts(engagement: Engagement, contracts: list[ContractStatement], unnamed: Stated[End | None] | None) -> Facts:
    contract_end, kind = engagement.contract_end, engagement.kind
    for statement in contracts:
        if statement.contract_end is not None:
            contract_end = contract_end.or_newer(statement.contract_end)
        if statement.kind is not None:
            kind = kind.or_newer(statement.kind)
    end = engagement.end if unnamed is None else engagement.end.or_newer(unnamed)
    return Facts(engagement, kind, contract_end, end)


def _span(one: Facts, where: Zones, access_ends: time | None, first_days: set[date | None]) -> Span:
    ends = [
        (_instant(fact.value, where, access_ends, first_days), name, fact.event_id)
        for fact, name in ((one.end, "termination"), (one.contract_end, "contract_end"))
        if fact.value is not None
    ]
    begun = one.engagement.start
    assert begun.value is not None
    zone = where.on(begun.value)
    start = start_of(begun.value, zone)
    instant, name, event_id = min(ends) if ends else (None, "", begun.event_id)
    return Span(one.engagement.id, one.kind.value, start, instant, name, event_id, begun.event_id, begun.value, zone)


def _instant(end: End, where: Zones, access_ends: time | None, first_days: set[date | None]) -> datetime:
    """The instant of an end. Nobody is put out in the evening to come back at midnight: where the next engagement
    begins on the day after, the last day lasts until it is over."""
    if isinstance(end, datetime):
        return end
    goes_on = access_ends is not None and end < date.max and end + timedelta(days=1) in first_days
    return end_of(end, where.on(end), None if goes_on else access_ends)


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
