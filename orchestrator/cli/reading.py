"""What the commands that read the audit log share: opening it, its options, instants, and the line of an entry."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.options import load
from orchestrator.cli.output import print_line, to_json
from orchestrator.domain.days import end_of, start_of, zone
from orchestrator.errors import UserError
from orchestrator.evidence.entries import (
    Keyring,
    NoKeys,
    Recorded,
    known_to,
    no_such_application,
    no_such_person,
    recorded,
)
from orchestrator.evidence.query import Filter
from schemas.audit import AuditKind
from schemas.envelope import instant

LogDir = Annotated[
    Path | None,
    typer.Option(
        "--log", metavar="DIR", help="Read the log in this folder, a copy for example: without configuration, in UTC."
    ),
]
Person = Annotated[
    str | None,
    typer.Option("--person", "-p", help="Only this person, by worker id or by subject in the log.", metavar="ID"),
]
Kind = Annotated[
    AuditKind | None,
    typer.Option("--kind", "-k", help="Only entries of this kind, such as command_parked.", metavar="KIND"),
]
Since = Annotated[
    str | None, typer.Option("--since", help="From this day (default zone) or instant on.", metavar="TIME")
]
Until = Annotated[
    str | None, typer.Option("--until", help="Before this day (default zone) or instant.", metavar="TIME")
]
Actor = Annotated[
    str | None,
    typer.Option(help="Only what this actor caused; `operator` stands for every operator.", metavar="NAME"),
]
Event = Annotated[str | None, typer.Option(help="Only what this event caused, as SOURCE#ID.", metavar="EVENT")]
Correlation = Annotated[str | None, typer.Option(help="Only what has this correlation id.", metavar="ID")]
WithValues = Annotated[
    bool,
    typer.Option("--with-values", "--values", help="Personal values too, where their keys are there. Mind who reads."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "--out", "-o", help="Write to this file and not to standard output.")
]

_DURATION = re.compile(r"(\d+)\s*(s|min|m|h|d)")
_UNITS = {"s": "seconds", "min": "minutes", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class OpenedLog:
    """A log to read up to its latest checkpoint. Without one it is read to its end, and nothing proves it."""

    folder: Path
    keys: Keyring
    zone: str

    @cached_property
    def source(self) -> services.AuditSource:
        """Where the entries are. Raises UserError where there is no log."""
        return services.audit_source(self.folder)

    def entries(self, wanted: Filter | None = None) -> Iterator[Recorded]:
        """The entries that are wanted, in order. Raises UserError for no log or an empty one, and for a damaged
        entry."""
        found = self._read(wanted)
        return found if isinstance(self.keys, NoKeys) else known_to(self.keys, found)

    def check(self, wanted: Filter) -> None:
        """Raises UserError for a person or an application of which no entry tells, whatever else is wanted."""
        if wanted.person is not None and not any(self._read(Filter(person=wanted.person, subject=wanted.subject))):
            raise no_such_person(wanted.person, self.keys)
        if wanted.app is not None and not any(self._read(Filter(app=wanted.app))):
            raise no_such_application(wanted.app, {one.app for one in self._read() if one.app is not None})

    def _read(self, wanted: Filter | None = None) -> Iterator[Recorded]:
        covered = self._covered()
        first = next(covered, None)
        if first is None:
            raise UserError(
                f"the audit log in {self.folder} has no entries; the auditor writes it there once events arrive"
            )
        found = recorded(chain((first,), covered), wanted.needles() if wanted else ())
        if wanted is not None:
            found = (one for one in found if wanted.wants(one.entry))
        return found

    def _covered(self) -> Iterator[tuple[int, bytes]]:
        size = self.source.size
        for position, record in self.source.read(0):
            if size is not None and position >= size:
                return
            yield position, record

    def subject(self, person: str | None) -> str | None:
        """Whom a worker id is about in the log; the id itself where no key says."""
        return None if person is None else self.keys.subject_of(person) or person


@contextmanager
def open_log(config: Path, folder: Path | None) -> Iterator[OpenedLog]:
    """The configured log, or the one in `folder`."""
    if folder is not None:
        yield OpenedLog(folder, NoKeys(), "UTC")
        return
    loaded = load(config)
    with services.keyring(loaded) as keys:
        yield OpenedLog(loaded.audit.dir, keys, loaded.time.default_zone)


def starting(option: str, text: str | None, zone_name: str) -> datetime | None:
    """An instant, or the beginning of a day. Raises UserError for text that is neither."""
    if text is None:
        return None
    found = _day_or_instant(option, text)
    return start_of(found, zone(zone_name, "UTC")) if not isinstance(found, datetime) else found


def between(since: str | None, until: str | None, zone_name: str) -> tuple[datetime | None, datetime | None]:
    """What `--since` and `--until` say. Raises UserError where nothing can lie between them."""
    begin, end = starting("--since", since, zone_name), starting("--until", until, zone_name)
    if begin is not None and end is not None and begin >= end:
        raise UserError("--since is not before --until: no entry can lie between them")
    return begin, end


def ending(option: str, text: str | None, zone_name: str, now: datetime) -> datetime | None:
    """An instant, or the end of a day; of today, now. Raises UserError for one that is still to come."""
    if text is None:
        return None
    found = _day_or_instant(option, text)
    if not isinstance(found, datetime):
        where = zone(zone_name, "UTC")
        if start_of(found, where) <= now:
            return min(end_of(found, where), now)
        found = start_of(found, where)
    if found > now:
        raise UserError(
            f"{option} {text} is still to come; what the log knows ends now, so leave {option} out for that"
        )
    return found


def _day_or_instant(option: str, text: str) -> date | datetime:
    try:
        return date.fromisoformat(text)
    except ValueError:
        try:
            return instant(text).astimezone(UTC)
        except (ValueError, OverflowError):
            raise UserError(
                f"{option} {text!r}: write a day like 2026-03-02, or an instant with its zone like 2026-03-02T08:15:00Z"
            ) from None


def length(option: str, text: str) -> timedelta:
    """A length of time such as 90s, 15min, 1h or 2d. Raises UserError for another text."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{option} {text!r}: write a length of time like 90s, 15min, 1h or 2d")
    try:
        return timedelta(**{_UNITS[found.group(2)]: int(found.group(1))})
    except OverflowError:
        raise UserError(f"{option} {text!r} is longer than there is time") from None


