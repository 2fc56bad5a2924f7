"""`jml schema`: the contracts as documents, and events held against them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.event_lines import lines, opened
from orchestrator.cli.events import explain, problems_of
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load
from orchestrator.cli.output import print_json, print_line, to_json
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

EXAMPLE_APPS = ("directory",)


@app.callback()
def schema() -> None:
    """The contracts of all messages: for those who send events, and for those who read the audit stream.

    Example: `jml schema export contracts/`
    """


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if missing.", metavar="DIR")] = Path(
        "build/schemas"
    ),
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Write the JSON Schema of every message, the CloudEvents headers, and an AsyncAPI 3.0 document of all topics.

    The topics are those of the configured applications; where there is no jml.toml, of an example application.

    Example: `jml schema export contracts/ && ls contracts/messages`
    """
    from orchestrator.schema_export import documents

    # Without a file there still are contracts; a file that somebody named has to be there.
    apps = tuple(load(config).apps) if config.exists() or config != DEFAULT_CONFIG else EXAMPLE_APPS
    written = documents(apps or EXAMPLE_APPS)
    _write(folder, written)
    if as_json:
        print_json({"folder": str(folder), "files": sorted(written)})
    else:
        print_line(f"wrote {counted(len(written), 'document')} to {folder}")


@app.command()
def check(
    file: Annotated[
        str, typer.Argument(help="JSON lines of structured CloudEvents; - is standard input.", metavar="FILE")
    ],
    as_json: AsJson = False,
) -> None:
    """Hold every event against its schema, and send nothing. Exit code 2 when one is bad.

    One whose time is more than a day ahead, or whose time zone nobody knows, is bad as well.

    Example: `jml schema check hires.jsonl`
    """
    with opened(file) as source:
        count = sum(1 for _ in lines(source))
        problems = list(problems_of(source, to_send=False))
    if as_json:
        print_json({"events": count, "bad": len(problems), "problems": [one._asdict() for one in problems]})
    if problems:
        raise UserError(explain(file, problems, f"{count - len(problems)} are good"))
    if not as_json:
        print_line(f"{counted(count, 'event')}, all good")


def _write(folder: Path, written: Mapping[str, Any]) -> None:
    try:
        for name, document in written.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(to_json(document, indent=True) + "\n")
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be written: {error.strerror}") from None
