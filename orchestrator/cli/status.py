"""`jml status`: everything in one look."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import duration, moment, print_json, print_line, print_table
from orchestrator.config import Config
from orchestrator.domain.account import AccountStatus
from orchestrator.domain.notices import OVERDUE_AFTER, age
from orchestrator.domain.wording import counted
from orchestrator.ports import ApplicationHealth, StoreStatus
from orchestrator.ports.noticing import Overdue

app = typer.Typer(rich_markup_mode="markdown", add_completion=False)

OPEN = ApplicationHealth("open")
"""An application that nobody ever paused has no health on record."""


@app.command()
def status(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Persons, accounts, timers and applications in one look.

    *applied* accounts are as they should be, *pending* ones wait for their connector, *retrying* ones for their next
    attempt, and *parked* ones for you: see `jml parked list`. A parked leaver is somebody who still has access.

    Example: `jml status --json | jq .parked_leavers`
    """
    loaded = load(config)
    now = services.now()
    found, overdue = run_async(_status(loaded, now))
    if as_json:
        print_json({**document(loaded, found), "overdue": _overdue(overdue, now)})
        return
    _print(loaded, found)
    for name, late in overdue.items():
        since = duration(age(late.oldest, now))
        print_line(
            f"ALARM: {counted(late.ends, 'end')} overdue in {name}, the oldest for {since}, see `jml due --overdue`"
        )


async def _status(config: Config, now: datetime) -> tuple[StoreStatus, Mapping[str, Overdue]]:
    before = now - OVERDUE_AFTER
    async with services.operator_store(config) as store, services.overdue_store(config) as overdue:
        return await store.status(), await overdue.count(due=before, known=before)


def _overdue(found: Mapping[str, Overdue], now: datetime) -> dict[str, Any]:
    return {
        name: {"ends": one.ends, "oldest": one.oldest, "oldest_seconds": round(age(one.oldest, now), 3)}
        for name, one in found.items()
    }


def document(config: Config, found: StoreStatus) -> dict[str, Any]:
    """The status as JSON; every application and account status is there, even where it is zero."""
    return {
        "persons": found.persons,
        "applications": {
            name: {
                "health": asdict(found.health.get(name, OPEN)),
                "accounts": {one.value: found.accounts.get(name, {}).get(one.value, 0) for one in AccountStatus},
                "parked_leavers": found.parked_leavers.get(name, 0),
                "held": found.held.get(name, 0),
                "configured": name in config.apps,
            }
            for name in _apps(config, found)
        },
        "parked_leavers": sum(found.parked_leavers.values()),
        "held": sum(found.held.values()),
        "timers": {"open": found.open_timers, "next_due": found.next_due},
        "outbox": {"segments": found.outbox_segments, "oldest": found.outbox_oldest},
        "quarantined": found.quarantined,
    }


def _apps(config: Config, found: StoreStatus) -> list[str]:
    """The configured ones, and those that have left the configuration and still have accounts."""
    return [*config.apps, *sorted({*found.accounts, *found.health} - set(config.apps))]


def _print(config: Config, found: StoreStatus) -> None:
    print_table("Persons", ("status", "persons#"), sorted(found.persons.items()), empty="none known yet")
    print_table(
        "Applications",
        ("application", "health", *(f"{one.value}#" for one in AccountStatus), "parked leavers#", "why"),
        _rows(config, found),
        empty="none configured",
    )
    print_line(f"timers: {found.open_timers} open, the next due {moment(found.next_due)}")
    segments = counted(found.outbox_segments, "segment")
    print_line(f"outbox: {segments} not published, the oldest of {moment(found.outbox_oldest)}")
    records = counted(found.quarantined, "record")
    print_line(f"quarantine: {records}" + (", see `jml quarantine list`" * bool(found.quarantined)))
    if leavers := sum(found.parked_leavers.values()):
        have = counted(leavers, "parked leaver still has", "parked leavers still have")
        print_line(f"ALARM: {have} access, see `jml parked list`")
    if held := sum(found.held.values()):
        commands = counted(held, "command that takes", "commands that take")
        print_line(f"ALARM: the breaker holds {commands} access away, see `jml held list`")


def _rows(config: Config, found: StoreStatus) -> Iterator[tuple[object, ...]]:
    for name in _apps(config, found):
        health = found.health.get(name, OPEN)
        why = f"{health.stop.by}: {health.stop.reason}" if health.stop else health.reason
        if health.not_before is not None:
            why = f"{why}; no call before {moment(health.not_before)}".removeprefix("; ")
        counts = found.accounts.get(name, {})
        yield (
            name if name in config.apps else f"{name} (not configured)",
            "stopped" if health.stop else health.state,
            *(counts.get(one.value, 0) for one in AccountStatus),
            found.parked_leavers.get(name, 0),
            why or "-",
        )
