"""What every report is made of: a question, columns, rows, and what it says of itself."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol

from orchestrator.evidence.entries import Keyring, NoKeys, Recorded
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
    """One report being made: takes every entry up to the cutoff, in order, then gives its rows."""

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


def make(report: Report, question: Question, entries: Iterable[Recorded]) -> tuple[Reading, "Seen"]:
    """Give every entry up to the cutoff to a report."""
    reading, seen = report.begin(question), Seen()
    for one in entries:
        seen.all += 1
        if question.cutoff is not None and one.at > question.cutoff:
            seen.note_late(one.at)
            continue
        seen.note(one.at)
        reading.take(one)
    return reading, seen


@dataclass(slots=True)
class Seen:
    """What was read. `first` is the time of the earliest entry of all, also of those after the cutoff."""

    all: int = 0
    counted: int = 0
    first: datetime | None = None
    began: datetime | None = None
    ended: datetime | None = None

    def note(self, at: datetime) -> None:
        """An entry that counts."""
        self.counted += 1
        self.note_late(at)
        if self.began is None or at < self.began:
            self.began = at
        if self.ended is None or at > self.ended:
            self.ended = at

    def note_late(self, at: datetime) -> None:
        """An entry after the cutoff."""
        if self.first is None or at < self.first:
            self.first = at


def in_order(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows by their cells; an empty cell comes first."""
    yield from sorted(rows, key=lambda row: [(cell is not None, str(_sortable(cell))) for cell in row])


def _sortable(cell: Cell) -> Cell:
    return timestamp(cell) if isinstance(cell, datetime) else cell
