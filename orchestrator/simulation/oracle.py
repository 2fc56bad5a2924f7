"""The ground truth: who must be active where, read from the list of events and from nothing else.

It shares no code with the domain and is short enough to check by reading. Days are in one zone for everybody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that a source stated. `kind` is the short name of the event, `data` its body."""

    id: str
    person: str
    kind: str
    stated: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a person must have in the end: access by application, the title, the group."""

    active: Mapping[str, bool]
    title: str
    department: str


def expected(told: Iterable[Told], now: datetime, zone: ZoneInfo) -> dict[str, Expected]:
    """By person, once everything told has been taken in, in whatever order it came."""
    people: dict[str, list[Told]] = {}
    for one in sorted(told, key=lambda one: one.stated):
        people.setdefault(one.person, []).append(one)
    return {person: _expected(story, now, zone) for person, story in people.items()}


def titles(told: Iterable[Told], zone: ZoneInfo) -> dict[str, list[str]]:
    """By person, the titles in the order in which each is to replace the one before."""
    ordered: dict[str, list[str]] = {}
    for one in sorted(told, key=lambda one: (_effective(one, zone), one.stated)):
        if title := one.data.get("attributes", {}).get("title"):
            ordered.setdefault(one.person, []).append(title)
    return ordered


def _expected(story: list[Told], now: datetime, zone: ZoneInfo) -> Expected:
    starts = {one.data["engagement_id"]: one.data["start_date"] for one in story if "start_date" in one.data}
    ends: dict[str, date | None] = {}
    contract_ends: dict[str, date | None] = {}
    for one in story:
        if "contract_end" in one.data:
            contract_ends[one.data["engagement_id"]] = one.data["contract_end"]
        if "last_day" in one.data:
            day = one.data["last_day"]
            begun = [start for start in starts.values() if day is None or start <= day]
            named = one.data.get("engagement_id") or next(e for e, start in starts.items() if start == max(begun))
            ends[named] = day
    engaged = any(
        _midnight(start, zone) <= now
        and all(
            end is None or now < _midnight(end + timedelta(days=1), zone) for end in (ends.get(e), contract_ends[e])
        )
        for e, start in starts.items()
    )
    state: dict[str, Any] = {}
    for one in sorted(story, key=lambda one: (_effective(one, zone), one.stated)):
        if _effective(one, zone) <= now:
            state.update(one.data.get("attributes", {}))
            state.update(_FLAGS.get(one.kind, {}))
    access = engaged and not state.get("blocked")
    return Expected(
        active={
            "directory": access,
            "code": access and not state.get("away") and state["department"] == "eng",
        },
        title=state.get("title", ""),
        department=state.get("department", ""),
    )


_FLAGS = {
    "idp_disabled": {"blocked": True},
    "idp_enabled": {"blocked": False},
    "absence_started": {"away": True},
    "absence_ended": {"away": False},
}


def _effective(one: Told, zone: ZoneInfo) -> datetime:
    day = one.data.get("effective") or one.data.get("start_date")
    return _midnight(day, zone) if day else one.stated


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone)
