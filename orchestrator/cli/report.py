"""`jml report`: what auditors ask for, with everything that is needed to check it."""

from enum import StrEnum
from typing import IO, Annotated

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AppName, ConfigPath
from orchestrator.cli.output import note, to_json
from orchestrator.cli.reading import (
    LogDir,
    Output,
    Person,
    Utf8,
    WithValues,
    ending,
    length,
    open_log,
    output,
    starting,
)
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError
from orchestrator.evidence.page import page
from orchestrator.evidence.reports import REPORTS
from orchestrator.evidence.reports.base import Finished, Question, Report, make
from orchestrator.evidence.tables import document, write_report

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

Name = Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(REPORTS)}.")]


class Format(StrEnum):
    """What a report is written as."""

    CSV = "csv"
    JSON = "json"
    HTML = "html"


@app.command()
def report(
    name: Name,
    at: Annotated[
        str | None,
        typer.Option(help="The cutoff: only what was recorded up to this instant, or the end of this day, counts."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Rows from this day (default zone) or instant on.", metavar="TIME")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", help="Rows up to the end of this day, or before this instant.", metavar="TIME"),
    ] = None,
    person: Person = None,
    application: AppName = None,
    limit: Annotated[
        str, typer.Option(help="Leavers and joiners: how long it may take, such as 90s, 15min, 1h or 2d.", metavar="T")
    ] = "1h",
    format_: Annotated[Format, typer.Option("--format", help="For a spreadsheet, a program, or people.")] = Format.CSV,
    target: Output = None,
    with_values: WithValues = False,
    log: LogDir = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """A report for auditors from the audit log: leavers, joiners, access, orphans, contractors, drift, overrides,
    parked-and-held.

    Each names its query, the cutoff, the number of rows, the size and the root of the log's checkpoint, and the
    controls that it supports. The same question to the same log gives the same bytes. The HTML page is one file to
    print. In CSV, lines that begin with `#` come first, and a cell that a spreadsheet would take for a formula begins
    with an apostrophe.

    Example: `jml report leavers --from 2026-01-01 --to 2026-03-31 --limit 1h --format html --out leavers.html`
    """
    asked = _report(name)
    if not asked.has_period and (since is not None or until is not None):
        raise UserError(f"the report {name} is of one instant: use --at and neither --from nor --to")
    if not asked.has_app and application is not None:
        raise UserError(f"the report {name} is about no application: leave --app out")
    with open_log(config, log) as opened:
        now, longest = services.now(), length("--limit", limit)
        question = Question(
            cutoff=ending("--at", at, opened.zone, now),
            since=starting("--from", since, opened.zone),
            until=ending("--to", until, opened.zone, now),
            app=application,
            subject=opened.subject(person),
            limit=longest,
            keys=opened.keys,
            values=with_values,
        )
        _check_period(question)
        finished = make(asked, question, opened.entries(), opened.source.size, opened.source.root)
        with output(target) as file:
            _write(file, finished, format_)
        rows = len(finished.rows)
        note(counted(rows, "row") + (f" in {target}" if target else ""))


def _report(name: str) -> Report:
    found = REPORTS.get(name)
    if found is None:
        raise UserError(f"there is no report {name!r} (there are: {', '.join(REPORTS)})")
    return found


def _check_period(question: Question) -> None:
    since, until, cutoff = question.since, question.until, question.cutoff
    if since is not None and until is not None and since >= until:
        raise UserError("--from is not before --to: no row can lie between them")
    if since is not None and cutoff is not None and since > cutoff:
        raise UserError("--from is after --at: what was recorded after the cutoff does not count")


def _write(file: IO[bytes], finished: Finished, format_: Format) -> None:
    if format_ is Format.CSV:
        write_report(Utf8(file), finished)
    elif format_ is Format.JSON:
        file.write(to_json(document(finished), indent=True).encode() + b"\n")
    else:
        for piece in page(finished):
            file.write(piece.encode(errors="backslashreplace"))
