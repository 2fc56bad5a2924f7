"""`jml extend` and `jml end`: what an operator states of a person.

Both are events like HR's, on the same topic and decided on the same path. They count from the moment at which they are
stated, and what HR states later wins over them: the operator speaks for now, HR has the last word.
"""

import asyncio
import re
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import moment, note, print_json, print_line, visible
from orchestrator.cli.people import nobody
from orchestrator.config import Config
from orchestrator.domain.days import end_of, zone
from orchestrator.domain.ending import is_closed, running_contracts, still_to_end
from orchestrator.domain.lifecycle import Span, spans
from orchestrator.domain.person import TIME_ZONE, Person
from orchestrator.domain.sealing import Subject, known_as
from orchestrator.errors import UserError
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.ports import AccountView, Publisher
from orchestrator.ports.noticing import ComingStore
from schemas.audit import AuditKind
from schemas.changes import ContractChanged, WorkerLeft
from schemas.envelope import Envelope, Message
from schemas.topics import HR_EVENTS

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

LOOK_SECONDS = 0.25
_NAME = re.compile(r"[\w.@+-]{1,64}")

PersonId = Annotated[str, typer.Argument(metavar="PERSON", help="The worker id, as HR states it.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit log. No personal data, please.", metavar="TEXT")]
As = Annotated[str | None, typer.Option("--as", help="Who you are; else $JML_OPERATOR or the login.", metavar="NAME")]


