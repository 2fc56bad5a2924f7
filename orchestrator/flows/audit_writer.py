"""Stamps audit entries with a writer's gapless sequence and makes them messages for the outbox.

The sequence is part of the transaction: `stamp` counts on from the last saved entry, and only `saved` moves it.
A transaction that failed leaves no gap, because its numbers are used again; one whose outcome is unknown ends the
epoch, because its numbers may or may not be taken.
"""

import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from schemas.audit import AuditEntry, AuditKind
from schemas.envelope import Headers, Message, timestamp
from schemas.topics import AUDIT_ENTRIES

_SPECVERSION: tuple[str, bytes] = ("ce_specversion", b"1.0")
_TYPE: tuple[str, bytes] = ("ce_type", AuditEntry.TYPE.encode())
_CONTENT: tuple[str, bytes] = ("content-type", b"application/json")


class Entry(NamedTuple):
    """An audit entry before it has a number. `details` never hold values of personal attributes."""

    kind: AuditKind
    at: datetime
    actor: str
    person_id: str | None = None
    app: str | None = None
    revision: int | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    policy: str | None = None
    details: Mapping[str, Any] | None = None


_OPTIONAL = Entry._fields[3:9]
"""person_id to policy: left out of the record where they are not known."""


def entry(kind: AuditKind, *, at: datetime, actor: str, **fields: Any) -> Entry:
    """An entry; see `schemas.audit.AuditEntry` for the fields."""
    return Entry(kind, at, actor, **fields)


def instance_name(role: str) -> str:
    """A name that no other process has: `role@host-pid-random`."""
    return f"{role}@{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


class AuditWriter:
    """One writer of one process. It is used by one transaction at a time."""

    def __init__(self, role: str, now: datetime) -> None:
        self.name = instance_name(role)
        self._epoch = int(now.timestamp() * 1000)
        self._sequence = 0
        self._source: tuple[str, bytes] = ("ce_source", f"jml/{self.name}".encode())

    def stamp(self, entries: Sequence[Entry]) -> list[Message]:
        """The entries as messages, numbered on from the last saved one."""
        times: dict[datetime, str] = {}
        messages = []
        for sequence, one in enumerate(entries, self._sequence + 1):
            at = times.get(one.at) or times.setdefault(one.at, timestamp(one.at))
            messages.append(self._message(one, sequence, at))
        return messages

    def saved(self, entries: int) -> None:
        """The transaction with that many entries is committed."""
        self._sequence += entries

    def lost(self) -> None:
        """Nobody knows whether the transaction was committed: a new epoch begins."""
        self._epoch += 1
        self._sequence = 0

    def _message(self, one: Entry, sequence: int, at: str) -> Message:
        entry_id = f"{self.name}/{self._epoch}/{sequence}"
        body: dict[str, Any] = {
            "id": entry_id,
            "writer": self.name,
            "epoch": self._epoch,
            "sequence": sequence,
            "at": at,
            "kind": one.kind.value,
            "actor": one.actor,
        }
        body.update({name: value for name, value in zip(_OPTIONAL, one[3:9], strict=True) if value is not None})
        if one.details:
            body["details"] = one.details
        headers: Headers = (
            _CONTENT,
            _SPECVERSION,
            ("ce_id", entry_id.encode()),
            self._source,
            _TYPE,
            ("ce_time", at.encode()),
        )
        return Message(AUDIT_ENTRIES, (one.person_id or "").encode(), orjson.dumps(body), headers)
