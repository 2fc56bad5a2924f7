"""`jml chaos`: prove the promises on this machine, with roles that die and applications that misbehave."""

import asyncio
import logging
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
from rich.table import Table
from sqlalchemy.engine import make_url

from orchestrator.cli.options import AsJson, run_service
from orchestrator.cli.output import print_table
from orchestrator.cli.progress import Bars
from orchestrator.errors import UserError

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

T = TypeVar("T")

SHOWN_VIOLATIONS = 20


Kafka = Annotated[str | None, typer.Option(help="A broker without topics of ours.", metavar="HOST:PORT")]
Store = Annotated[
    str | None, typer.Option(help="postgresql+asyncpg://... of a server to make a database on.", metavar="URL")
]
ServicesFile = Annotated[
    Path | None,
    typer.Option(
        "--services",
        help="A TOML file that says where broker and database are, and by which commands a run may stop, freeze and "
        "start them.",
        metavar="FILE",
    ),
]


@app.callback()
def chaos() -> None:
    """Kill roles and services, let applications misbehave, then judge from what the applications wrote down.

    Example: `jml chaos run --kafka localhost:9092 --store postgresql+asyncpg://jml@localhost/postgres`
    """


@app.command()
def run(
    kafka: Kafka = None,
    store: Store = None,
    services: ServicesFile = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the load, the blows and the faults.")] = 1,
    people: Annotated[int, typer.Option(min=1, max=20_000, help="Working lives to play.")] = 2000,
    seconds: Annotated[float, typer.Option(min=5, max=3600, help="How long to send events and strike.")] = 180,
    apps: Annotated[int, typer.Option(min=2, max=8, help="Connected applications.")] = 8,
    faults: Annotated[str, typer.Option(help="all, or none: neither faults nor blows, to compare with.")] = "all",
    rechecks: Annotated[
        bool,
        typer.Option(
            help="Also wait for the second looks that follow an interrupted call, and for what a connector whose clock "
            "was ahead put off: up to 10 minutes."
        ),
    ] = True,
    report: Annotated[
        Path | None, typer.Option(help="Write report.json, report.html and all evidence here.", metavar="DIR")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run every role and application as a process, let blows and faults rain, then wait for quiet and judge.

    Roles are killed and frozen, their links cut, their clocks stepped, the auditor's disk is full; with `--services`
    the broker and the database are stopped as well. A database and the topics are made for the run and removed after
    it. Exit code 0: no promise was broken; 1: one was, and the report says where.

    Example: `jml chaos run --kafka localhost:9092 --store postgresql+asyncpg://jml@localhost/postgres --seed 7`
    """
    from orchestrator.chaos.faults import known
    from orchestrator.chaos.page import page
    from orchestrator.chaos.report import figures
    from orchestrator.chaos.run import Settings, run_chaos

    where = _where(kafka, store, services)
    settings = Settings(*where[:2], seed, people, seconds, apps, known(faults), rechecks, where[2])
    with _folder(report) as folder:
        with Bars() as bars:
            logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that the broker is gone is no news: we stop it
            outcome = run_service(_until_told(run_chaos(settings, folder, bars)))
        found = figures(outcome, _command(settings, services))
        if report is not None:
            (report / "report.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
            (report / "report.html").write_text(page(outcome, found))
    if as_json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        _show(found)
    raise typer.Exit(1 if outcome.violations else 0)


@app.command()
def mutants(
    kafka: Kafka = None,
    store: Store = None,
    services: ServicesFile = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Just this mutant; may be given several times.", metavar="NAME")
    ] = None,
    control: Annotated[
        bool, typer.Option(help="Also play each scene without a mutant: there nothing may be found.")
    ] = True,
    report: Annotated[Path | None, typer.Option(help="Keep all evidence here.", metavar="DIR")] = None,
    as_json: AsJson = False,
) -> None:
    """Prove the checker: take one safeguard at a time out of real processes, and see that the verdict finds it.

    Each mutant is played in a small fixed scene that provokes it. Exit code 0: all were caught, and nothing was found
    where there was nothing to find; 1: otherwise.

    Example: `jml chaos mutants --kafka localhost:9092 --store postgresql+asyncpg://jml@localhost/postgres`
    """
    from orchestrator.chaos.hunt import chosen, hunt

    where = _where(kafka, store, services)
    names = chosen(only or [])
    with _folder(report) as folder, Bars() as bars:
        rows = run_service(_until_told(hunt(where[0], where[1], names, folder, bars, control=control)))
    if as_json:
        sys.stdout.write(orjson.dumps([row.document() for row in rows]).decode() + "\n")
    else:
        table = ("mutant", "what it lacks", "caught by", "seconds#")
        print_table("Mutants", table, ((row.name, row.about, row.said(), f"{row.seconds:.0f}") for row in rows))
    raise typer.Exit(0 if all(row.good for row in rows) else 1)


def _where(kafka: str | None, store: str | None, services: Path | None) -> tuple[str, str, Any]:
    """Broker, database, and how they are hurt. What is said on the command line goes before the file."""
    from orchestrator.chaos.services import Services, load_services

    found = load_services(services) if services else Services()
    bootstrap, url = kafka or found.kafka, store or found.store
    if bootstrap is None or url is None:
        raise UserError("name a broker and a database: --kafka and --store, or --services with a file that has both")
    return bootstrap, url, found


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


def _command(settings: Any, services: Path | None) -> str:
    """What plays the run again. A password stays out of it: reports are passed on."""
    words = ["jml", "chaos", "run", "--kafka", settings.kafka]
    words += ["--store", make_url(settings.store).render_as_string(hide_password=True)]
    words += ["--services", str(services)] if services else []
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


def _show(found: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"jml chaos run, seed {found['seed']}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in found.items():
        if name in ("seed", "command", "violations"):
            continue
        table.add_row(name.replace("_", " "), _shown(value) or "none")
    console.print(table)
    violations = found["violations"]
    for one in violations[:SHOWN_VIOLATIONS]:
        console.print(f"[red]violation[/red] {one}", highlight=False, soft_wrap=True)
    if len(violations) > SHOWN_VIOLATIONS:
        console.print(f"and {len(violations) - SHOWN_VIOLATIONS} more")
    console.print("[green]no violation[/green]" if not violations else f"[red]{len(violations)} violations[/red]")
    console.print(f"play it again: {found['command']}", highlight=False, soft_wrap=True)


def _shown(value: Any) -> str:
    """A figure, or several with their names; those of a whole distribution on a line of their own."""
    if not isinstance(value, dict):
        return str(value)
    nested = any(isinstance(one, dict) for one in value.values())
    between, after = ("\n", ":") if nested else (", ", "")
    return between.join(f"{name}{after} {_shown(one)}" for name, one in value.items())
