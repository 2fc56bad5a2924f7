"""The load: people's working lives as a seeded list of events, and what must be true of each in the end.

The expectation is computed from the events alone and shares no code with the domain; it is meant to be checked by
reading. All days are in UTC.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import orjson

from schemas.changes import WorkerJoined, WorkerLeft, WorkerMoved, WorkerRehired
from schemas.envelope import Envelope, Message
from schemas.topics import HR_EVENTS

SOURCE = "hr/chaos"
TYPES = {
    "joined": WorkerJoined.TYPE,
    "moved": WorkerMoved.TYPE,
    "left": WorkerLeft.TYPE,
    "rehired": WorkerRehired.TYPE,
}
STATED_AGO = timedelta(hours=1)
"""HR stated everything a while ago: an event that overtakes another one is not from the future."""

SPOILED_AT = datetime(2026, 1, 5, tzinfo=UTC)

CONTRACTORS, LEAVERS, REHIRES, MOVERS, DUPLICATES, REORDERED = 0.2, 0.3, 0.05, 0.35, 0.1, 0.1

HAVE_MORE = 0.52
"""Of the people, those with more than one event: only theirs can change places."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event. `offset` says how many seconds into the run it is published."""

    id: str
    person: str
    kind: str
    stated: datetime
    data: Mapping[str, Any]
    offset: float

    def message(self) -> Message:
        """As HR publishes it."""
        envelope = Envelope(self.id, SOURCE, TYPES[self.kind], self.stated, subject=self.person)
        body = orjson.dumps({"worker_id": self.person, **self.data})
        return Message(HR_EVENTS, self.person.encode(), body, envelope.headers())


@dataclass(frozen=True, slots=True)
class Expected:
    """A person at an instant."""

    engaged: bool
    title: str
    department: str

    def has_access(self, department: str | None) -> bool:
        """Whether an application for one department, or for everybody, lets the person in."""
        return self.engaged and department in (None, self.department)


def make_plan(seed: int, people: int, seconds: float, start: datetime, canary: str, *, prefix: str = "W") -> list[Told]:
    """Every publication in its order; a duplicate is there twice. Offsets begin at `start`."""
    chance = random.Random(f"load/{seed}/{prefix}")
    told: list[Told] = []
    for number in range(people):
        story = _Story(f"{prefix}{number:05}", chance, seconds, start, canary).tell()
        if len(story) > 1 and chance.random() < REORDERED / HAVE_MORE:
            place = chance.randrange(len(story) - 1)
            story[place : place + 2] = _swapped(*story[place : place + 2])
        told += story
    for one in list(told):
        if chance.random() < DUPLICATES:
            told.append(_at(one, min(one.offset + chance.uniform(0, seconds / 3), seconds)))
    return sorted(told, key=lambda one: one.offset)


def spoiled_records(seed: int, count: int, seconds: float, canary: str) -> list[tuple[float, Message]]:
    """Records that nobody can read, with their offsets; what makes them so is next to somebody's name."""
    chance = random.Random(f"spoiled/{seed}")
    bodies = [
        b'{"worker_id": "%s"' % canary.encode(),
        orjson.dumps({"worker_id": canary, "engagement_id": canary, "kind": canary, "start_date": canary}),
        orjson.dumps({"attributes": {"given_name": canary, "department": 7}, canary: canary}),
    ]
    records = []
    for number in range(count):
        envelope = Envelope(f"spoiled/{number}", SOURCE, WorkerJoined.TYPE, SPOILED_AT, subject=canary)
        message = Message(HR_EVENTS, f"spoiled/{number}".encode(), bodies[number % len(bodies)], envelope.headers())
        records.append((chance.uniform(0, seconds), message))
    return records


