"""Whose account is whose, as an operator says: linked, it is read back and converged; unlinked, it waits."""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.intent import lease_left, may_have_twins, recheck, recheck_at
from orchestrator.domain.sealing import Subject
from orchestrator.errors import Unlinked, UserError
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.ports import ProgressUpdate, ReconcileStore
from schemas.audit import AuditKind


class Act(StrEnum):
    """What an operator does with an account."""

    LINK = "link"
    UNLINK = "unlink"


async def link(
    app: str,
    person_id: str,
    remote_id: str,
    store: ReconcileStore,
    writer: AuditWriter,
    *,
    operator: str,
    reason: str,
    now: datetime,
) -> Account:
    """Say that the account `remote_id` is the person's; returns what the connector will make of it.

    Raises UserError where somebody else has it, the person should have none, or the connector is at work on it.
    """
    async with store.look() as transaction:
        account, progress = _found((await transaction.lock(app, [person_id])).get(person_id), app, person_id, now)
        holder = (await transaction.holders(app, [remote_id])).get(remote_id)
        if holder == person_id:
            raise UserError(f"the account is {person_id}'s in {app} already")
        if holder is not None:
            raise UserError(f"the account is {holder}'s in {app}: unlink it there first")
        learned = replace(_forgotten(progress), remote_id=remote_id)
        pending = replace(
            learned,
            intent=_still_open(progress, now),
            status=AccountStatus.PENDING,
            attempts=0,
            error_code=None,
            error=None,
        )
        entry = _entry(Act.LINK, account, progress, remote_id, operator, reason, now).behind(progress.version + 1)
        await transaction.save(app, [ProgressUpdate(person_id, pending, now)], writer.stamp([entry]), now=now)
        await transaction.look_again(app, [person_id], now=now)
    writer.saved(1)
    return account


async def unlink(
    app: str,
    person_id: str,
    store: ReconcileStore,
    writer: AuditWriter,
    *,
    operator: str,
    reason: str,
    now: datetime,
) -> str:
    """Forget which account is the person's, and park it until a newer revision or a retry; returns its id.

    The account itself stays as it is. Raises UserError where none is linked, or the connector is at work on it.
    """
    async with store.look() as transaction:
        account, progress = _found((await transaction.lock(app, [person_id])).get(person_id), app, person_id, now)
        remote_id = progress.remote_id
        if remote_id is None:
            raise UserError(f"{person_id} has no linked account in {app}")
        parked = replace(
            _forgotten(progress),
            intent=_still_open(progress, now),  # whoever takes it up reads back before making anything
            status=AccountStatus.PARKED,
            error_code=Unlinked.code,
            error=f"{operator} unlinked the account",
        )
        entry = _entry(Act.UNLINK, account, progress, remote_id, operator, reason, now).behind(progress.version + 1)
        await transaction.save(app, [ProgressUpdate(person_id, parked, None)], writer.stamp([entry]), now=now)
    writer.saved(1)
    return remote_id


def _found(row: tuple[Account, Progress] | None, app: str, person_id: str, now: datetime) -> tuple[Account, Progress]:
    if row is None:
        raise UserError(
            f"{person_id} should have no account in {app}: the policy gives none, or nobody knows the person"
        )
    if lease_left(row[1].intent, now) > 0:
        raise UserError(f"the connector is at work on {person_id}'s account in {app}: try again in ten seconds")
    return row


def _still_open(progress: Progress, now: datetime) -> str:
    """Read it back, and once more when a call that was left open cannot arrive any more."""
    due = recheck_at(progress.intent, now)
    return recheck(due or now, twins=due is not None and may_have_twins(progress))


def _forgotten(progress: Progress) -> Progress:
    """Nothing is known of an account any more."""
    return replace(progress, remote_id=None, active=None, resource={}, groups=(), candidates=(), left_groups=())


def _entry(
    act: Act, account: Account, progress: Progress, remote_id: str, operator: str, reason: str, now: datetime
) -> Entry:
    sealed: dict[str, Any] = {"account": remote_id}
    if act is Act.LINK and progress.remote_id is not None:
        sealed["before"] = {"account": progress.remote_id}
    return Entry(
        AuditKind.ACCOUNT_LINKED if act is Act.LINK else AuditKind.ACCOUNT_UNLINKED,
        now,
        f"operator:{operator}",
        account.subject or Subject("", account.person_id),
        app=account.app,
        revision=account.revision,
        event_id=account.event_id,
        correlation_id=account.correlation_id,
        policy=account.policy,
        details={"state": account.state, "reason": reason},
        sealed=sealed,
    )
