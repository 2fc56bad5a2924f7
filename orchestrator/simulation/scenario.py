"""People's lives, drawn from a seed: what HR and the identity provider tell, when, and in which disorder it arrives."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson

from orchestrator.simulation.oracle import Told
from schemas.changes import (
    Change,
    ContractChanged,
    IdpAccountDisabled,
    IdpAccountEnabled,
    LeaveOfAbsenceEnded,
    LeaveOfAbsenceStarted,
    WorkerJoined,
    WorkerLeft,
    WorkerMoved,
    WorkerRehired,
)
from schemas.envelope import Envelope, Message
from schemas.topics import HR_EVENTS, IDP_EVENTS

START = datetime(2026, 3, 2, tzinfo=UTC)
FIRST_DAY = START.date()
DAYS = 14
"""Everything that was told has come true by then."""

NAME, MAIL, TOKEN = "Canary Name", "canary.mail", "canary-token"
"""What must never be seen where operators look: it is in every person's attributes, and in what applications answer."""

_TYPES: dict[str, type[Change]] = {
    "joined": WorkerJoined,
    "rehired": WorkerRehired,
    "moved": WorkerMoved,
    "left": WorkerLeft,
    "absence_started": LeaveOfAbsenceStarted,
    "absence_ended": LeaveOfAbsenceEnded,
    "contract_changed": ContractChanged,
    "idp_disabled": IdpAccountDisabled,
    "idp_enabled": IdpAccountEnabled,
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as it reaches the broker, so many days after the start."""

    day: float
    message: Message


@dataclass
class Life:
    """One person while the story is being made up."""

    person: str
    chance: random.Random
    told: list[Told] = field(default_factory=list)
    engagements: dict[str, date] = field(default_factory=dict)
    end: date | None = None
    contractor: bool = False
    away: bool = False
    blocked: bool = False

    def tell(self, day: float, kind: str, /, **data: Any) -> None:
        """One statement at an instant that no other statement of the person has."""
        stated = START + timedelta(days=day) + timedelta(microseconds=len(self.told))
        # Not the worker id by itself: the log would put its own name of the person in its place.
        self.told.append(Told(f"of{self.person}-{len(self.told)}", self.person, kind, stated, data))

    def begin(self, day: float) -> None:
        """A first or further engagement; some begin in the future, some were told late."""
        today = FIRST_DAY + timedelta(days=int(day))
        start = today + timedelta(days=self.chance.choice([-2, 0, 0, 1, 2]))
        if self.engagements:
            assert self.end is not None
            start = max(start, self.end + timedelta(days=1))
        self.contractor = self.chance.random() < 0.4
        end = start + timedelta(days=self.chance.randint(1, 8)) if self.contractor else None
        number = f"e{len(self.engagements)}"
        kind = "rehired" if self.engagements and self.chance.random() < 0.7 else "joined"
        self.tell(
            day,
            kind,
            engagement_id=number,
            kind="contractor" if self.contractor else "employee",
            start_date=start,
            contract_end=end,
            attributes=self.attributes(),
        )
        self.engagements[number] = start
        self.end = end

    def attributes(self) -> dict[str, str]:
        """A title that was never used before, and a department."""
        title = f"{self.person} title {len(self.told):02}"
        return personal(self.person, title, self.chance.choice(["eng", "eng", "sales"]))

    def go_on(self, day: float) -> None:
        """One more event."""
        today = FIRST_DAY + timedelta(days=int(day))
        latest = max(self.engagements)
        over = self.end is not None and self.end < today
        act = self.chance.choice(["move", "move", "leave", "absence", "contract", "convert", "idp", "return"])
        if act == "move" or (act == "return" and not over):
            later = (
                {"effective": today + timedelta(days=self.chance.randint(1, 2))} if self.chance.random() < 0.3 else {}
            )
            self.tell(day, "moved", attributes=self.attributes(), **later)
        elif act == "return":
            self.begin(day)
        elif act == "leave":
            self._leave(day, today, latest)
        elif act == "absence":
            self.away = not self.away
            self.tell(day, "absence_started" if self.away else "absence_ended")
        elif act == "idp":
            self.blocked = not self.blocked
            self.tell(day, "idp_disabled" if self.blocked else "idp_enabled")
        elif act == "convert":
            self.tell(
                day, "contract_changed", engagement_id=latest, kind=self.chance.choice(["employee", "contractor"])
            )
        elif self.contractor:
            end = self.engagements[latest] + timedelta(days=self.chance.randint(0, 10))
            self.tell(day, "contract_changed", engagement_id=latest, contract_end=end)
            self.end = max(self.end or end, end)

    def _leave(self, day: float, today: date, latest: str) -> None:
        last_day = max(today + timedelta(days=self.chance.randint(-1, 2)), self.engagements[latest])
        named = self.chance.random() < 0.6
        self.tell(day, "left", last_day=last_day, **({"engagement_id": latest} if named else {}))
        self.end = max(self.end or last_day, last_day)
        if named and self.chance.random() < 0.15:
            self.tell(day + 0.2, "left", last_day=None, engagement_id=latest)
            self.end = date.max - timedelta(days=400) if not self.contractor else self.end


def personal(person: str, title: str, department: str) -> dict[str, str]:
    """The attributes of a person."""
    return {
        "title": title,
        "department": department,
        "display_name": f"{NAME} {person}",
        "email": f"{MAIL}.{person}@example.com",
    }


def unreadable(chance: random.Random, people: int) -> list[Arrival]:
    """Records that nobody can read, each with a name where it is broken; some come again, as further records."""
    found: list[Arrival] = []
    for number in range(chance.choice([0, 1, 2, 3])):
        day, person = chance.uniform(0, DAYS - 5), f"p{chance.randrange(people)}"
        body = {"worker_id": person, "attributes": {"display_name": f"{NAME} {person}"}}
        headers = Envelope(f"broken{number}", "hr", WorkerMoved.TYPE, START, person).headers()
        value = orjson.dumps(body)
        what = chance.choice(["cut off", "unknown field", "wrong value", "no time", "tombstone"])
        if what == "cut off":
            value = value[:-3]
        elif what == "unknown field":
            value = orjson.dumps({**body, f"{NAME} {person}": f"{MAIL}.{person}"})
        elif what == "wrong value":
            value = orjson.dumps({"worker_id": f"{NAME} {person}", "attributes": {"title": [MAIL]}})
        elif what == "no time":
            headers = tuple((name, text) if name != "ce_time" else (name, MAIL.encode()) for name, text in headers)
        else:
            value = b""
        record = Message(HR_EVENTS, person.encode(), value, headers)
        found += [Arrival(day, record)] * chance.choice([1, 1, 2])
    return found


def lives(chance: random.Random, people: int) -> list[Told]:
    """Everything that is told of `people` persons."""
    told: list[Told] = []
    for number in range(people):
        life = Life(f"p{number}", chance)
        day = chance.uniform(0, 3)
        life.begin(day)
        for _ in range(chance.randint(1, 6)):
            day += chance.uniform(0.1, 2.5)
            if day > DAYS - 5:
                break
            life.go_on(day)
        told += life.told
    return told


def arrivals(chance: random.Random, told: list[Told]) -> Iterator[Arrival]:
    """The messages in the order in which they arrive: some late and so out of order, some more than once."""
    found: list[Arrival] = []
    for one in told:
        day = (one.stated - START) / timedelta(days=1) + chance.uniform(0, 0.2)
        if chance.random() < 0.15:
            day += chance.uniform(0.2, 3)
        found.append(Arrival(day, message(one)))
        while chance.random() < 0.1:
            found.append(Arrival(day + chance.choice([0.0, chance.uniform(0, 4)]), message(one)))
    yield from sorted(found, key=lambda arrival: arrival.day)


def message(one: Told) -> Message:
    """What is told, on its topic."""
    change = _TYPES[one.kind].model_validate({"worker_id": one.person, **one.data})
    body = orjson.dumps(change.model_dump(mode="json", exclude_unset=True))
    idp = one.kind.startswith("idp")
    envelope = Envelope(one.id, "idp" if idp else "hr", change.TYPE, one.stated, one.person, data=body)
    return Message(IDP_EVENTS if idp else HR_EVENTS, one.person.encode(), body, envelope.headers())
