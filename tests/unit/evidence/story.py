"""Writes audit entries by hand, as the roles write them, and a keyring that opens them."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from orchestrator.evidence.entries import Recorded, recorded
from schemas.audit import AuditEntry
from schemas.envelope import timestamp

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ANN, BOB, EVE = "s-ann", "s-bob", "s-eve"
PEOPLE = {ANN: "4711", BOB: "4712", EVE: "4713"}


def at(minutes: float) -> datetime:
    """An instant of the story."""
    return START + timedelta(minutes=minutes)


class Story:
    """A log in the making. Every entry is held against the wire contract."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def tell(self, minutes: float, kind: str, subject: str | None = None, app: str | None = None, **more: Any) -> int:
        """One entry; what is no field of an entry is a detail. Returns its position."""
        number = len(self.entries) + 1
        body: dict[str, Any] = {
            "id": f"w/1/{number}",
            "writer": "w",
            "epoch": 1,
            "sequence": number,
            "at": timestamp(at(minutes)),
            "kind": kind,
            "actor": more.pop("actor", "hr/example"),
        }
        body |= {name: value for name, value in (("subject", subject), ("app", app)) if value is not None}
        body |= {name: more.pop(name) for name in tuple(more) if name in AuditEntry.model_fields}
        details = {name: timestamp(one) if isinstance(one, datetime) else one for name, one in more.items()}
        if details:
            body["details"] = details
        AuditEntry.model_validate(body)
        self.entries.append(orjson.dumps(body))
        return number - 1

    def issued(
        self, minutes: float, subject: str, app: str, revision: int, state: str, *groups: str, **more: Any
    ) -> None:
        """An event comes, and the resolver decides."""
        cause = {"event_id": more.pop("event_id", f"hr/example#{len(self.entries)}")}
        command = {"active": "create", "inactive": "deactivate", "absent": "delete"}[state]
        stated = {"type": more.pop("type", "jml.worker.snapshot.v1"), "stated_at": at(minutes)}
        transition = more.pop("transition", "joiner" if state == "active" else "leaver")
        self.tell(minutes, "event_received", subject, **cause, **stated)
        self.tell(minutes, "person_resolved", subject, transition=transition, status=state, **cause)
        self.tell(
            minutes,
            "command_issued",
            subject,
            app,
            revision=revision,
            policy="p1",
            correlation_id=f"case-{revision}",
            command=more.pop("command", command),
            state=state,
            groups=list(groups),
            effective_at=more.pop("effective_at", at(minutes)),
            **cause,
        )

    def applied(self, minutes: float, subject: str, app: str, revision: int, state: str, **more: Any) -> None:
        """The connector intends, calls, and is done."""
        self.tell(minutes - 0.1, "call_intended", subject, app, revision=revision)
        calls = {
            "active": [["POST", "/Users", 201]],
            "inactive": [["PATCH", "/Users/{account}", 200], ["GET", "/Users/{account}", 200]],
            "absent": [["DELETE", "/Users/{account}", 204]],
        }[state]
        if state != "active":
            more.setdefault("verified_at", at(minutes))
        more.setdefault("calls", calls)
        self.tell(minutes, "command_applied", subject, app, revision=revision, state=state, **more)

    def read(self) -> Iterator[Recorded]:
        """The log as readers get it."""
        return recorded(enumerate(self.entries))


class Keys:
    """A keyring for which sealing is writing in brackets."""

    answers = True

    def __init__(self, erased: tuple[str, ...] = ()) -> None:
        self.asked: set[str] = set()
        self._people = {subject: person for subject, person in PEOPLE.items() if subject not in erased}

    def know(self, subjects: Iterable[str]) -> None:
        """See `Keyring`."""
        self.asked |= set(subjects)

    def person_of(self, subject: str) -> str | None:
        """See `Keyring`."""
        return self._people.get(subject)

    def subject_of(self, person_id: str) -> str | None:
        """See `Keyring`."""
        return {person: subject for subject, person in self._people.items()}.get(person_id)

    def open(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Keyring`."""
        if entry.get("subject") not in self._people or not entry.get("sealed"):
            return {}
        opened: dict[str, Any] = orjson.loads(entry["sealed"][1:-1])
        return opened


def seal(**values: Any) -> str:
    """What `Keys` opens."""
    return f"[{orjson.dumps(values).decode()}]"
