"""Made-up people and their events, as JSON that HR systems of ordinary verbosity send."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson

from schemas.changes import WorkerJoined, WorkerLeft, WorkerMoved
from schemas.envelope import Envelope, Message
from schemas.topics import HR_EVENTS

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
DEPARTMENTS = [f"Department {number}" for number in range(40)]


def joiner(number: int) -> Message:
    """Person `number` is hired; one in five is a contractor with an end a year ahead."""
    data = {
        "worker_id": f"W{number:07}",
        "engagement_id": f"W{number:07}-1",
        "kind": "contractor" if number % 5 == 0 else "employee",
        "start_date": "2026-01-05",
        "contract_end": "2999-01-31" if number % 5 == 0 else None,
        "attributes": {
            "given_name": f"Given{number % 977}",
            "family_name": f"Family{number % 4999}",
            "display_name": f"Given{number % 977} Family{number % 4999}",
            "user_name": f"user.{number}@example.com",
            "email": f"user.{number}@example.com",
            "department": DEPARTMENTS[number % len(DEPARTMENTS)],
            "title": "Engineer",
            "cost_center": f"C{number % 100}",
            "location": "Melbourne",
            "time_zone": "Australia/Melbourne",
        },
    }
    return _message(number, "joined", WorkerJoined.TYPE, START, data)


def mover(number: int) -> Message:
    """Person `number` gets another department and title."""
    data = {
        "worker_id": f"W{number:07}",
        "attributes": {"department": DEPARTMENTS[(number + 7) % len(DEPARTMENTS)], "title": "Senior Engineer"},
    }
    return _message(number, "moved", WorkerMoved.TYPE, START + timedelta(days=1), data)


def leaver(number: int) -> Message:
    """Person `number` leaves; the last day is over."""
    data = {"worker_id": f"W{number:07}", "engagement_id": f"W{number:07}-1", "last_day": "2026-01-09"}
    return _message(number, "left", WorkerLeft.TYPE, START + timedelta(days=2), data)


def events(count: int, first: int = 0) -> Iterator[Message]:
    """`count` events: half of them hires, then a move of each of those people."""
    people = (count + 1) // 2
    for number in range(first, first + people):
        yield joiner(number)
    for number in range(first, first + count - people):
        yield mover(number)


def _message(number: int, what: str, kind: str, time: datetime, data: object) -> Message:
    worker = f"W{number:07}"
    envelope = Envelope(f"{worker}/{what}", "hr/bench", kind, time, subject=worker)
    return Message(HR_EVENTS, worker.encode(), orjson.dumps(data), envelope.headers())