def opened_entry(one: Recorded, keys: Keyring) -> dict[str, Any]:
    """An entry with the worker id and what was sealed in it, as far as its key is at hand."""
    more: dict[str, Any] = {}
    if person := keys.person_of(one.subject) if one.subject else None:
        more["person_id"] = person
    if values := keys.open(one.entry):
        more["values"] = values
    return {**one.entry, **more}


def print_entry(position: int, entry: dict[str, Any], person: str | None = None) -> None:
    """An entry as one line for people."""
    names = (person or entry.get("subject") or entry.get("person_id"), entry.get("app"))
    about = " ".join(str(name) for name in names if name)
    revision = f" r{entry['revision']}" if entry.get("revision") is not None else ""
    details = "".join(f" {to_json(entry[name])}" for name in ("details", "values") if entry.get(name))
    kind, actor = entry.get("kind", "?"), entry.get("actor", "?")
    print_line(f"{position:>8} {entry['at']} {kind:<20} {about}{revision} by {actor}{details}")


@contextmanager
def output(path: Path | None) -> Iterator[IO[bytes]]:
    """Where to write. Raises UserError for a file that cannot be written."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        target = path.open("wb")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    with target:
        yield target


class Utf8:
    """What the csv module needs of a file, over one that takes bytes."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target

    def write(self, text: str) -> int:
        """Write it; what no UTF-8 has, as an escape."""
        return self._target.write(text.encode(errors="backslashreplace"))
