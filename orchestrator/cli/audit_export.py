"""`jml audit export`: entries in the forms that other tools take."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import IO, Annotated

import orjson
import typer

from orchestrator.cli.options import DEFAULT_CONFIG, AppName, ConfigPath
from orchestrator.cli.output import note, to_json
from orchestrator.cli.reading import (
    Actor,
    Correlation,
    Event,
    Kind,
    LogDir,
    Output,
    Person,
    Since,
    Until,
    Utf8,
    WithValues,
    between,
    open_log,
    opened_entry,
    output,
)
from orchestrator.domain.wording import counted
from orchestrator.evidence.entra import EntraSummaries
from orchestrator.evidence.entries import Keyring, Recorded
from orchestrator.evidence.ocsf import OcsfEvents
from orchestrator.evidence.query import Filter
from orchestrator.evidence.tables import write_csv
from orchestrator.release import release

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


class Format(StrEnum):
    """What an export is written as."""

    JSONL = "jsonl"
    CSV = "csv"
    OCSF = "ocsf"
    ENTRA = "entra"


def export(
    format_: Annotated[
        Format,
        typer.Option(
            "--format", help="The exact records as JSON lines, a table, OCSF 1.8 events, or Entra's provisioning log."
        ),
    ] = Format.JSONL,
    target: Output = None,
    person: Person = None,
    application: AppName = None,
    kind: Kind = None,
    actor: Actor = None,
    event: Event = None,
    correlation: Correlation = None,
    since: Since = None,
    until: Until = None,
    with_values: WithValues = False,
    log: LogDir = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """The entries as JSON lines, byte for byte as they were recorded, or in a form that another tool takes.

    `csv` is for a spreadsheet, with worker ids beside the subjects where the keys are at hand; a cell that it would
    take for a formula begins with an apostrophe. `ocsf` gives one
    event per line, of the Open Cybersecurity Schema Framework 1.8.0, for the entries that tell of an account, a
    group or an entitlement. `entra` gives one line in the shape of Microsoft Entra's provisioning log for each of
    the same. Personal values stay sealed unless you say `--with-values`.

    Example: `jml audit export --person 4711 --since 2026-01-01 --format csv --output 4711.csv`
    """
    with open_log(config, log) as opened:
        wanted = Filter(
            person,
            application,
            kind,
            *between(since, until, opened.zone),
            opened.keys.subject_of(person) if person else None,
            actor,
            event,
            correlation,
        )
        opened.check(wanted)
        # What a call did follows from what was before it, so these two read everything.
        narrow = format_ in (Format.JSONL, Format.CSV)
        entries = opened.entries(wanted if narrow else None)
        with output(target) as file:
            counted = _WRITERS[format_](file, entries, wanted, opened.keys, with_values)
        note(f"{counted} exported" + (f" to {target}" if target else ""))


def _write_records(
    file: IO[bytes], entries: Iterator[Recorded], wanted: Filter, keys: Keyring, with_values: bool
) -> str:
    count = 0
    for one in entries:
        file.write((orjson.dumps(opened_entry(one, keys)) if with_values else one.record) + b"\n")
        count += 1
    return _entries(count)


def _write_csv(file: IO[bytes], entries: Iterator[Recorded], wanted: Filter, keys: Keyring, with_values: bool) -> str:
    return _entries(write_csv(Utf8(file), CSV_COLUMNS, _rows(entries, keys, with_values)))


def _rows(entries: Iterator[Recorded], keys: Keyring, with_values: bool) -> Iterator[list[object]]:
    for one in entries:
        cells: dict[str, object] = {**one.entry, "position": one.position}
        if person := keys.person_of(one.subject) if one.subject else None:
            cells["person_id"] = person
        cells["details"] = to_json(one.details) if one.details else ""
        if with_values:
            cells["values"] = to_json(opened) if (opened := keys.open(one.entry)) else ""
        yield [cells.get(name) for name in CSV_COLUMNS]


def _write_ocsf(file: IO[bytes], entries: Iterator[Recorded], wanted: Filter, keys: Keyring, with_values: bool) -> str:
    events, count, told = OcsfEvents(keys, release(), values=with_values), 0, 0
    for one in entries:
        before = count
        for event in events.take(one, wanted=wanted.wants(one.entry)):
            file.write(orjson.dumps(event) + b"\n")
            count += 1
        told += count > before
    return f"{counted(count, 'event')} from {_entries(told)}"


def _write_entra(file: IO[bytes], entries: Iterator[Recorded], wanted: Filter, keys: Keyring, with_values: bool) -> str:
    summaries, count = EntraSummaries(keys, values=with_values), 0
    for one in entries:
        if (summary := summaries.take(one, wanted=wanted.wants(one.entry))) is not None:
            file.write(orjson.dumps(summary) + b"\n")
            count += 1
    return _entries(count)


def _entries(count: int) -> str:
    return counted(count, "entry", "entries")


_WRITERS: dict[Format, Callable[[IO[bytes], Iterator[Recorded], Filter, Keyring, bool], str]] = {
    Format.JSONL: _write_records,
    Format.CSV: _write_csv,
    Format.OCSF: _write_ocsf,
    Format.ENTRA: _write_entra,
}
