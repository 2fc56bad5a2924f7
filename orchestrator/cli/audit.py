"""`jml audit`: follow the audit log; what else can be done with it stands in modules of its own."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Annotated

import typer

from orchestrator.cli import audit_proofs, services
from orchestrator.cli.audit_export import export
from orchestrator.cli.audit_search import search
from orchestrator.cli.options import DEFAULT_CONFIG, AppName, AsJson, ConfigPath, load
from orchestrator.cli.output import note, print_json, to_json
from orchestrator.cli.people import Found, People
from orchestrator.cli.reading import Kind, LogDir, Person, WithValues, print_entry
from orchestrator.evidence.entries import no_such_application, recorded
from orchestrator.evidence.query import Filter

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

Read = Callable[[int], Iterator[tuple[int, bytes]]]
FOLLOW_SECONDS = 0.5
LOOK_BACK = 1024
"""So many entries are read first for the latest ones."""

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
    values: WithValues = False,
    log: LogDir = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """The latest entries, oldest first; with `--follow` also those to come.

    People are shown by their worker ids while the database answers. The log itself holds subjects, which are all that
    is left of somebody who was erased, and all that a copy read with `--log` has. `--json` prints one array, together
    with `--follow` one object per line.

    Example: `jml audit tail --follow --kind command_parked`
    """
    if log is not None:
        people, folder, configured = People(None), log, frozenset[str]()
    else:
        loaded = load(config)
        people, folder, configured = People(loaded), loaded.audit.dir, frozenset(loaded.apps)
    read, end = services.audit_entries(folder), services.audit_end(folder)
    wanted = Filter(people.subject(person) if person else None, application, kind)
    latest = _latest(read, wanted, limit, end)
    if application is not None and not latest and not (follow and application in configured):
        _check_application(read, application)
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


def _check_application(read: Read, application: str) -> None:
    """Raises UserError for an application of which no entry tells."""
    if not any(one.app == application for one in recorded(read(0), Filter(app=application).needles())):
        raise no_such_application(application, {one.app for one in recorded(read(0)) if one.app is not None})


def _entries(read: Read, start: int) -> Iterator[Found]:
    for one in recorded(read(start)):
        yield one.position, one.record, one.entry


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
    print_entry(position, entry, entry.get("person_id"))


app.command()(search)
app.command()(export)
