"""`jml bench`: figures beside their floors, measured on this machine in one run."""

import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from orchestrator.cli.options import AsJson, run_service
from orchestrator.config import EMBEDDED
from orchestrator.log import configure

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Kafka = Annotated[
    str, typer.Option(help="`embedded`, or HOST:PORT of a broker of the benchmark's own.", metavar="ADDRESS")
]
Store = Annotated[
    str,
    typer.Option(help="`sqlite`, or postgresql+asyncpg://... of a server to make a database on.", metavar="URL"),
]


@app.callback()
def bench() -> None:
    """Measure this machine. Each figure stands beside its floor: what the bare libraries do with the same bytes.

    Absolute figures say something about one machine, ratios about the code. Nothing of yours is touched: topics and
    database are made for the run and removed after it.

    Example: `jml bench resolve --apps 5 --kafka localhost:9092 --store postgresql+asyncpg://jml@localhost/postgres`
    """


@app.command()
def resolve(
    events: Annotated[int, typer.Option(min=100, help="Events to resolve, half hires, half moves.")] = 10_000,
    apps: Annotated[int, typer.Option(min=1, max=20, help="Connected applications.")] = 1,
    kafka: Kafka = EMBEDDED,
    store: Store = "sqlite",
    as_json: AsJson = False,
) -> None:
    """Events a second through the resolver's transaction, against consume, decode and bulk insert of the same rows.

    Example: `jml bench resolve --apps 5`
    """
    from orchestrator.bench.resolving import bench_resolve

    with _Bars() as bars:
        _report(bench_resolve(kafka, store, apps=apps, count=events, progress=bars), as_json)


@app.command()
def converge(
    accounts: Annotated[int, typer.Option(min=100, help="Accounts to create.")] = 4_000,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Calls at once.")] = 32,
    latency_ms: Annotated[float, typer.Option(min=0, help="What the application takes to answer.")] = 0,
    limit: Annotated[
        float | None,
        typer.Option(min=0.1, help="Keep to so many calls a second instead, and count what groups and changes cost."),
    ] = None,
    kafka: Kafka = EMBEDDED,
    store: Store = "sqlite",
    as_json: AsJson = False,
) -> None:
    """SCIM calls a second through the connector, against the bare transport at the same concurrency and server.

    With --limit the accounts wait in a lane under a budget, with one leaver among them; the application's own journal
    says how much of the limit was used, how many calls came in any window, and how long the leaver took.

    Example: `jml bench converge --concurrency 32`
    """
    from orchestrator.bench.converging import bench_converge
    from orchestrator.bench.limiting import bench_limited

    if limit is not None:
        sizes = {"count": accounts, "concurrency": concurrency}
        with _Bars() as bars:
            _report(
                bench_limited(kafka, store, **sizes, limit=limit, latency=latency_ms / 1000, progress=bars), as_json
            )
        return

    with _Bars() as bars:
        _report(
            bench_converge(
                kafka, store, count=accounts, concurrency=concurrency, latency=latency_ms / 1000, progress=bars
            ),
            as_json,
        )


@app.command()
def memory(
    people: Annotated[
        int, typer.Option(min=2000, help="People at the second measurement; the first is at 1,000.")
    ] = 20_000,
    kafka: Kafka = EMBEDDED,
    store: Store = "sqlite",
    as_json: AsJson = False,
) -> None:
    """Resident memory of a resolver at 1,000 people and at many.

    Example: `jml bench memory --people 100000`
    """
    from orchestrator.bench.memory import bench_memory

    with _Bars() as bars:
        _report(bench_memory(kafka, store, people=people, progress=bars), as_json)


@app.command()
def audit(
    entries: Annotated[int, typer.Option(min=1000, max=100_000_000, help="Entries to append.")] = 200_000,
    folder: Annotated[
        Path | None, typer.Option(help="On whose disk to measure; without it the one for temporary files.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Entries a second into the audit log, durable and under checkpoints, and through its verifier.

    The floor is a bare file with the same bytes: append, fsync, SHA-256. The figures per CPU second are those of one
    core; the rest is waiting for the disk.

    Example: `jml bench audit --entries 1000000 --folder /var/lib/jml`
    """
    from orchestrator.bench.auditing import bench_audit

    with _Bars() as bars:
        _report(bench_audit(folder, entries=entries, progress=bars), as_json)


@app.command()
def timers(
    count: Annotated[int, typer.Option("--timers", min=2000, help="Timers stored.")] = 1_000_000,
    due: Annotated[int, typer.Option(min=1, help="Timers of them that are due at one instant.")] = 10_000,
    kafka: Kafka = EMBEDDED,
    store: Store = "sqlite",
    as_json: AsJson = False,
) -> None:
    """Timers a second through the scheduler's sweep, and what an idle sweep costs with few and with many stored.

    Example: `jml bench timers --timers 100000 --due 5000`
    """
    from orchestrator.bench.timing import bench_timers

    with _Bars() as bars:
        _report(bench_timers(kafka, store, timers=count, due=min(due, count // 2), progress=bars), as_json)


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
        configure("error")
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


def _report(work: Coroutine[Any, Any, dict[str, Any]], as_json: bool) -> None:
    figures = run_service(work)
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    table = Table(title=f"jml bench {figures.pop('bench')}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int | float) else str(value))
    Console().print(table)
