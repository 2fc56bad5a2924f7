"""`jml due`: what comes, and what should have come."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AppName, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import duration, moment, note, print_json, print_table
from orchestrator.config import Config
from orchestrator.domain.foresight import Foreseen, Foresight
from orchestrator.domain.notices import OVERDUE_AFTER, age
from orchestrator.errors import UserError
from orchestrator.ports import Timer
from orchestrator.ports.noticing import ComingStore, OverdueEnd

app = typer.Typer(rich_markup_mode="markdown", add_completion=False)

BATCH = 500
_UNITS = {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

Coming = tuple[Timer, Foreseen]


@app.command()
def due(
    within: Annotated[str, typer.Option(help="How far ahead, as 30min, 12h, 7d or 2w.", metavar="LENGTH")] = "7d",
    application: AppName = None,
    overdue: Annotated[
        bool, typer.Option("--overdue", help="Ends whose instant is over and that are not enforced yet.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most that many, the earliest first.")] = 1000,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Open timers by their instants, in the worker's own zone and in UTC, with the applications they will touch.

    What they will touch is the decision that the resolver would make at that instant, by what is known now.
    `--overdue` lists access that should be over and is not known to be: an application is paused, or the account is
    retrying or parked. All of it is tried again for ever.

    Example: `jml due --within 2w --app crm`, and `jml due --overdue`
    """
    loaded, ahead = load(config), length(within)
    services.app_names(loaded, application)
    now = services.now()
    if overdue:
        late = run_async(_overdue(loaded, application, limit, now))
        if as_json:
            print_json({"count": len(late), "overdue": [_late(one, now) for one in late]})
        else:
            _print_overdue(late, now)
        return
    coming = run_async(_coming(loaded, application, limit, now + ahead))
    if as_json:
        print_json({"until": now + ahead, "count": len(coming), "due": [_document(*one) for one in coming]})
    else:
        _print_coming(coming, within)
    if len(coming) == limit:
        note(f"these are the first {limit}; see --limit")


def length(text: str) -> timedelta:
    """A length of time such as 7d. Raises UserError."""
    found = re.fullmatch(r"(\d{1,5})(min|h|d|w)", text)
    if found is None:
        raise UserError(f"--within {text!r} is no length of time: write 30min, 12h, 7d or 2w")
    return int(found.group(1)) * _UNITS[found.group(2)]


async def _coming(config: Config, application: str | None, limit: int, until: datetime) -> list[Coming]:
    foresight = Foresight(config.policy())
    found: list[Coming] = []
    last: Timer | None = None
    async with services.coming_store(config) as store:
        while len(found) < limit:
            timers = await store.due(until=until, after=last, limit=BATCH)
            found += [one for one in await _foreseen(store, foresight, timers) if _touches(one[1], application)]
            if len(timers) < BATCH:
                break
            last = timers[-1]
    return found[:limit]


async def _foreseen(store: ComingStore, foresight: Foresight, timers: Sequence[Timer]) -> list[Coming]:
    foresight.tell(await store.people(foresight.unknown(one.person_id for one in timers)))
    return list(zip(timers, foresight.look((one.person_id, one.kind, one.due) for one in timers), strict=True))


def _touches(foreseen: Foreseen, application: str | None) -> bool:
    return application is None or application in foreseen.becomes


async def _overdue(config: Config, application: str | None, limit: int, now: datetime) -> list[OverdueEnd]:
    before = now - OVERDUE_AFTER
    async with services.overdue_store(config) as store:
        return await store.listed(due=before, known=before, app=application, limit=limit)


def _document(timer: Timer, foreseen: Foreseen) -> dict[str, Any]:
    zone = getattr(foreseen.local.tzinfo, "key", "UTC")
    return {
        "due": timer.due.astimezone(UTC),
        "local": foreseen.local.isoformat(timespec="seconds"),
        "time_zone": zone,
        "person_id": timer.person_id,
        "kind": timer.kind,
        "rule": timer.rule,
        "event_id": timer.event_id,
        "applications": foreseen.becomes,
        "problems": foreseen.problems,
    }


def _print_coming(coming: Sequence[Coming], within: str) -> None:
    print_table(
        f"Due within {within}",
        ("due", "local", "zone", "person", "kind", "applications", "because of"),
        [
            (
                moment(timer.due),
                foreseen.local.strftime("%Y-%m-%d %H:%M"),
                getattr(foreseen.local.tzinfo, "key", "UTC"),
                timer.person_id,
                timer.kind,
                ", ".join(f"{name} {state}" for name, state in foreseen.becomes.items())
                + ("; an expression fails" if foreseen.problems else "")
                or None,
                timer.event_id,
            )
            for timer, foreseen in coming
        ],
        empty="nothing",
    )


def access(active: bool | None) -> str:
    """What the application showed last."""
    return {True: "open", False: "closed", None: "unknown"}[active]


def _late(one: OverdueEnd, now: datetime) -> dict[str, Any]:
    return {**asdict(one), "access": access(one.active), "overdue_seconds": round(age(one.since, now), 3)}


def _print_overdue(late: Sequence[OverdueEnd], now: datetime) -> None:
    print_table(
        "Overdue ends",
        ("person", "application", "should be", "since", "overdue for", "access", "status", "next look", "why"),
        [
            (
                one.person_id,
                one.app,
                one.state,
                moment(one.since),
                duration(age(one.since, now)),
                access(one.active),
                one.status,
                moment(one.next_attempt),
                f"{one.error_code}: {one.error}" if one.error_code else "waits for its connector, see `jml status`",
            )
            for one in late
        ],
        empty="none: every end was enforced",
    )
