"""Recomputes everything: every leaf, every tile, every root that was ever signed, and what the entries say."""

import base64
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from orchestrator.adapters.audit_verify.folder import LogFolder
from orchestrator.domain.audit_checks import (
    BUNDLE,
    CHECKS,
    CUT,
    FROM,
    HISTORY,
    JOURNAL,
    KEPT,
    NEWEST,
    ORIGIN,
    REJECTED,
    ROOT,
    SIGNATURE,
    TILE,
    WITNESS,
    Check,
    EntryChecks,
    Findings,
    Problem,
)
from orchestrator.domain.merkle import HEIGHT, WIDTH, Edge, leaf_hash
from orchestrator.domain.signed_note import NoteError, VerifierKey, parse_note, signers
from orchestrator.domain.tlog import (
    HASH_BYTES,
    WITNESSED,
    Checkpoint,
    Damaged,
    frame_after,
    parse_checkpoint,
    parse_journal,
)
from orchestrator.domain.tlog import (
    REJECTED as REJECTED_FILE,
)

Progress = Callable[[int, int], None]
"""Told how many entries are done, and how many there are."""
PROGRESS_BUNDLES = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it. Good when there is no problem."""

    entries: int
    """All of them, those too that no checkpoint covers yet."""
    size: int
    root: str
    origin: str
    signed_by: str
    checkpoints: int
    writers: int
    first: datetime | None
    last: datetime | None
    witnesses: tuple[str, ...]
    compared: tuple[str, ...]
    """What of other hands it was held against: `from`, `witness`, `topic`. The log alone cannot tell that it is not an
    old state of itself."""
    problems: tuple[Problem, ...]
    problems_total: int
    notes: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.problems_total == 0

    @property
    def summary(self) -> str:
        """One line that a person understands."""
        if not self.good:
            more = f" and {self.problems_total - 1} more" if self.problems_total > 1 else ""
            return f"NOT GOOD: the audit log of {self.entries:,} entries cannot be relied on. {self.problems[0]}{more}"
        if not self.entries:
            return "GOOD: the audit log is empty, and nothing says that it ever was not"
        witnessed = f", witnessed by {', '.join(self.witnesses)}" if self.witnesses else ""
        open_ = f" ({self.entries - self.size:,} of them not signed yet)" if self.entries > self.size else ""
        span = f"from {self.first:%Y-%m-%d %H:%M:%SZ} to {self.last:%Y-%m-%d %H:%M:%SZ}"
        signed = f"signed by {self.signed_by}{witnessed}" if self.signed_by else "nothing of it is signed yet"
        good = f"GOOD: all {self.entries:,} entries{open_} {span} are there, in their order, unchanged; {signed}"
        return good if self.compared else f"{good}; {UNCOMPARED}"


UNCOMPARED = (
    "not excluded without --from, --witness-key or --topic: an old state put back, or a log written anew with the key"
)
"""A signed log is one that the key's holder has made, and nothing in it says that there is no newer or older one."""


class _Expected(NamedTuple):
    """A root that the tree has to have at a size, by a checkpoint that `check` is about."""

    size: int
    root: bytes
    check: Check
    what: str


def verify(
    folder: Path,
    keys: Sequence[VerifierKey],
    *,
    since: bytes | None = None,
    witnesses: Sequence[VerifierKey] = (),
    checks: Collection[Check] = CHECKS,
    progress: Progress = lambda done, total: None,
) -> Verdict:
    """Verify the log in `folder`. `since` is a checkpoint from another place and time that it has to continue."""
    return _Verification(folder, keys, Findings(checks), progress).run(since, witnesses)


