"""`jml audit`: read and export the audit log."""

import csv
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any

import orjson
import typer

from orchestrator.cli import audit_proofs, services
from orchestrator.cli.options import DEFAULT_CONFIG, AppName, AsJson, ConfigPath, load
from orchestrator.cli.output import note, print_json, print_line, to_json
from orchestrator.cli.people import Found, People
from orchestrator.errors import UserError
from schemas.audit import AuditKind
from schemas.envelope import instant

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Read = Callable[[int], Iterator[tuple[int, bytes]]]
FOLLOW_SECONDS = 0.5
LOOK_BACK = 1024
"""So many entries are read first for the latest ones."""
CSV_COLUMNS = (
    "position",
    "at",
    "kind",
    "actor",
    "subject",
    "person_id",
    "app",
    "revision",
    "event_id",
    "correlation_id",
    "policy",
    "details",
    "values",
    "writer",
    "epoch",
    "sequence",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Person = Annotated[
    str | None,
    typer.Option("--person", "-p", help="Only this person, by worker id or by the log's subject.", metavar="ID"),
]
Values = Annotated[
    bool, typer.Option("--values", help="With the personal values, opened with the keys in the database.")
]
Kind = Annotated[
    AuditKind | None,
    typer.Option("--kind", "-k", help="Only entries of this kind, such as command_parked.", metavar="KIND"),
]


class Format(StrEnum):
    """What an export is written as."""

    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted; None wants them all. `since` is included, `until` is not."""

    subject: str | None = None
    app: str | None = None
    kind: AuditKind | None = None
    since: datetime | None = None
    until: datetime | None = None

    def wants(self, entry: dict[str, Any]) -> bool:
        """Whether an entry is one of them."""
        if self.subject is not None and entry.get("subject") != self.subject:
            return False
        if self.app is not None and entry.get("app") != self.app:
            return False
        if self.kind is not None and entry.get("kind") != self.kind.value:
            return False
        if self.since is None and self.until is None:
            return True
        at = instant(entry["at"])
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


audit_proofs.register(app)


@app.callback()
def audit() -> None:
    """The audit log: what happened, why, and what the application answered, in one total order.

    Example: `jml audit tail --follow`
    """


@app.command()
def tail(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new entries until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Begin with the last N entries.")] = 20,
    person: Person = None,
    application: AppName = None,
    kind: Kind = None,
    values: Values = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """The latest entries, oldest first; with `--follow` also those to come.

    People are shown by their worker ids while the database answers. The log itself holds subjects, which are all that
    is left of somebody who was erased. `--json` prints one array, together with `--follow` one object per line.

    Example: `jml audit tail --follow --kind command_parked`
    """
    loaded = load(config)
    people, read, end = People(loaded), services.audit_entries(loaded), services.audit_end(loaded)
    wanted = Filter(people.subject(person) if person else None, application, kind)
    latest = _latest(read, wanted, limit, end)
    told = partial(people.told, values=values)
    if follow:
        show = _print_record if as_json else _print_entry
        for found in told(latest):
            show(found)
        _follow(read, wanted, end, told, show)
    elif as_json:
        print_json([{"position": position, **entry} for position, _, entry in told(latest)])
    else:
        for found in told(latest):
            _print_entry(found)
        if not latest:
            note("no entry matches")


@app.command()
def export(
    format_: Annotated[
        Format, typer.Option("--format", help="The exact records as JSON lines, or a table.")
    ] = Format.JSONL,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file and not to standard output.")
    ] = None,
    person: Person = None,
    application: AppName = None,
    kind: Kind = None,
    since: Annotated[str | None, typer.Option(help="From this day (UTC) or instant on.", metavar="TIME")] = None,
    until: Annotated[str | None, typer.Option(help="Before this day (UTC) or instant.", metavar="TIME")] = None,
    values: Values = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """The entries as JSON lines, byte for byte as they were recorded, or as CSV for a spreadsheet.

    In the table people have their worker ids beside the subjects; in lines that needs `--values`, and they are not the
    recorded bytes then. In CSV a cell that a spreadsheet would take for a formula begins with an apostrophe.

    Example: `jml audit export --person 4711 --since 2026-01-01 --format csv --output 4711.csv`
    """
    loaded = load(config)
    people = People(loaded)
    subject = people.subject(person) if person else None
    wanted = Filter(subject, application, kind, _time("--since", since), _time("--until", until))
    entries = (found for found in _entries(services.audit_entries(loaded), 0) if wanted.wants(found[2]))
    with _output(output) as target:
        if format_ is Format.CSV:
            count = _write_csv(target, people.told(entries, values=values))
        elif values:
            told = people.told(entries, values=True)
            count = _write_lines(target, ((position, to_json(entry).encode(), entry) for position, _, entry in told))
        else:
            count = _write_lines(target, entries)
    note(f"{count} entries exported" + (f" to {output}" if output else ""))


def _entries(read: Read, start: int) -> Iterator[Found]:
    for position, record in read(start):
        try:
            entry = orjson.loads(record)
            instant(entry["at"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise UserError(f"entry {position} of the audit log is damaged: it is no entry any more") from None
        yield position, record, entry


def _latest(read: Read, wanted: Filter, limit: int, end: int) -> list[Found]:
    """The last `limit` entries before `end` that are wanted, looked for from there backwards."""
    latest: list[Found] = []
    span = max(LOOK_BACK, limit)
    while end > 0 and len(latest) < limit:
        start = max(0, end - span)
        latest[:0] = [found for found in islice(_entries(read, start), end - start) if wanted.wants(found[2])]
        end, span = start, span * 4
    return latest[max(len(latest) - limit, 0) :]


def _follow(
    read: Read,
    wanted: Filter,
    start: int,
    told: Callable[[Iterable[Found]], Iterator[Found]],
    show: Callable[[Found], None],
) -> None:
    while True:
        new = list(_entries(read, start))
        start = new[-1][0] + 1 if new else start
        for found in told(found for found in new if wanted.wants(found[2])):
            show(found)
        sys.stdout.flush()
        time.sleep(FOLLOW_SECONDS)


def _print_record(found: Found) -> None:
    position, _, entry = found
    sys.stdout.write(to_json({"position": position, **entry}) + "\n")


def _print_entry(found: Found) -> None:
    position, _, entry = found
    person = entry.get("person_id") or entry.get("subject")
    about = " ".join(str(one) for one in (person, entry.get("app")) if one)
    revision = f" r{entry['revision']}" if entry.get("revision") is not None else ""
    details = "".join(f" {to_json(entry[name])}" for name in ("details", "values") if entry.get(name))
    kind, actor = entry.get("kind", "?"), entry.get("actor", "?")
    print_line(f"{position:>8} {entry['at']} {kind:<20} {about}{revision} by {actor}{details}")


@contextmanager
def _output(path: Path | None) -> Iterator[IO[bytes]]:
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


def _write_lines(target: IO[bytes], entries: Iterator[Found]) -> int:
    count = 0
    for _, record, _ in entries:
        target.write(record + b"\n")
        count += 1
    return count


def _write_csv(target: IO[bytes], entries: Iterator[Found]) -> int:
    writer = csv.writer(_Utf8(target))
    writer.writerow(CSV_COLUMNS)
    count = 0
    for position, _, entry in entries:
        documents = {name: to_json(entry[name]) for name in ("details", "values") if entry.get(name)}
        cells = {**entry, "details": "", "position": position, **documents}
        writer.writerow([_cell(cells.get(name)) for name in CSV_COLUMNS])
        count += 1
    return count


class _Utf8:
    """What the csv module needs of a file, over one that takes bytes."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target

    def write(self, text: str) -> int:
        return self._target.write(text.encode())


def _cell(value: object) -> object:
    """Ids come from outside: one that begins like a formula must not become one."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        try:
            return instant(text)
        except ValueError:
            raise UserError(
                f"{option} {text!r}: write a day like 2026-03-02, or an instant with its zone like 2026-03-02T08:15:00Z"
            ) from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
