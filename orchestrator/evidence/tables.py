"""Rows as CSV and JSON, safe to open in a spreadsheet and easy to read by a program."""

import csv
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

from orchestrator.evidence.reports.base import Cell, Finished
from schemas.envelope import timestamp

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins like this is a formula to a spreadsheet (OWASP, CSV Injection)."""


class Text(Protocol):
    """Whatever text can be written to."""

    def write(self, text: str, /) -> object:
        """Write it."""


def safe_cell(value: object) -> object:
    """Names come from outside: one that begins like a formula gets an apostrophe, so that it stays text. Blanks before
    it do not help: some programs cut them off."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" \n\0\u00a0\ufeff").startswith(_FORMULA) else value


def write_csv(target: Text, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """A line of names, then the rows; returns how many. Lines end as RFC 4180 says."""
    writer = csv.writer(target)
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([safe_cell(_text(cell)) for cell in row])
        count += 1
    return count


def write_report(target: Text, finished: Finished) -> None:
    """A report as CSV: what it says of itself in lines that begin with `#`, then the rows."""
    about = csv.writer(target)
    for name, value in describe(finished).items():
        shown = "; ".join(value) if isinstance(value, list) else "" if value is None else str(value)
        about.writerow([f"# {name}: {shown}"])
    write_csv(target, [one.name for one in finished.report.columns], finished.rows)


def describe(finished: Finished) -> dict[str, Any]:
    """What a report says of itself, so that somebody else can make it again and check what it was made of.

    The same question to the same log gives the same report: nothing here tells when or by whom it was made.
    """
    question, report = finished.question, finished.report
    described: dict[str, Any] = {
        "report": report.name,
        "title": report.title,
        "query": report.query,
        "from": _moment(question.since),
        "to": _moment(question.until),
        "cutoff": _moment(finished.cutoff),
        "app": question.app,
        "person": question.subject,
        "limit_seconds": question.limit.total_seconds() if _has_limit(finished) else None,
        "rows": len(finished.rows),
        "summary": _summary(finished),
        "first_entry": _moment(finished.began),
        "last_entry": _moment(finished.ended),
        "entries_up_to_cutoff": finished.entries,
        "checkpoint_size": finished.size,
        "checkpoint_root": None if finished.root is None else b64encode(finished.root).decode(),
        "controls": [f"{one.standard} {one.clause} {one.about}" for one in report.controls],
    }
    optional = ("from", "to", "app", "person", "limit_seconds", "summary")
    return {name: value for name, value in described.items() if value is not None or name not in optional}


def document(finished: Finished) -> dict[str, Any]:
    """A report as one JSON object."""
    names = [one.name for one in finished.report.columns]
    return {**describe(finished), "data": [dict(zip(names, map(_plain, row), strict=True)) for row in finished.rows]}


def _summary(finished: Finished) -> str | None:
    """How often each value of the report's deciding column occurs."""
    names = [one.name for one in finished.report.columns]
    name = finished.report.decides
    if name is None or not finished.rows:
        return None
    place = names.index(name)
    counted = Counter(str(row[place]) for row in finished.rows)
    title = finished.report.columns[place].title.lower()
    return f"{title}: " + ", ".join(f"{value or 'none'} {count}" for value, count in sorted(counted.items()))


def _has_limit(finished: Finished) -> bool:
    return any(one.name == "within_limit" for one in finished.report.columns)


def _moment(at: datetime | None) -> str | None:
    return None if at is None else timestamp(at)


def _plain(cell: Cell) -> Any:
    return timestamp(cell) if isinstance(cell, datetime) else cell


def _text(cell: object) -> object:
    return timestamp(cell) if isinstance(cell, datetime) else "" if cell is None else cell
