"""A chaos run in which all is well, made by hand, and what such runs are made of."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from orchestrator.chaos.evidence import Deed, Evidence, State
from orchestrator.chaos.plan import Told

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def told(number: int, person: str, kind: str, **data: Any) -> Told:
    return Told(f"{person}/{number}", person, kind, START + timedelta(seconds=number), data, float(number))


def joined(person: str) -> Told:
    attributes = {"department": "eng", "title": "Title 0"}
    return told(0, person, "joined", engagement_id="1", start_date=date(2026, 1, 5), attributes=attributes)


def at(seconds: float) -> float:
    return START.timestamp() + seconds


def did(seconds: float, method: str, person: str, before: State | None, after: State | None, **more: Any) -> Deed:
    """A change of the one account that a person has."""
    path = "/Users" if method == "POST" else f"/Users/of-{person}"
    values = {"status": 201 if method == "POST" else 200, "account": f"of-{person}", "caller": "connector-1.1"} | more
    return Deed(at(seconds), method=method, path=path, person=person, before=before, after=after, **values)


def grouped(seconds: float, **members: Any) -> Deed:
    return Deed(at(seconds), "connector-1.1", "PATCH", "/Groups/g", 204, group="dept eng", account="g", **members)


def entry(seconds: float, kind: str, person: str, revision: int | None = None, **more: Any) -> dict[str, Any]:
    instant = (START + timedelta(seconds=seconds)).isoformat()
    app = {"app": "app0", "revision": revision} if revision else {}
    return {"kind": kind, "at": instant, "person_id": person, "writer": "w", "epoch": 1, **app, **more}


def numbered(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one | {"sequence": number} for number, one in enumerate(entries, 1)]


def journal(found: list[Deed]) -> list[dict[str, Any]]:
    return [{"method": one.method, "path": f"/scim/v2{one.path}", "status": one.status} for one in found]


NEW, MOVED, OUT = State(True, "Title 0"), State(True, "Title 1"), State(False, "Title 0")
EVENTS = [
    joined("W1"),
    told(1, "W1", "moved", attributes={"title": "Title 1"}),
    joined("W2"),
    told(2, "W2", "left", engagement_id="1", last_day=date(2026, 3, 1)),
]
DEEDS = [
    did(10, "POST", "W1", None, NEW),
    grouped(11, added=("of-W1",)),
    did(12, "PATCH", "W1", NEW, MOVED),
    did(20, "POST", "W2", None, NEW),
    grouped(21, added=("of-W2",)),
    Deed(at(22), "connector-1.1", "GET", "/Users", 429, "429 seconds", at(24)),
    did(25, "PATCH", "W2", NEW, OUT),
    grouped(26, removed=("of-W2",)),
]


def attempt(seconds: float, person: str, revision: int, command: str, call: str) -> list[dict[str, Any]]:
    """A command, its intent and its outcome."""
    state = "inactive" if command == "deactivate" else "active"
    return [
        entry(seconds, "command_issued", person, revision, details={"command": command}),
        entry(seconds + 0.5, "call_intended", person, revision),
        entry(seconds + 3, "command_applied", person, revision, details={"state": state, "calls": [[call, 200]]}),
    ]


ENTRIES = numbered(
    [
        *(entry(5, "event_received", one.person, event_id=f"hr/chaos#{one.id}") for one in EVENTS),
        *(entry(5, "person_resolved", one.person, event_id=f"hr/chaos#{one.id}") for one in EVENTS),
        *attempt(9, "W1", 1, "create", "POST"),
        *attempt(11.5, "W1", 2, "patch", "PATCH"),
        *attempt(19, "W2", 1, "create", "POST"),
        *attempt(24.4, "W2", 2, "deactivate", "PATCH"),
    ]
)
GOOD = Evidence(
    told=EVENTS,
    entries=ENTRIES,
    deeds={"app0": DEEDS},
    journals={"app0": journal(DEEDS)},
    departments={"app0": None},
    judged_at=START + timedelta(seconds=60),
    logs={"connector-1.log": b"started\nall is well\n"},
    canaries=("Canary", "canarytoken"),
)
