"""`jml chaos`: prove the promises on this machine, with roles that die and applications that misbehave."""

import asyncio
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy.engine import make_url

from orchestrator.cli.options import AsJson, run_async
from orchestrator.errors import UserError
from orchestrator.log import configure

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

T = TypeVar("T")

SHOWN_VIOLATIONS = 20


@app.callback()
def chaos() -> None:
    """Kill roles and let applications misbehave, then judge from what the applications wrote down.

    Example: `jml chaos run --kafka localhost:9092 --store postgresql+asyncpg://jml@localhost/postgres`
    """


@app.command()
def run(
    kafka: Annotated[str, typer.Option(help="A broker without topics of ours.", metavar="HOST:PORT")],
    store: Annotated[
        str, typer.Option(help="postgresql+asyncpg://... of a server to make a database on.", metavar="URL")
    ],
    seed: Annotated[int, typer.Option(min=0, help="Of the load, the blows and the faults.")] = 1,
    people: Annotated[int, typer.Option(min=1, max=20_000, help="Working lives to play.")] = 200,
    seconds: Annotated[float, typer.Option(min=5, max=3600, help="How long to send events and strike.")] = 60,
    apps: Annotated[int, typer.Option(min=2, max=8, help="Connected applications.")] = 4,
    faults: Annotated[str, typer.Option(help="all, or none: neither faults nor kills, to compare with.")] = "all",
    rechecks: Annotated[
        bool, typer.Option(help="Also wait for the second looks that follow an interrupted call, for up to 3 minutes.")
    ] = True,
    report: Annotated[
        Path | None, typer.Option(help="Write report.json, report.html and all evidence here.", metavar="DIR")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run every role and every application as a process, kill and pause roles at random, then wait for quiet and judge.

    A database and the topics are made for the run and removed after it. Exit code 0: no promise was broken; 1: one was,
    and the report says where.

    Example: `jml chaos run --kafka localhost:9092 --store postgresql+asyncpg://jml@localhost/postgres --seed 7`
    """
    from orchestrator.chaos.faults import known
    from orchestrator.chaos.page import page
    from orchestrator.chaos.report import figures
    from orchestrator.chaos.run import Settings, run_chaos

    configure("error")
    settings = Settings(kafka, store, seed, people, seconds, apps, known(faults), rechecks)
    with _folder(report) as folder:
        with _Bars() as bars:
            outcome = run_async(_until_told(run_chaos(settings, folder, bars)))
        found = figures(outcome, _command(settings))
        if report is not None:
            (report / "report.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
            (report / "report.html").write_text(page(outcome, found))
    if as_json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        _show(found)
    raise typer.Exit(1 if outcome.violations else 0)


async def _until_told(work: Coroutine[Any, Any, T]) -> T:
    """SIGTERM ends a run as Ctrl-C does: a dozen processes and a database of ours must not be left behind."""
    task = asyncio.ensure_future(work)
    told: list[int] = []

    def stop() -> None:
        told.append(signal.SIGTERM)
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if told:
            raise typer.Exit(128 + signal.SIGTERM) from None
        raise


def _command(settings: Any) -> str:
    """What plays the run again. A password stays out of it: reports are passed on."""
    words = ["jml", "chaos", "run", "--kafka", settings.kafka]
    words += ["--store", make_url(settings.store).render_as_string(hide_password=True)]
    words += ["--seed", str(settings.seed), "--people", str(settings.people), "--seconds", f"{settings.seconds:g}"]
    words += ["--apps", str(settings.apps), "--faults", "all" if settings.faults else "none"]
    return shlex.join(words if settings.rechecks else [*words, "--no-rechecks"])


@contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    """Where the evidence goes: a folder that has no other run's in it."""
    if chosen is not None:
        folder = chosen.absolute() / "evidence"
        if folder.exists():
            raise UserError(f"{chosen} holds a report already: name another folder")
        folder.mkdir(parents=True)
        yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix="jml-chaos-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Bars:
    """Progress on standard error, one bar for each phase."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        self._bars = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Show how far a phase is."""
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(phase, total=total)
        self._bars.update(self._tasks[phase], completed=done, total=total)

    def __enter__(self) -> "_Bars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


def _show(found: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"jml chaos run, seed {found['seed']}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in found.items():
        if name in ("seed", "command", "violations"):
            continue
        shown = ", ".join(f"{one} {count}" for one, count in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), shown or "none")
    console.print(table)
    violations = found["violations"]
    for one in violations[:SHOWN_VIOLATIONS]:
        console.print(f"[red]violation[/red] {one}", highlight=False, soft_wrap=True)
    if len(violations) > SHOWN_VIOLATIONS:
        console.print(f"and {len(violations) - SHOWN_VIOLATIONS} more")
    console.print("[green]no violation[/green]" if not violations else f"[red]{len(violations)} violations[/red]")
    console.print(f"play it again: {found['command']}", highlight=False, soft_wrap=True)
