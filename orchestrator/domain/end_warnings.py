"""Warnings before an end of access: who has to extend a contract or an entitlement should know in time.

Each end has its warnings, so many calendar days before it. One that was missed, because the end became known too late,
the person had not begun or nobody was running, is not made up for one by one: the nearest one is issued at once.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from orchestrator.domain.days import days_before
from orchestrator.domain.entitlements import Grant
from orchestrator.domain.lifecycle import Boundary, Span
from orchestrator.domain.person import Warned, Zones
from schemas.notices import NoticeKind


class Ending(NamedTuple):
    """An end of access that people should know of, `since` when there is something to lose, `days` its warnings."""

    kind: NoticeKind
    since: datetime
    due: datetime
    event_id: str
    days: tuple[int, ...]
    app: str | None = None
    group: str | None = None


class EndWarning(NamedTuple):
    """A warning to be issued now: it is the one `days` before the end, or what is left of those that were missed."""

    ending: Ending
    days: int


class Warnings(NamedTuple):
    """What is to be issued, what has been issued by then of ends to come, and when to look again."""

    issued: tuple[EndWarning, ...]
    warned: tuple[Warned, ...]
    boundaries: tuple[Boundary, ...]


def endings(
    engaged: Sequence[Span],
    granted: Iterable[Grant],
    contract_end_days: tuple[int, ...],
    entitlement_end_days: tuple[int, ...],
) -> list[Ending]:
    """The ends that people are warned of: contracts that nothing follows, and entitlements of somebody who is there.

    Nobody is warned of a termination: HR tells whom it wants to, and a dismissal is none of a mailing's business.
    """
    found = [
        Ending("contract_ends", span.start, span.end, span.event_id, contract_end_days)
        for span in engaged
        if span.end is not None
        and span.end_kind == "contract_end"
        and not span.never_begins
        and not _goes_on(span, engaged)
    ]
    for one in granted:
        begun = [span for span in engaged if one.end is not None and _covers(span, one.end)]
        if one.end is not None and begun:
            since = max(one.start, min(span.start for span in begun))
            found.append(
                Ending("entitlement_ends", since, one.end, one.event_id, entitlement_end_days, one.app, one.group)
            )
    return found


def warnings(found: Iterable[Ending], before: Sequence[Warned], where: Zones, at: datetime) -> Warnings:
    """Which warnings are due `at` an instant, after those issued `before`."""
    known = {one[:4]: one.days for one in before}
    issued: list[EndWarning] = []
    warned: list[Warned] = []
    boundaries: list[Boundary] = []
    for ending in found:
        if ending.due <= at:
            continue
        zone = where.on(ending.due.date())
        instants = {days: max(days_before(ending.due, days, zone), ending.since) for days in ending.days}
        nearest = min((days for days, instant in instants.items() if instant <= at), default=None)
        place = (ending.kind, ending.app, ending.group, ending.due)
        last = known.get(place)
        if nearest is not None and (last is None or nearest < last):
            issued.append(EndWarning(ending, nearest))
            last = nearest
        if last is not None:
            warned.append(Warned(*place, last))
        boundaries += [
            Boundary(f"{ending.kind}_notice", instant, ending.event_id) for instant in instants.values() if instant > at
        ]
    return Warnings(tuple(issued), tuple(warned), tuple(boundaries))


def _goes_on(span: Span, engaged: Iterable[Span]) -> bool:
    """Whether another engagement keeps the access when this one ends."""
    return any(other is not span and span.end is not None and _covers(other, span.end) for other in engaged)


def _covers(span: Span, instant: datetime) -> bool:
    """Whether the engagement runs at the instant, or from it on."""
    return span.start <= instant and (span.end is None or span.end > instant)
