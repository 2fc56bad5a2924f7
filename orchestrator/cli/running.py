"""`jml run`, `up`, `demo`, `demo-app`: commands that keep running, or play a whole story."""

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from orchestrator.bootstrap import Role, Runtime, open_runtime, running, until_done_or
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_service
from orchestrator.config import Config
from orchestrator.errors import UserError
from orchestrator.log import configure
from orchestrator.ports import Clock
from orchestrator.roles import MakeRole, role_names
from orchestrator.roles import role as find_role

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)
log = structlog.get_logger()

LogLevel = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]


@app.command()
def run(
    role: Annotated[
        str, typer.Argument(help="resolver, connector, scheduler, relay, auditor or notifier.", metavar="ROLE")
    ],
    config: ConfigPath = DEFAULT_CONFIG,
    log_level: LogLevel = "info",
) -> None:
    """Run one role until SIGTERM. Start more processes of a role to share its work.

    A role that is stopped finishes what is under way and commits it; one that is killed leaves nothing half done:
    what it had taken up is taken up again.

    Example: `jml run resolver --config jml.toml`
    """
    make = find_role(role)
    settings = load(config)
    if settings.kafka.embedded:
        raise UserError("the embedded broker serves one process only: use `jml up`, or set [kafka] bootstrap")
    configure(log_level)
    run_service(serve(settings, {role: make}))


@app.command()
def up(config: ConfigPath = DEFAULT_CONFIG, log_level: LogLevel = "info") -> None:
    """Run all roles in one process until SIGTERM: for evaluation, and for small companies.

    Example: `jml up --config jml.toml`
    """
    configure(log_level)
    run_service(serve(load(config), {name: find_role(name) for name in role_names()}))


async def serve(config: Config, makers: dict[str, MakeRole], *, clock: Clock | None = None) -> None:
    """Run roles in this process until SIGTERM, on the machine's clock or another one."""
    from orchestrator.adapters.ops_http import OpsServer

    names = list(makers)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_runtime(config, clock=clock, wall=clock) as runtime:
        roles = [make(runtime) for make in makers.values()]
        async with OpsServer(runtime, names).serving(), running(runtime, roles) as failed:
            log.info("started", roles=",".join(names))
            if config.kafka.embedded:
                sys.stderr.write(
                    f"jml: the embedded broker listens on {runtime.bootstrap} and keeps nothing; send events from "
                    f"another shell with `JML_KAFKA__BOOTSTRAP={runtime.bootstrap} jml events send FILE`\n"
                )
            await until_done_or(failed, stop.wait())
            log.info("stopping", roles=",".join(names))
    log.info("stopped", roles=",".join(names))


@app.command("demo-app")
def demo_app(
    name: Annotated[str, typer.Argument(help="directory, engineering or payroll.", metavar="NAME")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 0,
    journal: Annotated[Path | None, typer.Option(help="Append every answered request to this file.")] = None,
    token_env: Annotated[str | None, typer.Option(help="Variable with the bearer token to require.")] = None,
) -> None:
    """Serve one of the demo's SCIM applications until SIGTERM.

    Example: `jml demo-app directory --port 9001`
    """
    from orchestrator.demo.applications import BY_NAME
    from orchestrator.demo.servers.serve import serve

    if name not in BY_NAME:
        raise UserError(f"there is no demo application {name!r}; there are {', '.join(BY_NAME)}")
    serve(BY_NAME[name].server, host=host, port=port, journal=journal, token_env=token_env)


@app.command()
def demo(
    as_json: AsJson = False,
    state_dir: Annotated[
        Path | None, typer.Option(help="Keep database, audit log and the applications' journals here.")
    ] = None,
    employees: Annotated[Path | None, typer.Option(help="Another export of the same shape (a folder of CSVs).")] = None,
    export_accounts: Annotated[
        Path | None, typer.Option(help="Write what the applications hold to this file, as JSON {app: [resource, ...]}.")
    ] = None,
) -> None:
    """Play the working lives of 1,000 people through the whole pipeline, then compare every application with the CSVs.

    Everything runs in this process and three SCIM servers on loopback. Exit code 0: every account is exactly what it
    should be; 1: something differs, and the table says what.

    Example: `jml demo --state-dir /tmp/jml-demo`
    """
    from orchestrator.demo.play import EMPLOYEES

    folder = employees or EMPLOYEES
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --employees takes a folder with employee.csv and its siblings")
    if export_accounts is not None and not export_accounts.absolute().parent.is_dir():
        raise UserError(f"{export_accounts.parent}: no such folder; --export-accounts takes a file in one that exists")
    if state_dir is not None and (state_dir / "jml.db").exists():
        raise UserError(f"{state_dir} holds a demo already; name an empty folder, or remove it")
    configure("error")
    with _state_folder(state_dir) as state:
        outcome = run_service(_play(state, folder, export=export_accounts is not None))
    if export_accounts is not None:
        export_accounts.write_bytes(orjson.dumps(outcome.exported, option=orjson.OPT_INDENT_2))
    _show(outcome, state_dir, Console(stderr=as_json))
    if as_json:
        sys.stdout.write(json.dumps(_summary(outcome)) + "\n")
    raise typer.Exit(0 if outcome.exact else 1)


@contextlib.contextmanager
def _state_folder(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="jml-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _play(state: Path, employees: Path, *, export: bool) -> Any:
    from orchestrator.demo.play import play

    def roles(runtime: Runtime) -> list[Role]:
        return [find_role(name)(runtime) for name in role_names()]

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=total)
            bars.update(tasks[phase], completed=done, total=total)

        return await play(state, roles, employees=employees, progress=progress, export=export)


def _show(outcome: Any, state: Path | None, console: Console) -> None:
    table = Table(
        title=f"{outcome.people} people, {outcome.events} HR events, {outcome.seconds:.1f} s", title_justify="left"
    )
    for column in ("app", "accounts", "active", "wanted", "groups", "members", "calls", "wrong"):
        table.add_column(column, justify="left" if column == "app" else "right")
    for one in outcome.verdicts:
        table.add_row(
            one.app,
            str(one.accounts),
            str(one.active),
            str(one.expected_active),
            str(one.groups),
            str(one.memberships),
            str(outcome.calls[one.app]),
            str(len(one.differences)) if one.differences else "none",
        )
    console.print(table)
    console.print(
        f"{outcome.timers_fired} ends and starts by the scheduler, {outcome.audit_entries} audit entries, "
        f"{outcome.parked} parked, {outcome.quarantined} quarantined"
    )
    for one in outcome.verdicts:
        for difference in one.differences[:10]:
            console.print(f"[red]{one.app}[/red] {difference}", highlight=False)
    if state is not None:
        console.print(f"kept in {state}: jml.db, audit/, and a journal of each application")
    console.print("[green]exact[/green]" if outcome.exact else "[red]NOT exact[/red]")


def _summary(outcome: Any) -> dict[str, Any]:
    return {
        "exact": outcome.exact,
        "people": outcome.people,
        "events": outcome.events,
        "seconds": round(outcome.seconds, 2),
        "audit_entries": outcome.audit_entries,
        "timers_fired": outcome.timers_fired,
        "parked": outcome.parked,
        "quarantined": outcome.quarantined,
        "applications": {
            one.app: {
                "accounts": one.accounts,
                "active": one.active,
                "expected_active": one.expected_active,
                "groups": one.groups,
                "memberships": one.memberships,
                "calls": outcome.calls[one.app],
                "differences": list(one.differences),
            }
            for one in outcome.verdicts
        },
    }
