"""What has to be true of an audit log, as named checks, and those of them that the entries alone can tell.

Fed with every entry in the order of the log; memory follows writers and calls under way, not the number of entries.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson

from orchestrator.domain.wording import counted
from schemas.audit import AuditKind


class Check(NamedTuple):
    """Something that has to hold. Its name is stable."""

    name: str
    about: str


SIGNATURE = Check("signature", "the newest checkpoint can be read and is signed by the key")
ORIGIN = Check("origin", "the checkpoint is one of this log and of no other that the key signs")
ROOT = Check("root", "the entries have the root that the newest checkpoint says")
HISTORY = Check("history", "every checkpoint that was kept is signed and is one of this very tree")
KEPT = Check("kept", "the newest checkpoint is one of those that were kept")
NEWEST = Check("newest", "no checkpoint that was kept is larger than the log")
CUT = Check("cut", "no file is left of a log that was larger than the newest checkpoint and the journal say")
BUNDLE = Check("bundle", "every bundle holds the entries that belong into it, whole")
TILE = Check("tile", "every stored hash is the hash of what it stands for")
JOURNAL = Check("journal", "the entries that no checkpoint covers yet are whole")
FROM = Check("from", "the log continues the checkpoint that the auditor brought along")
WITNESS = Check("witness", "the log continues what the witness signed last")
ENTRY = Check("entry", "every entry is one")
ONCE = Check("once", "no entry is there twice")
GAP = Check("gap", "every writer's entries are there, numbered from 1 without a gap")
INTENT = Check("intent", "every call's outcome has its intent before it")
OUTCOME = Check("outcome", "every intent has an outcome, or was taken up again")
REJECTED = Check("rejected", "every record that was rejected is kept, as it came")
TOPIC = Check("topic", "the log holds what the topic holds, in its order")
PUBLISHED = Check("published", "every checkpoint that was published is one of those that were kept")
CHECKS = (
    SIGNATURE, ORIGIN, ROOT, HISTORY, KEPT, NEWEST, CUT, BUNDLE, TILE, JOURNAL, FROM, WITNESS, ENTRY, ONCE, GAP, INTENT,
    OUTCOME, REJECTED, TOPIC, PUBLISHED,
)  # fmt: skip

SHOWN = 100
"""So many problems are kept; all are counted."""
OPEN_FOR = timedelta(hours=1)
"""A call that an application which is not paused has not answered for so long is a call that nobody looked after."""


class Problem(NamedTuple):
    """Something that does not hold. `position` and `entry` (the id) name the entry where one is to blame."""

    check: str
    text: str
    position: int | None = None
    entry: str | None = None

    def __str__(self) -> str:
        place = "" if self.position is None else f"entry {self.position}" + (f" ({self.entry})" if self.entry else "")
        return f"{self.check}: {place}: {self.text}" if place else f"{self.check}: {self.text}"


class Findings:
    """Problems, of those checks that are enabled; and notes, which are no problems and worth knowing."""

    def __init__(self, checks: Collection[Check] = CHECKS) -> None:
        self._checks = {check.name for check in checks}
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.total = 0

    def add(self, check: Check, text: str, position: int | None = None, entry: str | None = None) -> None:
        """A problem."""
        if check.name not in self._checks:
            return
        self.total += 1
        if len(self.problems) < SHOWN:
            self.problems.append(Problem(check.name, text, position, entry))

    def note(self, text: str) -> None:
        """No problem."""
        self.notes.append(text)


class _Intent(NamedTuple):
    position: int
    id: str
    number: tuple[int, int]
    revision: int | None
    at: datetime


_OUTCOMES = {
    AuditKind.COMMAND_APPLIED.value,
    AuditKind.ACCOUNT_VERIFIED.value,
    AuditKind.COMMAND_RETRIED.value,
    AuditKind.COMMAND_PARKED.value,
}
_AFTER_CALLS = {AuditKind.COMMAND_RETRIED.value, AuditKind.COMMAND_PARKED.value}
"""They always follow an intent; the others only where calls were made, which nothing needs that is as it should be."""
_INTENDED = AuditKind.CALL_INTENDED.value
_REJECTED = AuditKind.ENTRY_REJECTED.value
_PAUSED = AuditKind.APPLICATION_PAUSED.value
_RESUMED = AuditKind.APPLICATION_RESUMED.value
_KIND = re.compile(r"[a-z][a-z_]{0,31}")

Account = tuple[Any, Any]


class EntryChecks:
    """Feed it with `see`, then `finish`."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._runs: dict[tuple[str, int], list[list[int]]] = {}
        self._open: dict[Account, dict[str, _Intent]] = {}
        self._followed: set[int] = set()
        self._unintended: dict[tuple[Account, str], _Intent] = {}
        self._paused: set[Any] = set()
        self.rejected: dict[str, int] = {}
        """The digests of records that were rejected, each with the position of the entry that says so."""
        self.first: datetime | None = None
        self.last: datetime | None = None

    @property
    def writers(self) -> int:
        """How many counts of entries there were."""
        return len(self._runs)

    def see(self, position: int, record: bytes) -> None:
        """The next entry."""
        try:
            entry = orjson.loads(record)
            writer, epoch, sequence, kind = entry["writer"], entry["epoch"], entry["sequence"], entry["kind"]
            at = datetime.fromisoformat(entry["at"])
            entry_id = entry["id"]
            wrong = _wrong(writer, epoch, sequence, kind, at, entry_id)
        except (KeyError, TypeError, ValueError) as error:
            self._findings.add(ENTRY, f"it is no entry: {type(error).__name__}", position)
            return
        if wrong:
            self._findings.add(ENTRY, wrong, position)
            return
        if self.last is None or at > self.last:
            self.last = at
            self.first = self.first or at
        runs = self._runs.get((writer, epoch))
        if runs is not None and runs[-1][1] + 1 == sequence:
            runs[-1][1] = sequence
        else:
            self._number(writer, epoch, sequence, position, entry_id)
        if kind == _INTENDED:
            self._intended((entry.get("subject"), entry.get("app")), writer, position, entry, at)
        elif kind in _OUTCOMES:
            self._ended((entry.get("subject"), entry.get("app")), writer, position, entry, at)
        elif kind == _REJECTED:
            self._was_rejected(position, entry_id, entry.get("details"))
        elif kind == _PAUSED:
            self._paused.add(entry.get("app"))
        elif kind == _RESUMED:
            self._paused.discard(entry.get("app"))

    # --- numbers ------------------------------------------------------------------------------------------------------

    def _number(self, writer: str, epoch: int, sequence: int, position: int, entry_id: str) -> None:
        """Entries may arrive out of their writer's order: ranges [first, last, position], in order, apart."""
        runs = self._runs.setdefault((writer, epoch), [])
        place = len(runs)
        while place and runs[place - 1][0] > sequence:
            place -= 1
        if place and sequence <= runs[place - 1][1]:
            self._findings.add(ONCE, "it is there twice", position, entry_id)
            return
        joins_left = place > 0 and runs[place - 1][1] + 1 == sequence
        if joins_left:
            runs[place - 1][1] = sequence
        else:
            runs.insert(place, [sequence, sequence, position])
            place += 1
        if place < len(runs) and runs[place - 1][1] + 1 == runs[place][0]:
            runs[place - 1][1] = runs[place][1]
            del runs[place]

    def _gaps(self) -> None:
        for (writer, epoch), runs in self._runs.items():
            expected = 1
            for first, last, position in runs:
                if first != expected:
                    missing = f"{expected}" if first == expected + 1 else f"{expected} to {first - 1}"
                    self._findings.add(
                        GAP,
                        f"before it {writer}/{epoch}/{missing} is missing",
                        position,
                        f"{writer}/{epoch}/{first}",
                    )
                expected = last + 1

    # --- intents and outcomes -----------------------------------------------------------------------------------------

    def _intended(self, account: Account, writer: str, position: int, entry: Mapping[str, Any], at: datetime) -> None:
        intent = _Intent(position, entry["id"], (entry["epoch"], entry["sequence"]), entry.get("revision"), at)
        waiting = self._unintended.get((account, writer))
        if waiting is not None and _fits(intent, waiting):  # the topic had them the other way round
            del self._unintended[account, writer]
            return
        opened = self._open.setdefault(account, {})
        self._follow(opened, writer)
        opened[writer] = intent

    def _ended(self, account: Account, writer: str, position: int, entry: Mapping[str, Any], at: datetime) -> None:
        opened = self._open.get(account, {})
        intent = opened.get(writer)
        details = entry.get("details") or {}
        outcome = _Intent(position, entry["id"], (entry["epoch"], entry["sequence"]), entry.get("revision"), at)
        if intent is not None and _fits(intent, outcome):
            del opened[writer]
            self._followed.discard(intent.position)
        elif intent is not None and not details.get("calls") and _overtook(intent, outcome):
            del opened[writer]
        elif details.get("calls") or entry["kind"] in _AFTER_CALLS:
            self._unintended[account, writer] = outcome
        self._follow(opened, writer)
        if not opened:
            self._open.pop(account, None)

    def _follow(self, opened: Mapping[str, _Intent], writer: str) -> None:
        """What others intended for the account was taken up by this writer."""
        if opened:
            self._followed.update(intent.position for other, intent in opened.items() if other != writer)

    def suspects(self) -> dict[Account, _Intent]:
        """Intents that nothing followed, though there was time. One may have been published late: see `clear`."""
        found = {}
        for account, opened in self._open.items():
            for intent in opened.values():
                late = self.last is not None and self.last - intent.at > OPEN_FOR
                if intent.position not in self._followed and late and account[1] not in self._paused:
                    found[account] = intent
        return found

    def clear(self, records: Iterator[tuple[int, bytes]]) -> None:
        """A second look at the log, for intents that arrived after what followed them: a crash left them behind."""
        suspects = self.suspects()
        latest = max((intent.position for intent in suspects.values()), default=-1)
        for position, record in records:
            if position >= latest:
                return
            if b'"command_' not in record and b'"account_verified"' not in record and b'"call_intended"' not in record:
                continue
            entry = orjson.loads(record)
            intent = suspects.get((entry.get("subject"), entry.get("app")))
            if intent is not None and position < intent.position and datetime.fromisoformat(entry["at"]) > intent.at:
                self._followed.add(intent.position)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _was_rejected(self, position: int, entry_id: str, details: Any) -> None:
        try:
            self.rejected[details["sha256"]] = position
            if (number := details.get("number")) is not None:
                writer, epoch, sequence = number
                self._number(writer, epoch, sequence, position, f"{writer}/{epoch}/{sequence}")
        except (KeyError, TypeError, ValueError):
            self._findings.add(ENTRY, "it does not say what was rejected", position, entry_id)

    def finish(self) -> None:
        """What can be said only at the end."""
        self._gaps()
        for outcome in self._unintended.values():
            self._findings.add(INTENT, "no intent of its writer comes before it", outcome.position, outcome.id)
        for (person, app), intent in self.suspects().items():
            self._findings.add(
                OUTCOME,
                f"nothing ever came of it: {person} in {app} was not looked at again",
                intent.position,
                intent.id,
            )
        waiting = sum(
            intent.position not in self._followed for opened in self._open.values() for intent in opened.values()
        ) - len(self.suspects())
        if waiting:
            self._findings.note(f"{counted(waiting, 'call was', 'calls were')} under way at the end of the log")


def _fits(intent: _Intent, outcome: _Intent) -> bool:
    return intent.number < outcome.number and intent.revision == outcome.revision


def _overtook(intent: _Intent, outcome: _Intent) -> bool:
    """An intent of which nothing went out, because a newer revision was wanted by then, which needed no call."""
    if intent.revision is None or outcome.revision is None:
        return False
    return intent.number < outcome.number and intent.revision < outcome.revision


def _wrong(writer: Any, epoch: Any, sequence: Any, kind: Any, at: datetime, entry_id: Any) -> str | None:
    if type(writer) is not str or type(epoch) is not int or type(sequence) is not int or sequence < 1:
        return "it has no writer, epoch and sequence from 1"
    if entry_id != f"{writer}/{epoch}/{sequence}":
        return "its id is not writer/epoch/sequence"
    if type(kind) is not str or not _KIND.fullmatch(kind):
        return "its kind is none"
    return "its time has no zone" if at.tzinfo is None else None
