"""Compares the topics with the log: it is the topic of entries without what came twice, and it kept every checkpoint
that was published.

Pure; fed with both in their order. Memory follows writers and records that came twice, not entries.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any

import orjson

from orchestrator.domain.audit_checks import PUBLISHED, TOPIC, Findings
from orchestrator.domain.signed_note import NoteError, VerifierKey, parse_note, signers
from orchestrator.domain.tlog import parse_checkpoint
from schemas.audit import AuditKind

_OWN = {AuditKind.AUDIT_CONFIGURED.value, AuditKind.ENTRY_REJECTED.value}
"""The auditor's entries about itself; they do not come through the topic."""


class TopicComparison:
    """Say with `begins` where the topic does, feed it with `see` in the order of offsets, then `finish`.

    `log` gives the entries of the log, from its beginning, as often as it is called.
    """

    def __init__(self, findings: Findings, log: Callable[[], Iterator[tuple[int, bytes]]]) -> None:
        self._findings = findings
        self._entries = log
        self._log = log()
        self._seen: dict[tuple[str, int], list[list[int]]] = {}
        self._again: dict[bytes, tuple[int, str]] = {}
        self._rejected: set[str] = set()
        self._waiting = 0
        self._lost = self._headless = False
        self._next = self._following()
        self.records = 0

    def begins(self, offset: int) -> None:
        """At which offset the topic does, before its first record."""
        if offset > 0:
            self._headless = True
            self._findings.add(TOPIC, f"the topic begins at offset {offset}: what was before it was deleted")

    def see(self, offset: int, record: bytes) -> None:
        """The next record of the topic."""
        self.records += 1
        if self._lost:
            return
        number = _number(record)
        if self._headless:
            if number is None:  # nothing says where in the log it was rejected
                return
            self._headless = False
            self._skip_to(record)
        if number is not None and self._known(*number):
            self._again.setdefault(record, (offset, _text(record)))
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
        """What one has and the other lacks at the end, and what took the number of something else."""
        if self._next is not None and not self._lost:
            position, entry = self._next
            self._findings.add(TOPIC, "the topic does not have it, nor what follows", position, _text(entry))
        if self._again:
            for _, entry in self._entries():
                self._again.pop(entry, None)
        for offset, entry_id in self._again.values():
            text = (
                f"offset {offset} of the topic has another record with the number of {entry_id}, which the log has not"
            )
            self._findings.add(TOPIC, f"{text}: one of the two is not its writer's")
        if self._waiting:
            self._findings.note(f"{self._waiting} records of the topic are not in the log yet")

    def _skip_to(self, record: bytes) -> None:
        """Pass over the entries whose records were deleted; none where the log does not have this one."""
        for position, entry in self._entries():
            if entry == record:
                while self._next is not None and self._next[0] < position:
                    if (number := _number(self._next[1])) is not None:
                        self._note(*number)
                    self._next = self._following()
                return

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


class PublishedComparison:
    """Feed it with the records of the topic of checkpoints by `see`, then `finish`.

    `history` gives the checkpoints that the log kept, oldest first, as often as it is called. Whoever may write to the
    topic can put anything there: only what the keys signed counts, and only for the log `origin`.
    """

    def __init__(
        self, findings: Findings, history: Callable[[], Iterator[bytes]], origin: str, keys: Sequence[VerifierKey]
    ) -> None:
        self._findings = findings
        self._history = history
        self._origin = origin
        self._keys = keys
        self._kept = history()
        self._last: bytes | None = None
        self._size = -1
        self._missing: dict[bytes, tuple[int, int]] = {}
        self._published = 0
        self.checkpoints = 0
        self.strangers = 0

    def begins(self, offset: int) -> None:
        """At which offset the topic does, before its first record."""
        if offset > 0:
            text = f"the topic of checkpoints begins at offset {offset}: what was before it was deleted"
            self._findings.add(PUBLISHED, text)

    def see(self, offset: int, record: bytes) -> None:
        """The next record of the topic."""
        try:
            note = parse_note(record)
            checkpoint = parse_checkpoint(note.text)
            ours = checkpoint.origin == self._origin and bool(signers(note, self._keys))
        except NoteError:
            ours = False
        if not ours:
            self.strangers += 1
            return
        self.checkpoints += 1
        self._published = max(self._published, checkpoint.size)
        while self._size < checkpoint.size and (kept := next(self._kept, None)) is not None:
            self._last, self._size = kept, _size(kept, self._size)
        if record != self._last:  # or published late, by an auditor that was paused
            self._missing[record] = (offset, checkpoint.size)

    def finish(self) -> None:
        """What was published and not kept. Those that came late are looked for once more."""
        if self._missing:
            for kept in self._history():
                self._missing.pop(kept, None)
        for offset, size in self._missing.values():
            text = f"a checkpoint of {size} entries was published (offset {offset}) and is not among the kept ones"
            self._findings.add(PUBLISHED, f"{text}: the log was cut or written anew")
        for kept in self._kept:
            self._size = _size(kept, self._size)
        if self._size > self._published:
            newest = f"the newest one that was, is of {self._published}" if self._published else "none was so far"
            self._findings.note(f"the log's newest checkpoint, of {self._size} entries, is not published yet: {newest}")
        if self.strangers:
            self._findings.note(f"{self.strangers} records of the topic of checkpoints are not of this log")


def _size(note: bytes, otherwise: int) -> int:
    try:
        return parse_checkpoint(parse_note(note).text).size
    except NoteError:  # the check `history` names it
        return otherwise
