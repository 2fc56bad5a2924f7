"""Reconciliation: read everything an application holds, say what differs, and have the connector look at it once more.

It changes no account itself. What is to be put right is marked as unknown, so that the relay issues its command again
and the connector reads the account back and converges it: the same lanes, the same fence, the same audit.
"""

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from orchestrator.domain.account import AccountStatus
from orchestrator.domain.reconciliation import Finding, FindingKind, candidates, compare, handles, orphan, unseen
from orchestrator.domain.sealing import Subject
from orchestrator.flows.account_steps import RECHECK
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.ports import PlanStore, ProgressUpdate, ReconcileStore
from schemas.audit import AuditKind
from schemas.envelope import timestamp

BATCH = 200


class Listing(Protocol):
    """Everything an application holds. `complete` is known at the end: nothing is missing from an incomplete one."""

    complete: bool

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """The resources, each once."""
        ...


class Reconciliation:
    """One run over one application."""

    def __init__(self, app: str, store: ReconcileStore, persons: PlanStore) -> None:
        self._app = app
        self._store = store
        self._persons = persons
        self.counts: Counter[FindingKind] = Counter()
        self.complete = False

    async def find(self, listing: Listing) -> AsyncIterator[Finding]:
        """Every account on either side that is not as it should be; `counts` has all of them.

        Memory holds the application's ids and one batch. From an incomplete listing nobody concludes that something is
        missing.
        """
        seen: set[str] = set()
        async for rows in _batches(listing):
            seen.update(str(row["id"]) for row in rows)
            for finding in await self._judge(rows):
                self.counts[finding.kind] += 1
                if finding.kind is not FindingKind.LINKED:
                    yield finding
        self.complete = listing.complete
        if not self.complete:
            return
        async for page in self._store.linked(self._app):
            for account, progress in page:
                missed = None if progress.remote_id in seen else unseen(account, progress)
                if missed is not None:
                    self.counts[missed.kind] += 1
                    yield missed

    async def _judge(self, rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
        known = await self._store.by_remote_id(self._app, [str(row["id"]) for row in rows])
        strangers = [row for row in rows if str(row["id"]) not in known]
        findings = [compare(*known[str(row["id"])], row) for row in rows if str(row["id"]) in known]
        return findings + await self._orphans(strangers) if strangers else findings

    async def _orphans(self, rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
        found = [handles(row) for row in rows]
        ids = sorted({one for each in found for one in (each.external_id, each.user_name) if one})
        emails = sorted({email for each in found for email in each.emails})
        persons = {person.id: person for person, _ in await self._persons.named(ids)} if ids else {}
        by_email = await self._persons.correlate_emails(emails) if emails else {}
        ranked = [candidates(each, persons, by_email) for each in found]
        linked = await self._store.remote_ids(self._app, sorted({one.person_id for each in ranked for one in each}))
        return [orphan(row, each, linked) for row, each in zip(rows, ranked, strict=True)]


async def look_again(
    app: str,
    person_ids: Sequence[str],
    store: ReconcileStore,
    writer: AuditWriter,
    *,
    entry: Mapping[str, Any],
    actor: str,
    now: datetime,
) -> int:
    """Have the connector look at these accounts once more; returns how many. Each gets an audit entry with the
    details `entry`. Those that the connector is at work on, or that wait for a person, are left to that."""
    marked = 0
    for start in range(0, len(person_ids), BATCH):
        async with store.look() as transaction:
            rows = await transaction.lock(app, person_ids[start : start + BATCH])
            chosen = [
                (account, progress)
                for account, progress in rows.values()
                if progress.intent is None and progress.status is AccountStatus.APPLIED
            ]
            updates = [
                ProgressUpdate(
                    account.person_id,
                    replace(progress, intent=f"{RECHECK}{timestamp(now)}", status=AccountStatus.PENDING),
                    now,
                )
                for account, progress in chosen
            ]
            entries = [
                Entry(
                    AuditKind.RECONCILED,
                    now,
                    actor,
                    account.subject or Subject("", account.person_id),
                    app=app,
                    revision=account.revision,
                    event_id=account.event_id,
                    correlation_id=account.correlation_id,
                    policy=account.policy,
                    details=entry,
                )
                for account, _ in chosen
            ]
            if updates:
                await transaction.save(app, updates, writer.stamp(entries), now=now)
        writer.saved(len(entries))
        marked += len(updates)
    return marked


async def _batches(rows: AsyncIterable[dict[str, Any]]) -> AsyncIterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    async for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
