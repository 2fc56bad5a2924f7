"""`jml policy`: have everybody decided anew after a change of the policy, and see how far that is."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, NamedTuple

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import note, print_json, print_line, print_table
from orchestrator.cli.plan import print_problems, total_rows, totals_document
from orchestrator.cli.progress import TICK, Bars
from orchestrator.cli.reading import length
from orchestrator.config import Config
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError
from orchestrator.flows.policy_change import Impact, PastBreaker, impact, record, schedule

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

LONGEST = timedelta(days=30)


@app.callback()
def policy() -> None:
    """The policy in force, and how it reaches people who have no event of their own.

    Whoever has an event is decided by the new policy then. `jml policy apply` has everybody else decided too.

    Example: `jml plan --all --config new.toml`, then put it in force, restart the roles, `jml policy apply`
    """


class _Applied(NamedTuple):
    version: str
    impact: Impact
    past: list[PastBreaker]
    undecided: int
    waiting: int
    scheduled: int | None


@app.command()
def apply(
    over: Annotated[
        str, typer.Option("--over", help="Spread it over so long, as 30m, 4h or 1d.", metavar="LENGTH")
    ] = "30m",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Even if it takes away more access than the breaker lets pass.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Have everybody decided anew by the policy of this configuration, spread over a time.

    Restart the resolvers with the new configuration first: it is they who decide. Everybody gets a timer and is decided
    when it fires, on the same path as every event, behind the breaker. Whoever was decided by this version already is
    left out, and whoever waits keeps the timer, so it can be called again: after a crash it goes on where it stopped.

    It looks at everybody first, as `jml plan --all` does. Where the policy takes away more access than the breaker of
    an application lets pass, it does nothing without --yes; with it, what is past the breaker is held there.

    Example: `jml policy apply --dry-run`, then `jml policy apply --over 4h`
    """
    loaded, spread = load(config), length("--over", over)
    if spread > LONGEST:
        raise UserError(f"--over {over!r} is more than {LONGEST.days} days")
    applied = run_async(_apply(loaded, spread, dry_run=dry_run, yes=yes))
    refused = applied.scheduled is None and not dry_run
    if as_json:
        print_json(_document(applied))
    else:
        _print(applied, over)
    if refused:
        raise UserError(
            "; ".join(map(_past, applied.past)) + ": nothing was done. Look at `jml plan --all`; "
            "with --yes it is done, and what is past the breaker is held for you (`jml held list`)"
        )


@app.command()
def show(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """The version of the policy in this configuration, and how many persons each version decided last.

    A version is the digest that commands and audit entries carry. People of another version are decided by this one at
    their next event, or by `jml policy apply`; those without one were decided before this was kept.

    Example: `jml policy show`, and `jml policy show --json | jq .undecided`
    """
    loaded = load(config)
    version = loaded.policy().digest
    versions, waiting = run_async(_versions(loaded))
    undecided = _undecided(versions, version)
    if as_json:
        rows = [{"version": name, "persons": number} for name, number in _sorted(versions)]
        print_json({"policy": version, "undecided": undecided, "waiting": waiting, "versions": rows})
        return
    print_table(
        "Persons by the policy that decided them last",
        ("policy", "persons#", ""),
        [(name or "unknown", number, "this one" if name == version else "") for name, number in _sorted(versions)],
    )
    print_line(
        f"policy {version}: {counted(undecided, 'person is', 'persons are')} not decided by it yet, "
        f"{waiting} of all wait for their turn"
    )


async def _versions(config: Config) -> tuple[Mapping[str | None, int], int]:
    async with services.policy_stores(config) as (store, _):
        return await store.versions(), await store.waiting()


async def _apply(config: Config, over: timedelta, *, dry_run: bool, yes: bool) -> _Applied:
    compiled, now = config.policy(), services.now()
    async with services.policy_stores(config) as (store, persons):
        versions, waiting = await store.versions(), await store.waiting()
        undecided, everybody = _undecided(versions, compiled.digest), sum(versions.values())
        with Bars() as bars:
            found = await impact(persons, compiled, now, _ticks(bars, everybody))
            past = found.past(config.breaker_policy(), await store.population())
            if dry_run or (past and not yes):
                return _Applied(compiled.digest, found, past, undecided, waiting, None)
            begin = services.now()
            if undecided:
                operator = services.operator_name()
                async with services.operator_writer(config) as writer:
                    await record(store, writer, found, compiled.digest, operator=operator, over=over, now=begin)
            scheduled = 0
            async for scheduled in schedule(store, compiled.digest, begin=begin, over=over):
                bars("persons scheduled", scheduled, max(undecided, scheduled))
    return _Applied(compiled.digest, found, past, undecided, waiting, scheduled)


def _ticks(bars: Bars, everybody: int) -> Any:
    def tick(done: int) -> None:
        if done % TICK == 0 or done >= everybody:
            bars("persons planned", done, max(everybody, done))

    return tick


def _undecided(versions: Mapping[str | None, int], version: str) -> int:
    return sum(number for name, number in versions.items() if name != version)


def _sorted(versions: Mapping[str | None, int]) -> list[tuple[str | None, int]]:
    return sorted(versions.items(), key=lambda one: (-one[1], one[0] or ""))


def _past(one: PastBreaker) -> str:
    text = f"{one.app}: access of {counted(one.removals, 'account')} would be taken away"
    if one.limit is None:
        return f"{text}, and no breaker would hold any of it"
    return f"{text}, the breaker lets {one.limit} pass"


def _print(applied: _Applied, over: str) -> None:
    totals = applied.impact.totals
    print_table("What would change", ("application", "command", "persons#"), total_rows(totals))
    print_problems(totals.problems)
    commands = sum(kinds.total() for kinds in totals.commands.values())
    print_line(
        f"policy {applied.version}: {totals.touched} of {counted(totals.persons, 'person')} "
        f"get {counted(commands, 'command')} by it"
    )
    if applied.scheduled is None:
        print_line(
            f"{counted(applied.undecided, 'person')} would be decided anew, {applied.waiting} wait for it already"
        )
        return
    for one in applied.past:
        note(f"jml: {_past(one)}")
    print_line(
        f"{counted(applied.scheduled, 'person is', 'persons are')} decided anew within {over}; "
        f"{applied.waiting} waited for it already"
    )


def _document(applied: _Applied) -> dict[str, Any]:
    return {
        "policy": applied.version,
        **totals_document(applied.impact.totals),
        "removals": dict(sorted(applied.impact.removals.items())),
        "past_breaker": [one._asdict() for one in applied.past],
        "undecided": applied.undecided,
        "waiting": applied.waiting,
        "scheduled": applied.scheduled,
    }
