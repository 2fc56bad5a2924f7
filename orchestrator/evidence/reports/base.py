"""What every report is made of: a question, columns, rows, and what it says of itself."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from orchestrator.errors import UserError
from orchestrator.evidence.entries import Keyring, NoKeys, Recorded, no_such_application, no_such_person
from schemas.envelope import timestamp

Cell = str | int | float | datetime | None
Row = tuple[Cell, ...]
DEFAULT_LIMIT = timedelta(hours=1)


class Column(NamedTuple):
    """`name` is for programs, `title` for people."""

    name: str
    title: str


class Control(NamedTuple):
    """A requirement of a standard that a report is evidence for."""

    standard: str
    clause: str
    about: str


@dataclass(frozen=True)
class Question:
    """What is asked of a report. `cutoff`: entries recorded after it do not count. `since` (included) and `until`
    (excluded) choose the rows. `limit` is how long taking access away, or giving it, may take. `values` says that
    personal values may be shown."""

    cutoff: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    app: str | None = None
    subject: str | None = None
    limit: timedelta = DEFAULT_LIMIT
    keys: Keyring = field(default_factory=NoKeys)
    values: bool = False

    def covers(self, at: datetime) -> bool:
        """Whether a row of that time is asked for."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def is_about(self, subject: str | None, app: str | None) -> bool:
        """Whether a row about that account is asked for."""
        return self.app in (None, app) and self.subject in (None, subject)


class Reading(Protocol):
    """One report being made: takes the entries in order, then gives its rows."""

    def take(self, one: Recorded) -> None:
        """The next entry."""

    def rows(self, cutoff: datetime | None) -> Iterable[Row]:
        """The rows, sorted. `cutoff` is the one asked for, else the time of the log's last entry."""


@dataclass(frozen=True)
class Report:
    """A report that can be asked for. `query` says, in words that an auditor can check, how the rows are found."""

    name: str
    title: str
    query: str
    columns: Sequence[Column]
    controls: Sequence[Control]
    begin: Callable[[Question], Reading]
    has_period: bool = True
    has_app: bool = True
    decides: str | None = None
    """The column whose values are counted on top."""
    reads_on: bool = False
    """Whether it takes the entries after the cutoff too, to tell what was known later."""


@dataclass(frozen=True)
class Finished:
    """A report with its rows. `began` and `ended` are the times of the first and the last entry that counted,
    `entries` is how many did; `size` and `root` are the log's at the checkpoint that covers them."""

    report: Report
    question: Question
    rows: Sequence[Row]
    cutoff: datetime | None
    began: datetime | None
    ended: datetime | None
    entries: int
    size: int
    root: bytes | None


def make(
    report: Report, question: Question, entries: Iterable[Recorded], size: int | None = None, root: bytes | None = None
) -> Finished:
    """Give every entry up to the cutoff to a report. `size` and `root` are the checkpoint's that covers the entries.

    Raises UserError where the question is about a person, an application or a time of which the log knows nothing.
    """
    reading, seen = report.begin(question), _Seen()
    for one in entries:
        seen.note(one)
        if question.cutoff is None or one.at <= question.cutoff:
            seen.count(one.at)
            reading.take(one)
        elif report.reads_on:
            reading.take(one)
    seen.check(question)
    cutoff = question.cutoff or seen.ended
    rows = tuple(reading.rows(cutoff))
    if not rows and question.until is not None and seen.first is not None and question.until <= seen.first:
        raise _too_early(question.until, seen.first)
    counted = size if size is not None else seen.entries
    return Finished(report, question, rows, cutoff, seen.began, seen.ended, seen.counted, counted, root)


@dataclass(slots=True)
class _Seen:
    """What was read; `counted` and what follows are about the entries up to the cutoff."""

    entries: int = 0
    first: datetime | None = None
    counted: int = 0
    began: datetime | None = None
    ended: datetime | None = None
    apps: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)

    def note(self, one: Recorded) -> None:
        """An entry, whenever it was recorded."""
        self.entries += 1
        if self.first is None or one.at < self.first:
            self.first = one.at
        if one.app is not None:
            self.apps.add(one.app)
        if one.subject is not None:
            self.subjects.add(one.subject)

    def count(self, at: datetime) -> None:
        """An entry that counts."""
        self.counted += 1
        if self.began is None or at < self.began:
            self.began = at
        if self.ended is None or at > self.ended:
            self.ended = at

    def check(self, question: Question) -> None:
        """Raises UserError where the answer would be empty for a reason that is none of the log's."""
        if not self.counted and self.first is not None and question.cutoff is not None:
            raise _too_early(question.cutoff, self.first)
        if question.subject is not None and question.subject not in self.subjects:
            raise no_such_person(question.subject, question.keys)
        if question.app is not None and question.app not in self.apps:
            raise no_such_application(question.app, self.apps)


def _too_early(end: datetime, first: datetime) -> UserError:
    return UserError(
        f"what is asked ends at {timestamp(end)}, before the audit log, which begins at {timestamp(first)}; what was "
        "before it, it cannot tell"
    )


def in_order(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows by their cells; an empty cell comes first."""
    yield from sorted(rows, key=lambda row: [(cell is not None, str(_sortable(cell))) for cell in row])


def _sortable(cell: Cell) -> Cell:
    return timestamp(cell) if isinstance(cell, datetime) else cell
