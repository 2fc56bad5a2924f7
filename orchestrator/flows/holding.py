"""What operators decide about held commands, and about applications as a whole; each decision with its audit entry.

A command that is released becomes the account's desired state, and the relay issues it on the same lane as any other.
One that is rejected stays on record: the same decision said again has no effect, a newer one has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby

from orchestrator.domain.account import Account
from orchestrator.domain.breaker import Held
from orchestrator.domain.policy import Policy, retention_end
from orchestrator.domain.resolve import RETENTION_END, Raised
from orchestrator.domain.sealing import Subject, differing
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.resolve_entries import issue
from orchestrator.ports import OperatorStop, OperatorStore, Timer
from schemas.audit import AuditKind
from schemas.envelope import timestamp

BATCH = 500
"""Accounts per transaction: few enough that resolvers, which lock the same persons, do not notice."""


async def release(
    store: OperatorStore,
    chosen: Sequence[Held],
    writer: AuditWriter,
    policy: Policy,
    *,
    operator: str,
    reason: str,
    now: datetime,
) -> list[Held]:
    """Issue what is held still of the chosen; returns what was."""
    done: list[Held] = []
    for app, person_ids in _batches(chosen):
        wanted = {one.key: one for one in chosen if one.account.app == app}
        async with store.holds() as transaction:
            taken = [one for one in await transaction.take(app, person_ids) if _as_chosen(one, wanted)]
            released = [_released(one, policy, now) for one in taken]
            timers = [timer for one in released if (timer := _retention(one, policy)) is not None]
            before = await transaction.issued(app, [one.account.person_id for one in taken]) if taken else {}
            entries = [_entry(AuditKind.COMMAND_RELEASED, one, operator, reason, now) for one in taken]
            entries += [_issued(one, before.get(one.account.person_id), operator, now) for one in released]
            await transaction.released(released, timers, writer.stamp(entries), now=now)
        writer.saved(len(entries))
        done += taken
    return done


async def reject(
    store: OperatorStore, chosen: Sequence[Held], writer: AuditWriter, *, operator: str, reason: str, now: datetime
) -> list[Held]:
    """Leave the accounts of the chosen as they are; returns what was rejected."""
    done: list[Held] = []
    for app, person_ids in _batches(chosen):
        wanted = {one.key: one for one in chosen if one.account.app == app}
        async with store.holds() as transaction:
            taken = [one for one in await transaction.take(app, person_ids) if _as_chosen(one, wanted)]
            entries = [_entry(AuditKind.COMMAND_REJECTED, one, operator, reason, now) for one in taken]
            await transaction.rejected(taken, writer.stamp(entries), now=now)
        writer.saved(len(entries))
        done += taken
    return done


async def stop_application(
    store: OperatorStore,
    app: str,
    stop: OperatorStop | None,
    writer: AuditWriter,
    *,
    operator: str,
    reason: str,
    now: datetime,
) -> None:
    """Let no call go out to an application, or let them go again."""
    kind = AuditKind.APPLICATION_PAUSED if stop is not None else AuditKind.APPLICATION_RESUMED
    details = {"by": "operator", **({"reason": reason} if reason else {})}
    entry = Entry(kind, now, f"operator:{operator}", app=app, details=details)
    await store.stop_application(app, stop, writer.stamp([entry]), now=now)
    writer.saved(1)


def _as_chosen(one: Held, chosen: dict[tuple[str, str], Held]) -> bool:
    """Whether it is what the operator saw: a newer decision in its place is another matter."""
    return one.key in chosen and chosen[one.key].account.revision == one.account.revision


def _released(one: Held, policy: Policy, now: datetime) -> Held:
    """What retention protects from must still be noticed, also where the retention ended while the command was held."""
    app_policy = policy.app_policy(one.account.app)
    if app_policy is None or one.account.state != "inactive":
        return one
    end = retention_end(app_policy, one.account.since)
    if end is None or end > now:
        return one
    return replace(one, account=replace(one.account, since=now), effective_at=now)


def _retention(one: Held, policy: Policy) -> Timer | None:
    """When the account is to be deleted: the resolver sets no such timer for what is held."""
    app_policy = policy.app_policy(one.account.app)
    if app_policy is None or one.account.state != "inactive":
        return None
    end = retention_end(app_policy, one.account.since)
    account = one.account
    return None if end is None else Timer(account.person_id, RETENTION_END, end, account.event_id, RETENTION_END)


def _batches(chosen: Sequence[Held]) -> Iterator[tuple[str, list[str]]]:
    for app, held in groupby(sorted(chosen, key=lambda one: one.account.app), key=lambda one: one.account.app):
        ids = [one.account.person_id for one in held]
        for start in range(0, len(ids), BATCH):
            yield app, ids[start : start + BATCH]


def _issued(one: Held, before: Account | None, operator: str, now: datetime) -> Entry:
    """That the command goes out, as the resolver says it of those that were never held."""
    account = one.account
    return _entry(AuditKind.COMMAND_ISSUED, one, operator, "", now)._replace(
        details=issue(Raised(account, one.kind, one.effective_at), before),
        sealed=differing(before.resource if before is not None else {}, account.resource),
    )


def _entry(kind: AuditKind, one: Held, operator: str, reason: str, now: datetime) -> Entry:
    account = one.account
    details = {
        "command": one.kind,
        "removes": one.removal,
        "source": one.source,
        "held_at": timestamp(one.held_at),
        "reason": reason,
    }
    return Entry(
        kind,
        now,
        f"operator:{operator}",
        account.subject or Subject("", account.person_id),
        account.app,
        account.revision,
        account.event_id,
        account.correlation_id,
        account.policy,
        details,
    )
