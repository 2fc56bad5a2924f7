"""`jml parked`: accounts that wait for a person."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AppName, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import moment, note, print_json, print_line, print_table
from orchestrator.config import Config
from orchestrator.domain.sealing import Subject, known_as
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.ports import OperatorStore, ParkedAccount
from schemas.audit import AuditKind

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

BATCH = 500
"""Accounts per transaction: few enough that connectors, which lock the same rows, do not notice."""


@app.callback()
def parked() -> None:
    """Accounts whose application refused them for good: each waits for you, or for a newer revision.

    Read the error, put right what it names (in HR, in the application or in the mapping), then retry. A parked
    *leaver* still has access and comes first.

    Example: `jml parked list`, then `jml parked retry 4711 --reason "duplicate account removed"`
    """


@app.command("list")
def list_(config: ConfigPath = DEFAULT_CONFIG, application: AppName = None, as_json: AsJson = False) -> None:
    """All parked accounts, leavers first, then those that wait longest.

    Example: `jml parked list --app directory`
    """
    loaded = load(config)
    found = run_async(_parked(loaded, application))
    if as_json:
        print_json({"count": len(found), "leavers": sum(one.leaver for one in found), "parked": _documents(found)})
        return
    print_table(
        "Parked accounts",
        ("person", "application", "should be", "since", "desired#", "applied#", "attempts#", "error"),
        [
            (
                one.person_id,
                one.app,
                f"{one.state} LEAVER" if one.leaver else one.state,
                moment(one.since),
                one.revision,
                one.applied_revision,
                one.attempts,
                f"{one.error_code}: {one.error}" + (f" [{', '.join(one.candidates)}]" if one.candidates else ""),
            )
            for one in found
        ],
    )


@app.command()
def retry(
    person: Annotated[str | None, typer.Argument(help="Only this person's accounts.", metavar="PERSON")] = None,
    application: AppName = None,
    everything: Annotated[bool, typer.Option("--all", help="Every parked account of every application.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the audit log. No personal data, please.", metavar="TEXT")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Try parked accounts again: they become pending, with a fresh count of attempts.

    The relay issues their commands again within seconds. Who did it ($JML_OPERATOR, or the login name) and why goes
    to the audit log, in the same transaction.

    Example: `jml parked retry --app directory --reason "their outage is over"`
    """
    if everything and (person is not None or application is not None):
        raise UserError("--all is every parked account: leave it away to name a person or an application")
    if not everything and person is None and application is None:
        raise UserError("say which accounts to retry: a PERSON, --app APP, or --all")
    done = run_async(_retry(load(config), application, person, reason))
    if person is not None and not done:
        where = f" in {application}" if application else ""
        raise UserError(f"{person!r} has no parked account{where}; see `jml parked list`")
    if as_json:
        print_json({"count": len(done), "retried": _documents(done)})
        return
    for one in done:
        print_line(f"{one.person_id} in {one.app}: to be {one.state} by revision {one.revision}")
    note(f"{counted(len(done), 'account')} will be tried again" if done else "nothing is parked")


async def _parked(config: Config, application: str | None) -> list[ParkedAccount]:
    services.app_names(config, application)
    async with services.operator_store(config) as store:
        return await store.parked(app=application)


async def _retry(config: Config, application: str | None, person: str | None, reason: str) -> list[ParkedAccount]:
    services.app_names(config, application)
    now = services.now()
    async with services.operator_store(config) as store, services.operator_writer(config) as writer:
        chosen = await store.parked(app=application, person_id=person)
        return await retry_parked(store, chosen, writer, services.operator_name(), reason, now)


async def retry_parked(
    store: OperatorStore,
    chosen: Sequence[ParkedAccount],
    writer: AuditWriter,
    operator: str,
    reason: str,
    now: datetime,
) -> list[ParkedAccount]:
    """Make those of the chosen accounts that are parked still pending again; each gets its audit entry."""
    done: list[ParkedAccount] = []
    for app_name, person_ids in _batches(chosen):
        async with store.retry() as transaction:
            taken = await transaction.take(app_name, person_ids)
            subjects = await transaction.subjects([one.person_id for one in taken])
            entries = [_entry(one, known_as(subjects, one.person_id), operator, reason, now) for one in taken]
            if taken:
                await transaction.retried(app_name, [one.person_id for one in taken], writer.stamp(entries), now=now)
        writer.saved(len(entries))
        done += taken
    return done


def _batches(chosen: Sequence[ParkedAccount]) -> Iterator[tuple[str, list[str]]]:
    """By application, and within each leavers first as they were chosen."""
    for app_name, accounts in groupby(sorted(chosen, key=lambda one: one.app), key=lambda one: one.app):
        ids = [one.person_id for one in accounts]
        for start in range(0, len(ids), BATCH):
            yield app_name, ids[start : start + BATCH]


def _entry(one: ParkedAccount, subject: Subject, operator: str, reason: str, now: datetime) -> Entry:
    details = {"action": "retry_parked", "error_code": one.error_code, "attempts": one.attempts}
    if reason:
        details["reason"] = reason
    return Entry(
        AuditKind.OPERATOR_ACTED,
        now,
        f"operator:{operator}",
        subject,
        app=one.app,
        revision=one.revision,
        event_id=one.event_id,
        correlation_id=one.correlation_id,
        policy=one.policy,
        details=details,
    ).behind(one.version + 1)


def _documents(accounts: Sequence[ParkedAccount]) -> list[dict[str, Any]]:
    documents = [{**asdict(one), "leaver": one.leaver} for one in accounts]
    for document in documents:
        del document["version"]
    return documents