@app.command()
def extend(
    person: PersonId,
    until: Annotated[str, typer.Option(help="The new last day of access, as YYYY-MM-DD.", metavar="DATE")],
    reason: Reason,
    engagement: Annotated[str | None, typer.Option(help="Which contract, where several run.", metavar="ID")] = None,
    operator: As = None,
    yes: Annotated[bool, typer.Option("--yes", help="Also where access ends earlier by it, or at once.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the outcome.")] = 30,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Give a contractor a later end of contract, and show that the end has moved.

    What HR states later wins. So have HR correct its record too, or the next export takes the extension back.

    Example: `jml extend 4711 --until 2026-09-30 --reason "extension signed, HR follows"`
    """
    loaded = load(config)
    services.real_broker(loaded)
    shown = run_async(_extend(loaded, person, _day(until), reason, engagement, _operator(operator), yes, timeout))
    if as_json:
        print_json(shown)
    else:
        before, after = moment(shown["before"]), moment(shown["after"])
        print_line(f"{person}: access was to end {before}, now it ends {after} ({shown['local']})")
        if shown["ends_by"] != "contract_end":
            note(f"jml: what ends it now is the {shown['ends_by']} that HR stated, and that comes first")
    if not shown["moved"]:
        note(f"jml: the event ended as {shown['outcome']}: a newer statement says otherwise, see `jml person show`")
    raise typer.Exit(0 if shown["moved"] else 1)


@app.command()
def end(
    person: PersonId,
    reason: Reason,
    at_once: Annotated[bool, typer.Option("--now", help="It is always now; said so that nobody is surprised.")] = False,
    operator: As = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the id once more.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the applications.")] = 120,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """End everything a person has, now, and wait until each application has been read back.

    Ends every engagement, those to come too. It asks for the id once more. Ctrl-C stops the waiting, not the ending.
    Exit code 1: after the time-out something is open still, and the output says what and what to do.

    Example: `jml end 4711 --now --reason "dismissed" --yes`
    """
    if not at_once:
        raise UserError("say --now; a later end is stated by HR, or with `jml events send`")
    loaded = load(config)
    services.real_broker(loaded)
    if not yes:
        _confirm(person)
    try:
        shown = run_async(_end(loaded, person, reason, _operator(operator), timeout, quiet=as_json))
    except KeyboardInterrupt:
        note(f"jml: no longer waiting. What was stated goes on without us: `jml person show {visible(person)}`")
        raise
    if as_json:
        print_json(shown)
    raise typer.Exit(0 if shown["closed"] else 1)


def _confirm(person: str) -> None:
    note(f"This ends all access of {visible(person)}, now. Type the id once more to go on:")
    if sys.stdin.readline().strip() != person:
        raise UserError("that is not the id: nothing was done")


def _operator(name: str | None) -> str:
    name = name or services.operator_name()
    if _NAME.fullmatch(name) is None:
        raise UserError(f"{name!r} is no name for the audit log: letters, digits and . _ @ + - only; see --as")
    return name


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UserError(f"--until {text!r} is no date: write YYYY-MM-DD") from None


# --- extend -----------------------------------------------------------------------------------------------------------


async def _extend(
    config: Config,
    person_id: str,
    until: date,
    reason: str,
    engagement: str | None,
    operator: str,
    yes: bool,
    seconds: float,
) -> dict[str, Any]:
    default_zone, hour = config.time.default_zone, config.time.hour
    async with _desk(config, person_id) as (store, publisher, person):
        now = services.now()
        contract = _contract(person, running_contracts(spans(person, default_zone, access_ends=hour), now), engagement)
        where = zone(person.history.at(now).get(TIME_ZONE), default_zone)
        wanted = end_of(until, where, hour)
        if not yes and wanted <= now:
            raise UserError(f"{until} is over in {where.key}: with --yes access ends at once")
        if not yes and contract.end is not None and wanted < contract.end:
            raise UserError(f"access lasts until {moment(contract.end)} already: with --yes it ends earlier")
        change = _valid(
            ContractChanged, worker_id=person_id, engagement_id=contract.id, contract_end=until, reason=reason
        )
        who = known_as(await store.subjects([person_id]), person_id)
        (event_id,) = await _state(publisher, operator, who, [change], "extend_contract", reason, now)
        outcome = await _outcome(store, event_id, seconds)
        after = _span(await store.people([person_id]), person_id, contract.id, config)
    return {
        "person_id": person_id,
        "engagement": contract.id,
        "event_id": event_id,
        "outcome": outcome,
        "before": contract.end,
        "after": after.end,
        "local": f"{after.end.astimezone(where):%Y-%m-%d %H:%M} {where.key}" if after.end else "-",
        "ends_by": after.end_kind,
        "moved": after.event_id == event_id or after.end == wanted,
    }


def _contract(person: Person, running: Sequence[Span], engagement: str | None) -> Span:
    """The one contract to extend. Raises UserError."""
    if not running:
        raise UserError(f"{person.id} has no contractor's engagement that runs; see `jml person show {person.id}`")
    if engagement is not None:
        running = [one for one in running if one.id == engagement]
        if not running:
            raise UserError(f"{person.id} has no contractor's engagement {engagement!r} that runs")
    if len(running) > 1:
        names = ", ".join(one.id for one in running)
        raise UserError(f"{person.id} has several contracts that run: say which with --engagement ({names})")
    return running[0]


def _span(people: Any, person_id: str, engagement: str, config: Config) -> Span:
    engaged = spans(people[person_id][0], config.time.default_zone, access_ends=config.time.hour)
    return next(one for one in engaged if one.id == engagement)


# --- end --------------------------------------------------------------------------------------------------------------


async def _end(
    config: Config, person_id: str, reason: str, operator: str, seconds: float, *, quiet: bool
) -> dict[str, Any]:
    async with _desk(config, person_id) as (store, publisher, person):
        now = services.now()
        engaged = still_to_end(spans(person, config.time.default_zone, access_ends=config.time.hour), now)
        if not engaged:
            raise UserError(f"no engagement of {person_id} runs or is to come; what is open still: `jml due --overdue`")
        changes = [
            _valid(WorkerLeft, worker_id=person_id, engagement_id=one.id, ends_at=now, reason=reason) for one in engaged
        ]
        who = known_as(await store.subjects([person_id]), person_id)
        events = await _state(publisher, operator, who, changes, "end_person", reason, now)
        tell = (lambda _: None) if quiet else print_line
        end = "engagement ends" if len(engaged) == 1 else "engagements end"
        tell(f"{person_id}: stated that {len(engaged)} {end} at {moment(now)}")
        views = await _closed(store, person_id, events, seconds, tell)
        waiting = [one for one in views if not is_closed(one.account, one.progress)]
        decided = bool(views) or await store.outcome(events[-1]) is not None
        advice = await _advice(config, waiting) if waiting else {}
    if not decided:
        note("jml: the resolver has not decided yet: see `jml lag`; the end is stated and nothing is lost")
    for name, text in advice.items():
        note(f"jml: {name} is open still: {text}")
    if not advice and decided:
        tell("every application has been read back; have HR state the end too, because what HR states later wins")
    return {
        "person_id": person_id,
        "event_ids": events,
        "closed": decided and not waiting,
        "applications": [_read_back(one) for one in views],
        "open": advice,
    }


async def _closed(
    store: ComingStore, person_id: str, events: Sequence[str], seconds: float, tell: Any
) -> list[AccountView]:
    """The accounts as soon as all are closed, or when the time is over; none while nothing is decided."""
    told: dict[str, str] = {}
    deadline = asyncio.get_running_loop().time() + seconds
    views: list[AccountView] = []
    decided = False
    while True:
        decided = decided or await store.outcome(events[-1]) is not None
        if decided:
            views = await store.accounts(person_id)
            for one in views:
                text = _stage(one)
                if told.get(one.account.app) != text:
                    told[one.account.app] = text
                    tell(f"  {one.account.app}: {text}")
            if all(is_closed(one.account, one.progress) for one in views):
                return views
        if asyncio.get_running_loop().time() > deadline:
            return views
        await asyncio.sleep(LOOK_SECONDS)


def _stage(one: AccountView) -> str:
    if is_closed(one.account, one.progress):
        return "gone" if one.progress.remote_id is None else "read back, inactive"
    if one.account.state == "active":
        return "should be active still"
    return one.progress.status.value


def _read_back(one: AccountView) -> dict[str, Any]:
    return {
        "app": one.account.app,
        "state": one.account.state,
        "stage": _stage(one),
        "closed": is_closed(one.account, one.progress),
        "error_code": one.progress.error_code,
        "error": one.progress.error,
    }


async def _advice(config: Config, waiting: Sequence[AccountView]) -> dict[str, str]:
    """What stands in the way in each application, and what to do about it."""
    async with services.operator_store(config) as store:
        health = (await store.status()).health
    found = {}
    for one in waiting:
        app_name, progress = one.account.app, one.progress
        if one.account.state == "active":
            text = "its policy gives access still, or fails: `jml person show`"
        elif (state := health.get(app_name)) is not None and state.state == "paused":
            text = f"the application is paused ({state.reason}); close the account there by hand, we go on trying"
        elif progress.status.value == "parked":
            text = f"parked ({progress.error_code}: {progress.error}); close it there by hand, then `jml parked retry`"
        elif progress.status.value == "retrying":
            text = f"retrying ({progress.error_code}), the next attempt {moment(one.attention_at)}; nothing to do"
        else:
            text = "waits for its connector: see `jml lag`"
        found[app_name] = text
    return found


# --- both -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _desk(config: Config, person_id: str) -> AsyncIterator[tuple[ComingStore, Publisher, Person]]:
    """Store, broker and the person. Raises UserError for somebody nobody knows."""
    async with services.coming_store(config) as store:
        known = await store.people([person_id])
        if person_id not in known:
            raise nobody(person_id)
        async with services.publisher(config) as publisher:
            yield store, publisher, known[person_id][0]


def _valid(schema: Any, **fields: Any) -> Any:
    try:
        return schema(**fields)
    except ValidationError as error:
        raise UserError("; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors())) from None


async def _state(
    publisher: Publisher,
    operator: str,
    who: Subject,
    changes: Sequence[Any],
    action: str,
    reason: str,
    now: datetime,
) -> list[str]:
    """Publish events in the operator's name, and the audit entry that says who and why; returns the events' ids."""
    case = str(uuid.uuid4())
    messages, events = [], []
    for number, change in enumerate(changes, 1):
        envelope = Envelope(
            id=f"{case}/{number}",
            source=f"jml/operator/{operator}",
            type=change.TYPE,
            time=now,
            subject=change.worker_id,
            correlation_id=case,
        )
        body = change.model_dump_json(exclude_unset=True).encode()
        messages.append(Message(HR_EVENTS, change.worker_id.encode(), body, envelope.headers()))
        events.append(envelope.key)
    acted = Entry(
        AuditKind.OPERATOR_ACTED,
        now,
        f"operator:{operator}",
        who,
        event_id=events[0],
        correlation_id=case,
        details={"action": action, "events": len(events), "reason": reason},
    )
    await publisher.publish([*messages, *AuditWriter("operator", now).stamp([acted])])
    return events


async def _outcome(store: ComingStore, event_id: str, seconds: float) -> str:
    """What became of the event. Raises UserError when nothing has by then."""
    deadline = asyncio.get_running_loop().time() + seconds
    while (outcome := await store.outcome(event_id)) is None:
        if asyncio.get_running_loop().time() > deadline:
            raise UserError(
                f"the event {event_id} is stated and not decided within {seconds:g} s; it will be: see `jml lag`"
            )
        await asyncio.sleep(LOOK_SECONDS)
    return outcome