class _Story:
    """One person's events. What happens when is a share of the run, so that each step has time to take effect."""

    def __init__(self, person: str, chance: random.Random, seconds: float, start: datetime, canary: str) -> None:
        self._person, self._chance, self._seconds, self._start = person, chance, seconds, start
        self._canary = canary
        self._told: list[Told] = []
        self._now = 0.0

    def tell(self) -> list[Told]:
        chance, today = self._chance, self._start.date()
        self._now = chance.uniform(0, 0.4)
        contractor = chance.random() < CONTRACTORS
        begun = today - timedelta(days=chance.randrange(30, 400))
        end = chance.choice([today - timedelta(days=2), today + timedelta(days=300), today + timedelta(days=300)])
        over = contractor and end < today
        self._say(
            "joined",
            engagement_id=f"{self._person}-1",
            kind="contractor" if contractor else "employee",
            start_date=begun,
            contract_end=end if contractor else None,
            attributes=self._attributes(),
        )
        if chance.random() < MOVERS:
            for rank in range(1, chance.randrange(2, 4)):
                moved = {"title": f"Title {rank}"} | (
                    {"department": chance.choice(["eng", "ops"])} if chance.random() < 0.4 else {}
                )
                self._say("moved", attributes=moved)
        if not over and chance.random() < (0.6 if contractor else LEAVERS):
            self._leave(soon=contractor)
            if chance.random() < REHIRES / LEAVERS:
                self._say("rehired", engagement_id=f"{self._person}-2", start_date=today)
        return self._told

    def _leave(self, *, soon: bool) -> None:
        """A last day that is over, or an instant in the next seconds, which the scheduler has to see come."""
        self._now = min(self._now + self._chance.uniform(0.05, 0.2), 0.95)
        at = self._start + timedelta(seconds=self._now * self._seconds)
        if soon or self._chance.random() < 0.3:
            end: dict[str, Any] = {"ends_at": at + timedelta(seconds=self._chance.uniform(1, 6))}
        else:
            end = {"last_day": self._start.date() - timedelta(days=1)}
        self._say("left", engagement_id=f"{self._person}-1", **end)

    def _say(self, what: str, **data: Any) -> None:
        offset = self._now * self._seconds
        stated = self._start + timedelta(seconds=offset) - STATED_AGO
        # Not the worker id by itself: the log would put its own name of the person in its place, and the judge learns
        # from the ids of events who that is.
        event = f"of{self._person}/{len(self._told)}"
        self._told.append(Told(event, self._person, what, stated, data, offset))
        self._now = min(self._now + self._chance.uniform(0.03, 0.2), 0.98)

    def _attributes(self) -> dict[str, str]:
        unique = f"{self._canary}.{self._person.lower()}@example.com"
        return {
            "given_name": self._canary,
            "family_name": f"{self._canary}-{self._person}",
            "display_name": f"{self._canary} {self._person}",
            "user_name": unique,
            "email": unique,
            "department": self._chance.choice(["eng", "ops"]),
            "title": "Title 0",
        }


def _swapped(first: Told, second: Told) -> list[Told]:
    return [_at(first, second.offset), _at(second, first.offset)]


def _at(one: Told, offset: float) -> Told:
    return Told(one.id, one.person, one.kind, one.stated, one.data, offset)


def expected(told: Iterable[Told], now: datetime) -> dict[str, Expected]:
    """By person, once everything told has been taken in, in whatever order it came."""
    stories: dict[str, list[Told]] = {}
    for one in sorted(told, key=lambda one: one.stated):
        stories.setdefault(one.person, []).append(one)
    return {person: _expected(story, now) for person, story in stories.items()}


def _expected(story: list[Told], now: datetime) -> Expected:
    state: dict[str, str] = {}
    open_ones = set()
    for one in story:
        state.update(one.data.get("attributes", {}))
        if one.kind in ("joined", "rehired"):
            end = one.data.get("contract_end")
            if midnight(one.data["start_date"]) <= now and (end is None or now < after(end)):
                open_ones.add(one.data["engagement_id"])
    for one in story:
        if one.kind == "left" and end_of(one) <= now:
            open_ones.discard(one.data["engagement_id"])
    return Expected(bool(open_ones), state.get("title", ""), state.get("department", ""))


def end_of(left: Told) -> datetime:
    """The instant at which the access that a leaver has is over."""
    ends_at: datetime | None = left.data.get("ends_at")
    return ends_at if ends_at is not None else after(left.data["last_day"])


def midnight(day: date) -> datetime:
    """When the day begins."""
    return datetime.combine(day, time(), UTC)


def after(day: date) -> datetime:
    """When the day is over."""
    return midnight(day + timedelta(days=1))