class _Verification:
    def __init__(self, folder: Path, keys: Sequence[VerifierKey], findings: Findings, progress: Progress) -> None:
        self._log = LogFolder(folder)
        self._keys = keys
        self._findings = findings
        self._progress = progress
        self._checks = EntryChecks(findings)
        self._edge = Edge()
        self._expected: list[_Expected] = []
        self._broken: set[str] = set()
        self._previous = 0
        self._checkpoints = 0

    def run(self, since: bytes | None, witnesses: Sequence[VerifierKey]) -> Verdict:
        """All of it, in one pass over the entries."""
        history = self._history(self._log.history())
        self._next = next(history, None)
        held, data = self._log.held(), self._log.checkpoint()
        newest, signed_by = self._newest(data)
        self._expected = sorted([*self._since(since), *self._witnessed(witnesses)])
        there = min(newest.size, self._log.held())  # a checkpoint that nobody signed may say any size
        for number in range(-(-there // WIDTH)):
            self._bundle(history, number, newest.size)
            if number % PROGRESS_BUNDLES == 0:
                self._progress(self._edge.size, newest.size)
        if self._edge.size < newest.size:
            missing = f"the checkpoint is of {newest.size} entries, and no file holds those from {self._edge.size} on"
            self._findings.add(BUNDLE, missing, self._edge.size)
        self._partial_tiles()
        if newest.origin and self._edge.root() != newest.root:
            self._findings.add(
                ROOT, f"the entries do not have the root of the checkpoint: {self._between(newest.size)}"
            )
        journal = self._journal(newest.size)
        self._extend(history, [leaf_hash(entry) for entry in journal])
        for position, entry in enumerate(journal, newest.size):
            self._checks.see(position, entry)
        self._too_large(history)
        self._left_over(held, data)
        if self._checks.suspects():
            self._checks.clear(self._log.entries())
        self._checks.finish()
        if newest.origin and not self._is_kept(newest.size):
            self._findings.add(
                KEPT, "the newest checkpoint is not among the kept ones: their file was cut, or taken away"
            )
        self._rejected()
        findings = self._findings
        return Verdict(
            entries=self._edge.size,
            size=newest.size,
            root=base64.b64encode(newest.root).decode(),
            origin=newest.origin,
            signed_by=signed_by,
            checkpoints=self._checkpoints,
            writers=self._checks.writers,
            first=self._checks.first,
            last=self._checks.last,
            witnesses=tuple(key.name for key in witnesses),
            compared=(*(("from",) if since is not None else ()), *(("witness",) if witnesses else ())),
            problems=tuple(findings.problems),
            problems_total=findings.total,
            notes=tuple(findings.notes),
        )

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _newest(self, data: bytes | None) -> tuple[Checkpoint, str]:
        nothing = Checkpoint("", 0, b"")
        if data is None:
            if not self._log.journal(0):
                gone = "checkpoints were signed and the newest one is gone"
                nothing_there = "there is no checkpoint and no entry: this is no audit log, or all of it was taken away"
                self._findings.add(SIGNATURE, nothing_there if self._next is None else gone)
            return nothing, ""
        try:
            note = parse_note(data)
            checkpoint = parse_checkpoint(note.text)
        except NoteError as error:
            self._findings.add(SIGNATURE, f"the newest checkpoint is damaged: {error}")
            return nothing, ""
        signed_by = self._signed_by(SIGNATURE, "the newest checkpoint", data)
        if checkpoint.origin not in {key.name for key in self._keys}:
            self._findings.add(ORIGIN, f"the newest checkpoint is of {checkpoint.origin}, not of {self._keys[0].name}")
        return checkpoint, signed_by

    def _signed_by(self, check: Check, what: str, data: bytes) -> str:
        try:
            found = signers(parse_note(data), self._keys)
        except NoteError as error:
            self._findings.add(check, f"{what}: {error}")
            return ""
        if not found:
            self._findings.add(check, f"{what} is not signed by {' or '.join(map(str, self._keys)) or 'any key'}")
            return ""
        return str(found[0])

    def _history(self, notes: Iterator[bytes]) -> Iterator[_Expected]:
        """The kept checkpoints, as the tree has to be at their sizes; those that cannot be used are named."""
        last = -1
        for number, data in enumerate(notes):
            what = f"kept checkpoint {number}"
            try:
                checkpoint = parse_checkpoint(parse_note(data).text)
            except NoteError as error:
                self._findings.add(HISTORY, f"{what} is damaged: {error}")
                continue
            self._signed_by(HISTORY, f"{what} of {checkpoint.size} entries", data)
            if checkpoint.size < last:
                self._findings.add(HISTORY, f"{what} of {checkpoint.size} entries comes after one of {last}")
                continue
            last = checkpoint.size
            self._checkpoints += 1
            yield _Expected(checkpoint.size, checkpoint.root, HISTORY, f"{what} of {checkpoint.size} entries")

    def _is_kept(self, size: int) -> bool:
        """Looked at anew: the log may have been written meanwhile."""
        for data in self._log.history():
            try:
                if parse_checkpoint(parse_note(data).text).size == size:
                    return True
            except NoteError:
                continue
        return False

    def _since(self, data: bytes | None) -> Iterator[_Expected]:
        if data is None:
            return
        try:
            checkpoint = parse_checkpoint(parse_note(data).text)
        except NoteError as error:
            self._findings.add(FROM, f"the checkpoint to start from is damaged: {error}")
            return
        self._signed_by(FROM, "the checkpoint to start from", data)
        yield _Expected(checkpoint.size, checkpoint.root, FROM, f"the checkpoint to start from, of {checkpoint.size}")

    def _witnessed(self, keys: Sequence[VerifierKey]) -> Iterator[_Expected]:
        for key in keys:
            data = self._log.read(f"{WITNESSED}/{key.id.hex()}")
            if data is None:
                self._findings.add(WITNESS, f"there is no checkpoint that {key.name} signed")
                continue
            try:
                note = parse_note(data)
                checkpoint = parse_checkpoint(note.text)
                if not key.signed(note):
                    self._findings.add(WITNESS, f"{key.name} did not sign the checkpoint that is said to be its")
            except NoteError as error:
                self._findings.add(WITNESS, f"the checkpoint of {key.name}: {error}")
                continue
            yield _Expected(checkpoint.size, checkpoint.root, WITNESS, f"what {key.name} signed, of {checkpoint.size}")

    # --- the tree -----------------------------------------------------------------------------------------------------

    def _bundle(self, history: Iterator[_Expected], number: int, size: int) -> None:
        width = min(WIDTH, size - number * WIDTH)
        first = number * WIDTH
        try:
            tile = self._log.tile(0, number, width)
        except Damaged as error:
            self._findings.add(TILE, f"{error} (entries {first} to {first + width - 1})", first)
            tile = b""
        try:
            entries = self._log.bundle(number, size)
        except Damaged as error:
            self._findings.add(BUNDLE, f"{error}; entries {first} to {first + width - 1} cannot be read", first)
            leaves = [tile[place : place + HASH_BYTES] for place in range(0, len(tile), HASH_BYTES)]
            self._extend(history, leaves or [b"\0" * HASH_BYTES] * width)
            return
        leaves = [leaf_hash(entry) for entry in entries]
        if tile and b"".join(leaves) != tile:
            for offset, leaf in enumerate(leaves):
                if leaf != tile[offset * HASH_BYTES : (offset + 1) * HASH_BYTES]:
                    entry_id = _id_of(entries[offset])
                    self._findings.add(
                        TILE, "it is not the entry that its tile has the hash of", first + offset, entry_id
                    )
        self._extend(history, leaves)
        see = self._checks.see
        for position, entry in enumerate(entries, first):
            see(position, entry)

    def _extend(self, history: Iterator[_Expected], leaves: list[bytes]) -> None:
        """Grow the tree, and stop wherever somebody signed its root."""
        done, start = 0, self._edge.size
        end = start + len(leaves)
        while (size := self._stop(end)) is not None:
            self._grow(leaves[done : size - start])
            done = size - start
            self._look(history, size)
        self._grow(leaves[done:])

    def _stop(self, end: int) -> int | None:
        sizes = [one.size for one in (self._next, *self._expected[:1]) if one is not None and one.size <= end]
        return min(sizes, default=None)

    def _look(self, history: Iterator[_Expected], size: int) -> None:
        root = self._edge.root()
        while self._next is not None and self._next.size <= size:
            self._compare(self._next, root)
            self._next = next(history, None)
        while self._expected and self._expected[0].size <= size:
            self._compare(self._expected.pop(0), root)

    def _compare(self, expected: _Expected, root: bytes) -> None:
        if expected.size == self._edge.size and expected.root == root:
            if expected.check is HISTORY:
                self._previous = expected.size
        elif expected.check.name not in self._broken:  # once it is wrong, it is wrong for all that follow
            if expected.check is HISTORY:
                self._broken.add(expected.check.name)
            self._findings.add(expected.check, f"{expected.what}, is of another tree: {self._between(expected.size)}")

    def _between(self, size: int) -> str:
        return f"something between entry {self._previous} and entry {max(size - 1, self._previous)} is not what it was"

    def _grow(self, leaves: list[bytes]) -> None:
        for level, index, hashes in self._edge.extend(leaves):
            if level:  # level 0 was compared entry by entry
                self._tile(level, index, hashes)

    def _tile(self, level: int, index: int, hashes: Sequence[bytes]) -> None:
        span = WIDTH << HEIGHT * level
        try:
            same = self._log.tile(level, index, len(hashes)) == b"".join(hashes)
        except Damaged as error:
            self._findings.add(TILE, str(error), index * span)
            return
        if not same:
            last = min((index + 1) * span, self._edge.size) - 1
            self._findings.add(
                TILE, f"level {level}, tile {index} is wrong: entries {index * span} to {last}", index * span
            )

    def _partial_tiles(self) -> None:
        for level, hashes in enumerate(self._edge.levels):
            if level and hashes:
                self._tile(level, self._edge.size >> HEIGHT * (level + 1), hashes)

    def _too_large(self, history: Iterator[_Expected]) -> None:
        """What was signed over more entries than there are: the log was cut, or an old state was put back."""
        while self._next is not None:
            text = f"{self._next.what} was signed and there are only {self._edge.size}: the log was cut"
            self._findings.add(NEWEST, text)
            self._next = next(history, None)
        for one in self._expected:
            self._findings.add(one.check, f"{one.what}: there are only {self._edge.size}: the log was cut")

    def _left_over(self, held: int, checkpoint: bytes | None) -> None:
        """Bundles are written after the journal and before the checkpoint: more than both can only be of a log that
        was larger. A log that is being written has them too, and its checkpoint is another one by now."""
        if held > self._edge.size and self._log.checkpoint() == checkpoint:
            self._findings.add(
                CUT,
                f"there are files of {held} entries and the newest checkpoint is of fewer: an old one was put back,"
                " or the folder was copied while it was written (copy it while the auditor rests)",
                self._edge.size,
            )

    # --- beside the tree ----------------------------------------------------------------------------------------------

    def _journal(self, size: int) -> list[bytes]:
        data = self._log.journal(size)
        if data is None:
            self._findings.note(
                f"there is no journal: what came after the checkpoint of {size}, if anything did, is missing"
            )
            return []
        entries, whole = parse_journal(data, size)
        if whole < len(data):
            end = size + len(entries)
            if (position := frame_after(data, whole)) is not None:
                self._findings.add(JOURNAL, f"entries {end} to {position - 1} were damaged", end)
            else:
                self._findings.note(f"{len(data) - whole} bytes after entry {end - 1} were being written")
        return entries

    def _rejected(self) -> None:
        """Each record that an entry says was rejected has to be there, byte for byte."""
        wanted = dict(self._checks.rejected)
        for line in (self._log.read(REJECTED_FILE) or b"").splitlines():
            try:
                kept: dict[str, Any] = orjson.loads(line)
                digest = sha256(kept["record"].encode("latin-1")).hexdigest()
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
            wanted.pop(digest, None)
        for digest, position in wanted.items():
            self._findings.add(REJECTED, f"the record {digest[:16]} that was rejected is not kept", position)
        if rejected := len(self._checks.rejected):
            self._findings.note(f"{rejected} records could not become entries: see {REJECTED_FILE}")


def _id_of(entry: bytes) -> str | None:
    try:
        found = orjson.loads(entry)["id"]
    except (KeyError, TypeError, ValueError):
        return None
    return found if isinstance(found, str) else None
