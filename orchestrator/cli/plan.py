"""`jml plan`: what would be sent, without sending it."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import moment, print_json, print_line, print_table
from orchestrator.cli.people import nobody
from orchestrator.config import Config
from orchestrator.domain.days import is_zone, start_of, zone
from orchestrator.domain.planning import Planned
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError
from orchestrator.flows.plan import Differing, Replayed, Totals, plan_everybody, plan_persons, replay

app = typer.Typer(rich_markup_mode="markdown", add_completion=False)

_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@app.command()
def plan(
    person: Annotated[
        list[str] | None, typer.Option("--person", "-p", help="Only this person; may be repeated.", metavar="ID")
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody.")] = False,
    since: Annotated[
        str | None,
        typer.Option(
            "--replay",
            help="Tell the events since then to both policies: an instant, a day, or 7d, 12h.",
            metavar="SINCE",
        ),
    ] = None,
    present: Annotated[
        Path, typer.Option("--present", help="With --replay: the configuration in force.", metavar="PATH")
    ] = DEFAULT_CONFIG,
    limit: Annotated[int, typer.Option(help="Persons to show; the totals are of all.", min=0)] = 20,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """What would be sent, per person and as totals. Nothing is written anywhere.

    With the configuration in force it shows what its policy has not decided yet: a change of the policy reaches people
    at their next event. With `--config NEW.toml` it holds what people should have now against what NEW would give
    them. With `--replay 7d` the events that the broker still holds from the last seven days are told to both policies
    anew, and the commands they would have issued are compared.

    Example: `jml plan --all --config new.toml`

    Example: `jml plan --replay 7d --config new.toml --json | jq '.differing[].person_id'`
    """
    loaded = load(config)
    if since is not None:
        if person or everybody:
            raise UserError("--replay is about whoever had an event since then; leave out --person and --all")
        in_force = load(present)
        if in_force.policy().digest == loaded.policy().digest:
            raise UserError(f"{present} and {config} have the same policy: name the other one with --config PATH")
        start = _since(since, loaded.time.default_zone, services.now())
        _show_replayed(run_async(_replay(in_force, loaded, start)), start, limit, as_json=as_json)
        return
    if bool(person) == everybody:
        raise UserError("name whom to plan for: --person ID, or --all")
    planned, totals = run_async(_plan(loaded, sorted(set(person or [])), limit))
    _show_planned(planned, totals, loaded.policy().digest, limit, as_json=as_json)


async def _plan(config: Config, person_ids: Sequence[str], limit: int) -> tuple[list[Planned], Totals]:
    """The commands of the first `limit` persons that get some, and the totals of all."""
    totals, policy, now = Totals(), config.policy(), services.now()
    async with services.plan_store(config) as store:
        if person_ids:
            known = {one.id for one, _ in await store.named(person_ids)}
            if unknown := [one for one in person_ids if one not in known]:
                raise nobody(*unknown)
            return await plan_persons(store, person_ids, policy, now, totals), totals
        shown = [one async for one in plan_everybody(store, policy, now, totals) if totals.touched <= limit]
        return shown, totals


async def _replay(present: Config, candidate: Config, since: datetime) -> Replayed:
    records = services.events_since(present, since)
    async with services.plan_store(present) as store:
        return await replay(records, store, present.policy(), candidate.policy(), since, services.now())


def _since(text: str, default_zone: str, now: datetime) -> datetime:
    """An instant, the beginning of a day in the default zone, or so long ago."""
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago.group(2)]: min(int(ago.group(1)), 10_000_000)})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{text!r} is neither an instant, nor a day, nor a length of time such as 7d or 12h") from None
    if len(text) == len("2026-01-01") and is_zone(default_zone):
        return start_of(found.date(), zone(None, default_zone))
    if found.tzinfo is None:
        raise UserError(f"{text!r} has no time zone: end it with Z, or with +02:00")
    return found.astimezone(UTC)


def _show_planned(planned: list[Planned], totals: Totals, policy: str, limit: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"policy": policy, **totals_document(totals), "planned": [_command(one) for one in planned]})
        return
    print_table("Planned commands", ("person", "application", "command", "attributes", "groups"), map(_row, planned))
    if totals.touched > limit:
        print_line(f"the first {limit} of {counted(totals.touched, 'person')}; --limit shows more")
    print_table("Totals", ("application", "command", "persons#"), total_rows(totals))
    print_problems(totals.problems)
    commands = sum(kinds.total() for kinds in totals.commands.values())
    print_line(
        f"{totals.touched} of {counted(totals.persons, 'person')} would get {counted(commands, 'command')} "
        f"under policy {policy}; nothing was sent"
    )


def _show_replayed(found: Replayed, since: datetime, limit: int, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "since": since,
                "events": found.events,
                "unreadable": found.unreadable,
                "unaddressed": found.unaddressed,
                "present": totals_document(found.present),
                "candidate": totals_document(found.candidate),
                "differing_persons": len(found.differing),
                "differing": [_differing(one) for one in found.differing[:limit]],
            }
        )
        return
    keys = sorted({(a, k) for t in (found.present, found.candidate) for a, kinds in t.commands.items() for k in kinds})
    rows = [
        (
            name,
            kind,
            found.present.commands.get(name, Counter())[kind],
            found.candidate.commands.get(name, Counter())[kind],
        )
        for name, kind in keys
    ]
    print_table("Commands since then", ("application", "command", "policy in force#", "candidate#"), rows)
    people = [
        (one.person_id, _only(one.present, one.candidate), _only(one.candidate, one.present))
        for one in found.differing[:limit]
    ]
    print_table("Persons that differ", ("person", "policy in force", "candidate"), people)
    print_line(
        f"{counted(found.events, 'event')} since {moment(since)}: {len(found.differing)} of "
        f"{counted(found.present.persons, 'person')} would get other commands; nothing was sent"
    )
    if found.unreadable or found.unaddressed:
        print_line(
            f"left out: {counted(found.unreadable, 'event')} nobody can read, {found.unaddressed} that lead to nobody"
        )


def _row(one: Planned) -> tuple[str, ...]:
    groups = [f"+{name}" for name in one.groups_added] + [f"-{name}" for name in one.groups_removed]
    return one.person_id, one.app, one.kind, ", ".join(one.attributes), ", ".join(groups)


def _command(one: Planned) -> dict[str, Any]:
    attributes = {path: {"before": before, "after": after} for path, (before, after) in one.attributes.items()}
    return {**one._asdict(), "attributes": attributes}


def _differing(one: Differing) -> dict[str, Any]:
    return {
        "person_id": one.person_id,
        "present": [_command(command) for command in one.present],
        "candidate": [_command(command) for command in one.candidate],
    }


def _only(commands: Sequence[Planned], others: Sequence[Planned]) -> str:
    """The commands that the other policy does not send just so, with the groups in which two of a kind may differ."""
    told = []
    for one in commands:
        if one not in others:
            groups = _row(one)[-1]
            told.append(f"{one.app} {one.kind} ({groups})" if groups else f"{one.app} {one.kind}")
    return ", ".join(told) or "nothing else"


def totals_document(totals: Totals) -> dict[str, Any]:
    """The totals as JSON has them."""
    return {
        "persons": totals.persons,
        "touched": totals.touched,
        "commands": {name: dict(sorted(kinds.items())) for name, kinds in sorted(totals.commands.items())},
        "problems": dict(totals.problems),
    }


def total_rows(totals: Totals) -> list[tuple[str, str, int]]:
    """The totals as rows of application, command and persons."""
    return [
        (name, kind, count) for name, kinds in sorted(totals.commands.items()) for kind, count in sorted(kinds.items())
    ]


def print_problems(problems: Counter[str]) -> None:
    """The expressions that fail, if any do."""
    if problems:
        print_table("Expressions that fail", ("expression", "persons#"), problems.most_common())
