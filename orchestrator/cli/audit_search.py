"""`jml audit search`: the entries that fit, from the log alone."""

import sys
from typing import Annotated

import typer

from orchestrator.cli.options import DEFAULT_CONFIG, AppName, AsJson, ConfigPath
from orchestrator.cli.output import note, to_json
from orchestrator.cli.reading import (
    Actor,
    Correlation,
    Event,
    Kind,
    LogDir,
    Person,
    Since,
    Until,
    WithValues,
    between,
    open_log,
    opened_entry,
    print_entry,
)
from orchestrator.evidence.entries import name_of
from orchestrator.evidence.query import Filter


def search(
    person: Person = None,
    application: AppName = None,
    kind: Kind = None,
    actor: Actor = None,
    event: Event = None,
    correlation: Correlation = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Stop after N entries.")] = None,
    with_values: WithValues = False,
    log: LogDir = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Entries by person, application, kind, actor, time, event or correlation, oldest first; all that is given counts.

    It reads the log alone, from its beginning, and prints as it finds. A person or an application of which no entry
    tells is refused. An entry that cannot fit is not looked into;
    whether the log is whole, `jml audit verify` says. Personal values stay sealed unless you say `--with-values`.

    Example: `jml audit search --person 4711 --kind command_applied --since 2026-01-01 --with-values`
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
        found = 0
        for one in opened.entries(wanted):
            entry = opened_entry(one, opened.keys) if with_values else one.entry
            if as_json:
                sys.stdout.write(("[\n" if not found else ",\n") + to_json({"position": one.position, **entry}))
            else:
                print_entry(one.position, entry, name_of(one.subject, opened.keys))
            found += 1
            if found == limit:
                break
        if not found:
            opened.check(wanted)
        if as_json:
            sys.stdout.write("\n]\n" if found else "[]\n")
        elif not found:
            note("no entry matches")
