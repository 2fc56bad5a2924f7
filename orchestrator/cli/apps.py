"""`jml apps`: how the connected applications are doing, and an operator's stop."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.examining import test
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import moment, note, print_json, print_table
from orchestrator.config import AppConfig, Config
from orchestrator.domain.account import AccountStatus
from orchestrator.domain.budget import Limit
from orchestrator.domain.reconcile_schedule import LastRun
from orchestrator.errors import UserError
from orchestrator.flows.holding import stop_application
from orchestrator.ports import ApplicationHealth, OperatorStop, StoreStatus

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

Application = Annotated[str, typer.Argument(help="The application, as the configuration calls it.", metavar="APP")]


@app.callback()
def apps() -> None:
    """The connected applications: whether calls go out to them, and if not, why and until when.

    Example: `jml apps list`, then `jml apps pause directory --reason "their maintenance, CHG-9"`
    """


@app.command("list")
def list_(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Every application: state, reason, next probe, what is left to do, the budget, and the last reconciliation by
    schedule.

    *open*: calls go out. *throttled*: the application asks us to wait. *paused*: it refuses our credentials or is out
    of reach, and is probed now and then. *stopped*: an operator says so, and only an operator ends it.

    Example: `jml apps list --json | jq '.applications[] | select(.state != "open")'`
    """
    loaded = load(config)
    found, reconciled = run_async(_status(loaded))
    rows = list(_documents(loaded, found, reconciled))
    if as_json:
        print_json({"applications": rows})
        return
    print_table(
        "Applications",
        (
            "application",
            "state",
            "since",
            "reason",
            "next probe",
            "pending#",
            "parked#",
            "held#",
            "budget",
            "reconciled",
        ),
        [
            (
                one["app"],
                one["state"],
                moment(one["since"]),
                one["reason"] or "-",
                moment(one["next_probe"] or one["not_before"]),
                one["pending"],
                one["parked"],
                one["held"],
                ", ".join(one["budget"]) or "none",
                _told(one["reconciled"]),
            )
            for one in rows
        ],
        empty="none configured",
    )


@app.command()
def pause(
    application: Application,
    reason: Annotated[str, typer.Option(help="Why, for operators and the audit log.", metavar="TEXT")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Let no call go out to an application, leavers' included, until `jml apps resume`.

    Every connector obeys within seconds, also after a restart; calls that are under way end. Commands wait in their
    lanes meanwhile.

    Example: `jml apps pause directory --reason "their maintenance, CHG-9"`
    """
    if not reason.strip():
        raise UserError("--reason is missing: whoever finds the application stopped wants to know why")
    run_async(_stop(load(config), application, reason, stopped=True))
    note(f"{application} is stopped: no call goes out until `jml apps resume {application}`")


@app.command()
def resume(
    application: Application,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.", metavar="TEXT")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Let calls go out again. What paused by itself (401, out of reach) goes on being probed.

    Example: `jml apps resume directory --reason "maintenance is over"`
    """
    run_async(_stop(load(config), application, reason, stopped=False))
    note(f"{application} may be called again")


async def _status(config: Config) -> tuple[StoreStatus, Mapping[str, LastRun]]:
    async with services.operator_store(config) as store:
        return await store.status(), await services.reconcile_runs(config)


async def _stop(config: Config, application: str, reason: str, *, stopped: bool) -> None:
    services.app_names(config, application)
    now, operator = services.now(), services.operator_name()
    stop = OperatorStop(operator, reason, now) if stopped else None
    async with services.operator_store(config) as store, services.operator_writer(config) as writer:
        await stop_application(store, application, stop, writer, operator=operator, reason=reason, now=now)


def _documents(config: Config, found: StoreStatus, reconciled: Mapping[str, LastRun]) -> Iterator[dict[str, Any]]:
    for name, settings in config.apps.items():
        health = found.health.get(name, ApplicationHealth("open"))
        accounts = found.accounts.get(name, {})
        stop = health.stop
        yield {
            "app": name,
            "state": "stopped" if stop else health.state,
            "reason": f"{stop.by}: {stop.reason}" if stop else health.reason,
            "since": stop.since if stop else health.since,
            "found": health.state,
            "not_before": health.not_before,
            "next_probe": health.next_probe,
            "pending": sum(accounts.get(one.value, 0) for one in (AccountStatus.PENDING, AccountStatus.RETRYING)),
            "parked": accounts.get(AccountStatus.PARKED.value, 0),
            "held": found.held.get(name, 0),
            "budget": [_shown(limit) for limit in _limits(settings)],
            "reconciled": _reconciled(settings, reconciled.get(name)),
        }


def _reconciled(settings: AppConfig, last: LastRun | None) -> dict[str, Any] | None:
    """What the schedule of an application has come to; None where there is none."""
    if settings.reconcile_every_hours is None and last is None:
        return None
    return {
        "every_hours": settings.reconcile_every_hours,
        "fix": settings.reconcile_fix,
        "began_at": last.began_at if last else None,
        "ended_at": last.ended_at if last else None,
        "running": last is not None and last.lease_until is not None,
        "outcome": last.outcome if last else None,
        "counts": dict(last.counts) if last else {},
    }


def _told(reconciled: dict[str, Any] | None) -> str:
    """The same in a cell of the table."""
    if reconciled is None:
        return "-"
    if reconciled["began_at"] is None:
        return "not yet"
    differ = {kind: number for kind, number in reconciled["counts"].items() if number and kind not in _AS_IT_SHOULD}
    told = ", ".join(f"{number} {kind}" for kind, number in differ.items()) or "nothing differs"
    state = "running" if reconciled["running"] else reconciled["outcome"]
    return f"{moment(reconciled['began_at'])}, {state}: {told}"


_AS_IT_SHOULD = ("linked", "unfinished")


def _limits(settings: AppConfig) -> tuple[Limit, ...]:
    return settings.limits()


def _shown(limit: Limit) -> str:
    kind = "calls" if limit.kind == "any" else limit.kind
    return f"{limit.calls} {kind} in {limit.seconds:g} s"


app.command()(test)
