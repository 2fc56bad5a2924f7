"""`jml bench`: figures beside their floors, measured on this machine in one run."""

import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orchestrator.cli.options import AsJson, run_service
from orchestrator.cli.progress import Bars
from orchestrator.config import EMBEDDED

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

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
    processes: Annotated[
        int, typer.Option(min=1, max=16, help="Compare one resolver with so many, instead of with the floor.")
    ] = 1,
    kafka: Kafka = EMBEDDED,
    store: Store = "sqlite",
    as_json: AsJson = False,
) -> None:
    """Events a second through the resolver's transaction, against consume, decode and bulk insert of the same rows.

    Example: `jml bench resolve --apps 5`
    """
    from orchestrator.bench.resolving import bench_resolve
    from orchestrator.bench.scaling import bench_scaling

    with Bars() as bars:
        if processes > 1:
            work = bench_scaling(kafka, store, apps=apps, count=events, processes=processes, progress=bars)
            _report(work, as_json)
            return
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
    bulk: Annotated[bool, typer.Option("--bulk", help="Let creates go together in Bulk requests.")] = False,
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
        with Bars() as bars:
            _report(
                bench_limited(kafka, store, **sizes, limit=limit, latency=latency_ms / 1000, progress=bars, bulk=bulk),
                as_json,
            )
        return

    with Bars() as bars:
        _report(
            bench_converge(
                kafka,
                store,
                count=accounts,
                concurrency=concurrency,
                latency=latency_ms / 1000,
                progress=bars,
                bulk=bulk,
            ),
            as_json,
        )


@app.command()
def pipeline(
    events: Annotated[int, typer.Option(min=100, help="People to hire, all at once.")] = 4_000,
    apps: Annotated[int, typer.Option(min=1, max=20, help="Connected applications.")] = 5,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Calls at once to each application.")] = 32,
    latency_ms: Annotated[float, typer.Option(min=0, help="What an application takes to answer.")] = 0,
    audit_cost: Annotated[bool, typer.Option("--audit-cost", help="Also what auditing takes, in 3 runs.")] = False,
    kafka: Kafka = EMBEDDED,
    store: Store = "sqlite",
    as_json: AsJson = False,
) -> None:
    """Events a second through the whole pipeline, from HR's topic to accounts in all applications.

    Every role is a process, as in production; on the embedded broker all of them are in one. The floor sends as many
    calls and messages with the bare clients.

    Example: `jml bench pipeline --kafka localhost:9092 --store postgresql+asyncpg://jml@localhost/postgres`
    """
    from orchestrator.bench.pipeline import bench_pipeline

    with Bars() as bars:
        _report(
            bench_pipeline(
                kafka,
                store,
                apps=apps,
                count=events,
                latency=latency_ms / 1000,
                concurrency=concurrency,
                progress=bars,
                audit_cost=audit_cost,
            ),
            as_json,
        )


@app.command()
def leaver(
    joiners: Annotated[int, typer.Option(min=0, help="People who are hired just before.")] = 20_000,
    leavers: Annotated[int, typer.Option(min=10, max=2000, help="People who leave, one after another.")] = 200,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Calls at once to the application.")] = 16,
    latency_ms: Annotated[float, typer.Option(min=0, help="What the application takes to answer.")] = 20,
    kafka: Kafka = EMBEDDED,
    store: Store = "sqlite",
    as_json: AsJson = False,
) -> None:
    """From the event that somebody left to the verified deactivation, while joiners stand in line.

    Example: `jml bench leaver --joiners 20000 --kafka localhost:9092 --store postgresql+asyncpg://jml@localhost/postgres`
    """
    from orchestrator.bench.leaving import bench_leaver

    with Bars() as bars:
        _report(
            bench_leaver(
                kafka,
                store,
                joiners=joiners,
                leavers=leavers,
                latency=latency_ms / 1000,
                concurrency=concurrency,
                progress=bars,
            ),
            as_json,
        )


@app.command()
def memory(
    people: Annotated[
        int, typer.Option(min=2000, help="People at the last measurement; the first is at 1,000.")
    ] = 20_000,
    kafka: Kafka = EMBEDDED,
    store: Store = "sqlite",
    as_json: AsJson = False,
) -> None:
    """Resident memory of every role at 1,000 people and at many, most of them made in the database itself.

    Example: `jml bench memory --people 1000000 --kafka localhost:9092 --store postgresql+asyncpg://jml@localhost/jml`
    """
    from orchestrator.bench.memory import bench_memory

    with Bars() as bars:
        _report(bench_memory(kafka, store, people=people, progress=bars), as_json)


@app.command()
def reading(
    accounts: Annotated[
        int, typer.Option(min=2000, help="Accounts at the last measurement; the first is at 1,000.")
    ] = 20_000,
    store: Store = "sqlite",
    as_json: AsJson = False,
) -> None:
    """The most memory that `jml reconcile`, `jml import` and `jml migrate` hold at 1,000 accounts and at many.

    The application is generated, a page at a time. One account in ten differs from what it should be; of another
    application all accounts are nobody's who is known.

    Example: `jml bench reading --accounts 100000`
    """
    from orchestrator.bench.reading import bench_reading

    with Bars() as bars:
        _report(bench_reading(store, accounts=accounts, progress=bars), as_json)


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

    with Bars() as bars:
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

    with Bars() as bars:
        _report(bench_timers(kafka, store, timers=count, due=min(due, count // 2), progress=bars), as_json)


def _report(work: Coroutine[Any, Any, dict[str, Any]], as_json: bool) -> None:
    figures = run_service(work)
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    table = Table(title=f"jml bench {figures.pop('bench')}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), _shown(value))
    Console().print(table)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_shown(one)}" for name, one in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
