"""Temporary entitlements: a group beside those that the policy gives, for a while."""

from collections.abc import Iterable
from datetime import datetime, time
from typing import NamedTuple

from orchestrator.domain.days import end_of, start_of
from orchestrator.domain.lifecycle import Boundary
from orchestrator.domain.person import Person, zones


class Grant(NamedTuple):
    """A group of an application from `start` until `end` (None: open), and the event that stated it."""

    app: str
    group: str
    start: datetime
    end: datetime | None
    event_id: str

    def holds(self, at: datetime) -> bool:
        """Whether it is in force."""
        return self.start <= at and (self.end is None or at < self.end)


def grants(person: Person, default_zone: str, access_ends: time | None = None) -> list[Grant]:
    """What is granted. Days are those of the worker's zone, the last one ends as that of a contract does."""
    if not person.entitlements:
        return []
    where = zones(person.history, default_zone)
    found = []
    for (app, group), fact in sorted(person.entitlements.items()):
        if fact.value is None:
            continue
        starts, ends = fact.value
        start = starts if isinstance(starts, datetime) else start_of(starts, where.on(starts))
        end = ends if ends is None or isinstance(ends, datetime) else end_of(ends, where.on(ends), access_ends)
        if end is None or start < end:
            found.append(Grant(app, group, start, end, fact.event_id))
    return found


def entitlement_boundaries(granted: Iterable[Grant], at: datetime) -> list[Boundary]:
    """Every later instant at which one begins or ends."""
    found = []
    for one in granted:
        if one.start > at:
            found.append(Boundary("entitlement_start", one.start, one.event_id))
        if one.end is not None and one.end > at:
            found.append(Boundary("entitlement_end", one.end, one.event_id))
    return found
