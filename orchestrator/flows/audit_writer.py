"""Stamps audit entries with a writer's gapless sequence and makes them messages for the outbox.

The sequence is part of the transaction: `stamp` counts on from the last saved entry, and only `saved` moves it.
A transaction that failed leaves no gap, because its numbers are used again; one whose outcome is unknown ends the
epoch, because its numbers may or may not be taken.

What is personal never stands in an entry as it is: the person is a subject id, values are sealed under the subject's
key, and identifiers that others made lose the worker id that they hold. See `domain.sealing`.
"""

import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from orchestrator.domain.sealing import SOMEBODY, Sealer, Subject, anonymous
from schemas.audit import AuditEntry, AuditKind
from schemas.envelope import Headers, Message, timestamp
from schemas.topics import AUDIT_ENTRIES

_SPECVERSION: tuple[str, bytes] = ("ce_specversion", b"1.0")
_TYPE: tuple[str, bytes] = ("ce_type", AuditEntry.TYPE.encode())
_CONTENT: tuple[str, bytes] = ("content-type", b"application/json")

MAX_SEALED_BYTES = 256 << 10
"""More is left out of an entry, and its size said instead. An HR record may have a mebibyte, and so may a record of
Kafka, entry and encoding included: what no broker takes would hold up everything behind it."""
_OPERATORS = "jml/operator/"


class Entry(NamedTuple):
    """An audit entry before it has a number. `details` never hold values of personal attributes, `sealed` does.

    Without a subject that has a key, `sealed` is left out.
    """

    kind: AuditKind
    at: datetime
    actor: str
    subject: Subject | None = None
    app: str | None = None
    revision: int | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    policy: str | None = None
    details: Mapping[str, Any] | None = None
    sealed: Mapping[str, Any] | None = None

    def behind(self, fence: int) -> "Entry":
        """With the version of the account's row that its transaction makes: it says which entry of an account is the
        newer one, whatever clocks say and whoever was published first."""
        return self._replace(details={**(self.details or {}), "fence": fence})


def actor_of(source: str) -> str:
    """Who caused an event, by its source: the source itself, `scheduler`, or `operator:NAME`."""
    if source == "jml/scheduler":
        return "scheduler"
    return f"operator:{source.removeprefix(_OPERATORS)}" if source.startswith(_OPERATORS) else source


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
        sealer = Sealer()
        return [self._message(one, sequence, sealer) for sequence, one in enumerate(entries, self._sequence + 1)]

    def saved(self, entries: int) -> None:
        """The transaction with that many entries is committed."""
        self._sequence += entries

    @property
    def has_saved(self) -> bool:
        """Whether a transaction with entries of its own was committed in this epoch."""
        return self._sequence > 0

    def wrote(self, message: Message) -> bool:
        """Whether the message is one of its entries."""
        return self._source in message.headers

    def lost(self) -> None:
        """Nobody knows whether the transaction was committed: a new epoch begins."""
        self._epoch += 1
        self._sequence = 0

    def _message(self, one: Entry, sequence: int, sealer: Sealer) -> Message:
        entry_id, at = f"{self.name}/{self._epoch}/{sequence}", timestamp(one.at)
        body: dict[str, Any] = {
            "id": entry_id,
            "writer": self.name,
            "epoch": self._epoch,
            "sequence": sequence,
            "at": at,
            "kind": one.kind,
            "actor": one.actor,
        }
        subject = one.subject
        if subject is not None and subject.id:
            body["subject"] = subject.id
        if one.app is not None:
            body["app"] = one.app
        if one.revision is not None:
            body["revision"] = one.revision
        name, stand_in = (subject.person_id, subject.id or SOMEBODY) if subject else (None, SOMEBODY)
        if one.event_id is not None:
            body["event_id"] = _anonymous(one.event_id, name, stand_in)
        if one.correlation_id is not None:
            body["correlation_id"] = _anonymous(one.correlation_id, name, stand_in)
        if one.policy is not None:
            body["policy"] = one.policy
        if one.details:
            body["details"] = one.details
        if one.sealed and subject is not None and subject.key is not None:
            values = orjson.dumps(one.sealed)
            if len(values) > MAX_SEALED_BYTES:
                values = orjson.dumps({"left_out_bytes": len(values)})
            body["sealed"] = sealer.seal(subject.key, entry_id, values)
        headers: Headers = (
            _CONTENT,
            _SPECVERSION,
            ("ce_id", entry_id.encode()),
            self._source,
            _TYPE,
            ("ce_time", at.encode()),
        )
        return Message(AUDIT_ENTRIES, subject.id.encode() if subject else b"", orjson.dumps(body), headers)


@lru_cache(maxsize=4096)
def _anonymous(text: str, person_id: str | None, stand_in: str) -> str:
    """The entries of one account, and of one event, name the same identifiers again and again."""
    return anonymous(text, person_id, stand_in)
