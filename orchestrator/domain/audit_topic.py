"""Compares the topic with the log, record by record: the log is the topic without what came twice.

Pure; fed with both in their order. Memory follows writers, not entries.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import orjson

from orchestrator.domain.audit_checks import TOPIC, Findings
from schemas.audit import AuditKind

_OWN = {AuditKind.AUDIT_CONFIGURED.value, AuditKind.ENTRY_REJECTED.value}
"""The auditor's entries about itself; they do not come through the topic."""


class TopicComparison:
    """Feed it with `see` in the order of offsets, then `finish`."""

    def __init__(self, findings: Findings, log: Iterator[tuple[int, bytes]]) -> None:
        self._findings = findings
        self._log = log
        self._seen: dict[tuple[str, int], list[list[int]]] = {}
        self._rejected: set[str] = set()
        self._waiting = 0
        self._lost = False
        self._next = self._following()
        self.records = 0

    def see(self, offset: int, record: bytes) -> None:
        """The next record of the topic."""
        self.records += 1
        if self._lost:
            return
        number = _number(record)
        if number is not None and self._known(*number):
            return
        if self._next is not None and self._next[1] == record and number is not None:
            self._note(*number)
            self._next = self._following()
        elif sha256(record).hexdigest() in self._rejected:
            return
        elif self._next is None:
            self._waiting += 1
        else:
            self._lost = True
            position, entry = self._next
            text = f"the topic has another record in its place, {_text(record)} at offset {offset}"
            self._findings.add(TOPIC, text, position, _text(entry))

    def finish(self) -> None:
        """What one has and the other lacks at the end."""
        if self._next is not None and not self._lost:
            position, entry = self._next
            self._findings.add(TOPIC, "the topic does not have it, nor what follows", position, _text(entry))
        if self._waiting:
            self._findings.note(f"{self._waiting} records of the topic are not in the log yet")

    def _following(self) -> tuple[int, bytes] | None:
        """The next entry of the log that came through the topic."""
        for position, entry in self._log:
            try:
                read = orjson.loads(entry)
                if read["kind"] not in _OWN or not read["writer"].startswith("auditor@"):
                    return position, entry
                if digest := read.get("details", {}).get("sha256"):
                    self._rejected.add(digest)
            except (KeyError, TypeError, ValueError, AttributeError):
                return position, entry
        return None

    def _known(self, writer: str, epoch: int, sequence: int) -> bool:
        return any(first <= sequence <= last for first, last in reversed(self._seen.get((writer, epoch), ())))

    def _note(self, writer: str, epoch: int, sequence: int) -> None:
        ranges = self._seen.setdefault((writer, epoch), [])
        if ranges and ranges[-1][1] + 1 == sequence:
            ranges[-1][1] = sequence
        else:
            ranges.append([sequence, sequence])


def _number(record: bytes) -> tuple[str, int, int] | None:
    try:
        entry: dict[str, Any] = orjson.loads(record)
        return str(entry["writer"]), int(entry["epoch"]), int(entry["sequence"])
    except (KeyError, TypeError, ValueError):
        return None


def _text(record: bytes) -> str:
    number = _number(record)
    return "/".join(map(str, number)) if number is not None else f"{len(record)} bytes that are no entry"
