"""`jml hr`: publish identity changes from an export of an HR system."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import services
from orchestrator.cli.event_lines import message
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import print_json, print_line
from orchestrator.cli.sending import publish
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError
from orchestrator.sources import sources
from orchestrator.sources.base import Source
from schemas.changes import BY_TYPE
from schemas.envelope import Message

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)


@app.callback()
def hr() -> None:
    """Publish identity changes from an export of an HR system.

    Example: `jml hr import exports/2026-03-02`
    """


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="The folder with the export's files.", metavar="DIR")],
    source: Annotated[str, typer.Option("--source", "-s", help="Which source reads it.")] = "employees_csv",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Publish every change that an export tells, in the order of time.

    The export is checked as a whole first: with a malformed file nothing is sent. The same export gives the same
    events, so importing it again is harmless.

    Example: `jml hr import exports/2026-03-02 --source employees_csv`
    """
    loaded = load(config)
    services.real_broker(loaded)
    chosen = sources().get(source)
    if chosen is None:
        raise UserError(f"there is no source {source!r} (there are: {', '.join(sorted(sources()))})")
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; name the one that holds the export's files")
    counts = run_async(publish(loaded, _messages(chosen, folder)))
    published = sum(counts.values())
    if as_json:
        print_json({"published": published, "topics": counts})
    else:
        print_line(f"published {counted(published, 'event')} from {folder}")


def _messages(source: Source, folder: Path) -> Iterator[Message]:
    for envelope in source.events(folder):
        yield message(envelope, BY_TYPE[envelope.type].model_validate_json(envelope.data))
