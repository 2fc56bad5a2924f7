"""`jml timers`: when one person is decided anew, and why then."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import moment, print_json, print_table
from orchestrator.cli.people import nobody
from orchestrator.config import Config
from orchestrator.ports import TimelineEntry
from orchestrator.ports.noticing import TimerView

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

CANCELLED = "timer_cancelled"


@app.callback()
def timers() -> None:
    """One person's timers: the instants at which access is decided anew.

    Example: `jml timers show 4711`
    """


@app.command()
def show(
    person_id: Annotated[str, typer.Argument(metavar="PERSON", help="The worker id, as HR states it.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Timers that are open, that fired, and that were cancelled, each with the event and the rule it came from.

    Cancelled ones come from the audit log, so the last of them may be missing until the auditor has written them.

    Example: `jml timers show 4711 --json | jq '.timers[] | select(.state == "open")'`
    """
    found, cancelled = run_async(_timers(load(config), person_id))
    rows = [*(_stored(one) for one in found), *(_cancelled(one) for one in cancelled)]
    rows.sort(key=lambda row: (row["due"], str(row["kind"])))
    if as_json:
        print_json({"person_id": person_id, "timers": rows})
        return
    print_table(
        f"Timers of {person_id}",
        ("due", "kind", "state", "at", "because of", "rule"),
        [
            (moment(row["due"]), row["kind"], row["state"], moment(row["at"]), row["event_id"], row["rule"])
            for row in rows
        ],
    )


async def _timers(config: Config, person_id: str) -> tuple[list[TimerView], Sequence[TimelineEntry]]:
    async with services.operator_store(config) as store:
        person = await store.person(person_id)
    if person is None:
        raise nobody(person_id)
    async with services.coming_store(config) as coming:
        return await coming.timers(person_id), [one for one in person.timeline if one.kind == CANCELLED]


def _stored(one: TimerView) -> dict[str, Any]:
    state = "open" if one.fired_at is None else "fired"
    timer = one.timer
    return _row(timer.due, timer.kind, state, one.fired_at, timer.event_id, timer.rule)


def _cancelled(one: TimelineEntry) -> dict[str, Any]:
    due = datetime.fromisoformat(one.details["due"])
    return _row(due, one.details.get("timer"), "cancelled", one.at, one.event_id, one.details.get("rule"))


def _row(due: datetime, kind: Any, state: str, at: datetime | None, event_id: Any, rule: Any) -> dict[str, Any]:
    return {"due": due, "kind": kind, "state": state, "at": at, "event_id": event_id, "rule": rule}
