"""The contract of a source, and how a source reads tables so that every complaint says where it stands.

A source turns an export of an HR system or identity provider into identity changes.
"""

import csv
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from orchestrator.errors import UserError
from schemas.changes import MAX_TEXT
from schemas.envelope import Envelope


@runtime_checkable
class Source(Protocol):
    """A module of this package.

    A source only translates: it decides nothing about access and publishes nothing. The same export gives the same
    events with the same ids, so importing it twice is harmless.
    """

    NAME: str
    """What the command line and the configuration call it."""

    def events(self, folder: Path) -> Iterator[Envelope]:
        """The changes that the export in `folder` tells, in the order of their `time`.

        Raises UserError, naming file, line and column, for a malformed export. It does so before the first event:
        half of an import is harder to repair than none.
        """


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table, which knows where it stands when something is wrong with it."""

    file: str
    number: int
    columns: Mapping[str, int]
    cells: list[str]

    def problem(self, column: str, what: str) -> UserError:
        return UserError(f"{self.file}, line {self.number}, column {column}: {what}")

    def text(self, column: str) -> str:
        """A cell, which may be empty."""
        text = self.cells[self.columns[column]].strip()
        if len(text) > MAX_TEXT:
            raise self.problem(column, f"{len(text)} characters, the limit is {MAX_TEXT}")
        if "\x00" in text:
            raise self.problem(column, "holds a NUL character")
        return text

    def name(self, column: str) -> str:
        """A cell that must hold something. Equal ones become one object: codes and titles repeat a lot."""
        text = self.text(column)
        if not text:
            raise self.problem(column, "is empty")
        return sys.intern(text)

    def day(self, column: str) -> date:
        """A calendar day as YYYY-MM-DD, the only form that nobody can read in two ways."""
        text = self.text(column)
        day = _day(text)
        if day is None:
            raise self.problem(column, f"{text!r} is not a date like 1985-11-21")
        return day


@lru_cache(maxsize=1 << 16)
def _day(text: str) -> date | None:
    """The date, None for anything else, including the other forms of ISO 8601 (19851121, 1985-W47-4)."""
    if len(text) != 10 or text[4] != "-" or text[7] != "-":
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def lines(path: Path, *columns: str) -> Iterator[Line]:
    """The lines of a CSV file that has at least these columns, in any order. Blank lines are skipped."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            try:
                header = [name.strip() for name in next(reader, [])]
                where = {name: header.index(name) for name in columns if name in header}
                for name in columns:
                    if name not in where:
                        raise UserError(f"{path}, line 1: the column {name} is missing")
                for cells in reader:
                    if not cells:
                        continue
                    if len(cells) != len(header):
                        shape = f"{len(cells)} columns, the header has {len(header)}"
                        raise UserError(f"{path}, line {reader.line_num}: {shape}")
                    yield Line(str(path), reader.line_num, where, cells)
            except (csv.Error, UnicodeDecodeError) as error:
                # The decoder reads ahead in blocks, so for bytes that are not UTF-8 this is the line it had come to.
                raise UserError(f"{path}, after line {reader.line_num}: not CSV in UTF-8: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); the export needs it") from None
