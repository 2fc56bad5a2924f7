"""`jml events`: publish identity changes from JSON lines."""

from collections.abc import Iterator
from typing import IO, Annotated

import typer

from orchestrator.cli import services
from orchestrator.cli.event_lines import BadEvent, Problem, acceptable, called, check, lines, message, opened, unchecked
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import print_json, print_line
from orchestrator.cli.sending import publish
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError
from schemas.envelope import Message

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

SHOWN_PROBLEMS = 20


@app.callback()
def events() -> None:
    """Publish identity changes from JSON lines: for systems without an adapter, and to try things out.

    Example: `jml events send hires.jsonl`
    """


@app.command()
def send(
    file: Annotated[
        str, typer.Argument(help="JSON lines of structured CloudEvents; - is standard input.", metavar="FILE")
    ],
    no_validate: Annotated[
        bool, typer.Option("--no-validate", help="Send the lines as they are, to see bad ones go to quarantine.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Publish every line to hr.events or idp.events, by its type, keyed by worker id or e-mail address.

    All lines are checked before the first is sent: with a bad one nothing is. Sending the same file twice is
    harmless, because an event is known by its source and id.

    Example: `jml events send hires.jsonl`, where an event, each on a line of its own, is

    ```
    {"specversion": "1.0", "id": "1", "source": "hr/example",
     "type": "jml.worker.joined.v1", "time": "2026-03-02T08:15:00Z",
     "data": {"worker_id": "4711", "start_date": "2026-03-16"}}
    ```
    """
    loaded = load(config)
    services.real_broker(loaded)
    with opened(file) as source:
        if not no_validate and (problems := list(problems_of(source))):
            raise UserError(explain(file, problems, "nothing was sent"))
        messages = (unchecked(line) for _, line in lines(source)) if no_validate else _messages(source)
        counts = run_async(publish(loaded, messages))
    if as_json:
        print_json({"published": sum(counts.values()), "topics": counts})
    else:
        where = ", ".join(f"{count} to {topic}" for topic, count in sorted(counts.items()))
        print_line(f"published {counted(sum(counts.values()), 'event')}" + (f": {where}" if where else ""))


def problems_of(source: IO[bytes], *, to_send: bool = True) -> Iterator[Problem]:
    """What is wrong with each bad line; `to_send` also refuses what nobody but the orchestrator may send."""
    now = services.now()
    for number, line in lines(source):
        try:
            envelope, change = check(line)
            acceptable(envelope, change, now)
            if to_send:
                message(envelope, change)
        except BadEvent as error:
            yield Problem(number, str(error))


def explain(file: str, problems: list[Problem], outcome: str) -> str:
    """One line for each of the first problems, then how many there are."""
    shown = [f"{called(file)}, line {one.line}: {one.reason}" for one in problems[:SHOWN_PROBLEMS]]
    if len(problems) > 1:
        shown.append(f"{len(problems)} bad lines, {outcome}")
    else:
        shown[0] += f"; {outcome}"
    return "\n".join(shown)


def _messages(source: IO[bytes]) -> Iterator[Message]:
    for _, line in lines(source):
        yield message(*check(line))
