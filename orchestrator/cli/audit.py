"""`jml audit`: follow the audit log; what else can be read of it stands in modules of its own."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.audit_export import export
from orchestrator.cli.audit_search import search
from orchestrator.cli.options import DEFAULT_CONFIG, AppName, AsJson, ConfigPath, load
from orchestrator.cli.output import note, print_json, to_json
from orchestrator.cli.reading import Kind, Person, print_entry
from orchestrator.evidence.entries import recorded
from orchestrator.evidence.query import Filter

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Read = Callable[[int], Iterator[tuple[int, bytes]]]
Found = tuple[int, bytes, dict[str, Any]]
"""An entry: its position, the record as it was written, and what it says."""

FOLLOW_SECONDS = 0.5


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
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """The latest entries, oldest first; with `--follow` also those to come.

    `--json` prints one array, together with `--follow` one object per line.

    Example: `jml audit tail --follow --kind command_parked`
    """
    read = services.audit_entries(load(config))
    wanted = Filter(person, application, kind)
    latest, end = _latest(read, wanted, limit)
    if follow:
        show = _print_record if as_json else _print_entry
        for found in latest:
            show(found)
        _follow(read, wanted, end, show)
    elif as_json:
        print_json([{"position": position, **entry} for position, _, entry in latest])
    else:
        for found in latest:
            _print_entry(found)
        if not latest:
            note("no entry matches")


def _entries(read: Read, start: int) -> Iterator[Found]:
    for one in recorded(read(start)):
        yield one.position, one.record, one.entry


def _latest(read: Read, wanted: Filter, limit: int) -> tuple[list[Found], int]:
    """The last `limit` entries that are wanted, and the position at which the log ended."""
    latest: deque[Found] = deque(maxlen=limit)
    end = 0
    for found in _entries(read, 0):
        end = found[0] + 1
        if wanted.wants(found[2]):
            latest.append(found)
    return list(latest), end


def _follow(read: Read, wanted: Filter, start: int, show: Callable[[Found], None]) -> None:
    while True:
        for found in _entries(read, start):
            start = found[0] + 1
            if wanted.wants(found[2]):
                show(found)
        sys.stdout.flush()
        time.sleep(FOLLOW_SECONDS)


def _print_record(found: Found) -> None:
    position, _, entry = found
    sys.stdout.write(to_json({"position": position, **entry}) + "\n")


def _print_entry(found: Found) -> None:
    position, _, entry = found
    print_entry(position, entry)


app.command()(search)
app.command()(export)
