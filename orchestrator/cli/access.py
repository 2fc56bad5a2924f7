"""`jml access`: who had what, when and why."""

from datetime import datetime
from typing import Annotated

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AppName, AsJson, ConfigPath
from orchestrator.cli.output import moment, note, print_json, print_table
from orchestrator.cli.reading import LogDir, Person, ending, open_log
from orchestrator.errors import UserError
from orchestrator.evidence.reports import ACCESS_OF
from orchestrator.evidence.reports.base import Cell, Finished, Question, make
from orchestrator.evidence.tables import document

app = typer.Typer(rich_markup_mode="markdown", add_completion=False)

MOST_LATER = 20
"""So much that was known later is told beside the table: of a whole application it would be pages."""
_SHOWN = (
    "app",
    "person",
    "access",
    "desired",
    "since",
    "groups",
    "actual",
    "confirmed_at",
    "status",
    "why",
    "event_id",
)


@app.command()
def access(
    person: Person = None,
    application: AppName = None,
    at: Annotated[
        str | None,
        typer.Option(help="As of this instant, or the end of this day in the default zone. Now, if absent."),
    ] = None,
    log: LogDir = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Every account of a person, or of an application, as of an instant: what it should be, what it was, and why.

    It is rebuilt from the audit log alone, and says what the database said at that instant. *Since* is when the
    state holds by HR's word, *confirmed* when the application had it. What was stated later and holds at the instant
    already is told as known later. Access is unsure while a call to the application was under way or had failed.

    Example: `jml access --person 4711 --at 2026-03-31`
    """
    if person is None and application is None:
        raise UserError("name a person with --person, an application with --app, or both")
    with open_log(config, log) as opened:
        cutoff = ending("--at", at, opened.zone, services.now())
        question = Question(cutoff=cutoff, app=application, subject=opened.subject(person), keys=opened.keys)
        finished = make(ACCESS_OF, question, opened.entries(), opened.source.size, opened.source.root)
        if as_json:
            print_json(document(finished))
        else:
            _print(finished)


def _print(finished: Finished) -> None:
    columns = finished.report.columns
    shown = [place for place, one in enumerate(columns) if one.name in _SHOWN]
    rows = [[_text(row[place]) for place in shown] for row in finished.rows]
    print_table(f"Access as of {moment(finished.cutoff)}", [columns[place].title for place in shown], rows)
    told = [dict(zip((one.name for one in columns), row, strict=True)) for row in finished.rows]
    later = [f"{one['person']} in {one['app']} {one['known_later']}" for one in told if one["known_later"]]
    for text in later[:MOST_LATER]:
        note(f"known later: {text}")
    if len(later) > MOST_LATER:
        note(f"known later: {len(later) - MOST_LATER} more; --json has all of them")


def _text(cell: Cell) -> str | None:
    if cell is None or cell == "":
        return None
    return moment(cell) if isinstance(cell, datetime) else str(cell)
