"""Reconciliation: read everything an application holds, say what differs, and have the connector look at it once more.

It changes no account itself. What is to be put right is marked as unknown, so that the relay issues its command again
and the connector reads the account back and converges it: the same lanes, the same fence, the same audit.
"""

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.correlation import Correlation
from orchestrator.domain.intent import recheck
from orchestrator.domain.reconciliation import (
    Finding,
    FindingKind,
    Shows,
    compare,
    orphan,
    unseen,
)
from orchestrator.domain.references import linked, referred
from orchestrator.domain.scim_diff import project
from orchestrator.domain.sealing import Subject
from orchestrator.domain.unique_names import numbered
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.group_drift import GroupDrift
from orchestrator.flows.recognizing import BY_ATTRIBUTES, recognized
from orchestrator.ports import PlanStore, ProgressUpdate, ReconcileStore
from schemas.audit import AuditKind

BATCH = 200


class Listing(Protocol):
    """Everything an application holds. `complete` is known at the end: nothing is missing from an incomplete one, nor
    from one with `skipped` rows, which nobody could read."""

    @property
    def complete(self) -> bool:
        """Whether all rows came."""
        ...

    @property
    def skipped(self) -> int:
        """How many rows nobody could read."""
        ...

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """The resources, each once."""
        ...


class Reconciliation:
    """One run over one application."""

    def __init__(
        self,
        app: str,
        store: ReconcileStore,
        persons: PlanStore,
        *,
        shows: Shows = project,
        began: datetime | None = None,
        groups: GroupDrift | None = None,
        correlation: Correlation = BY_ATTRIBUTES,
    ) -> None:
        """`shows` is how the application shows an account, `began` when its listing begins to be read, `correlation`
        by which rules accounts are found. Memberships are compared where `groups` reads them."""
        self._groups = groups
        self._app = app
        self._store = store
        self._persons = persons
        self._shows = shows
        self._began = began
        self._correlation = correlation
        self.counts: Counter[FindingKind] = Counter()
        self.complete = False

    async def find(self, listing: Listing) -> AsyncIterator[Finding]:
        """Every account on either side that is not as it should be; `counts` has all of them.

        Memory holds the application's ids and one batch. From an incomplete listing nobody concludes that something is
        missing.
        """
        seen: set[str] = set()
        async for rows in batches(listing):
            seen.update(str(row["id"]) for row in rows)
            for finding in await self._judge(rows):
                self.counts[finding.kind] += 1
                if finding.kind is not FindingKind.LINKED:
                    yield finding
        self.complete = listing.complete and not listing.skipped
        if not self.complete:
            return
        async for page in self._store.linked(self._app):
            for account, progress in page:
                missed = None if progress.remote_id in seen else unseen(account, progress, self._began)
                if missed is not None:
                    self.counts[missed.kind] += 1
                    yield missed
        if self._groups is not None:
            async for misplaced in self._groups.find():
                self.counts[misplaced.kind] += 1
                yield misplaced

    async def _judge(self, rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
        known = await self._store.by_remote_id(self._app, [str(row["id"]) for row in rows])
        strangers = [row for row in rows if str(row["id"]) not in known]
        links = await self._links(known.values())
        findings = []
        for row in rows:
            if (found := known.get(str(row["id"]))) is not None:
                account, progress = found
                named = numbered(account.resource, self._correlation.unique, progress.number)
                account = replace(account, resource=named)
                if (person_id := referred(account.resource)) is not None:
                    account = replace(account, resource=linked(account.resource, links.get(person_id)))
                findings.append(compare(account, progress, row, self._shows))
        return findings + await self._orphans(strangers) if strangers else findings

    async def _links(self, rows: Iterable[tuple[Account, Progress]]) -> Mapping[str, str]:
        """The ids of the accounts that these refer to, by person."""
        named = {person_id for account, _ in rows if (person_id := referred(account.resource)) is not None}
        return await self._store.remote_ids(self._app, sorted(named)) if named else {}

    async def _orphans(self, rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
        ranked, _ = await recognized(self._app, rows, self._persons, self._correlation)
        linked = await self._store.remote_ids(self._app, sorted({one.person_id for each in ranked for one in each}))
        return [orphan(row, each, linked) for row, each in zip(rows, ranked, strict=True)]


async def look_again(
    app: str,
    wanted: Mapping[str, Mapping[str, Any]],
    store: ReconcileStore,
    writer: AuditWriter,
    *,
    actor: str,
    now: datetime,
    misplaced: Mapping[str, Iterable[str]] = MappingProxyType({}),
) -> set[str]:
    """Have the connector look at the accounts of these persons once more; returns whose it will.

    Each gets an audit entry with the details that stand beside the person in `wanted`. Those that the connector is at
    work on, or that wait for a person, are left to that. `misplaced` are groups by person that the account is in and
    should not be in: the connector knows of no other way.
    """
    marked: set[str] = set()
    person_ids = list(wanted)
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
                    replace(
                        progress,
                        groups=tuple(sorted({*progress.groups, *misplaced.get(account.person_id, ())})),
                        intent=recheck(now),
                        status=AccountStatus.PENDING,
                    ),
                    now,
                )
                for account, progress in chosen
            ]
            entries = [
                _marked(account, progress, wanted, actor, now).behind(progress.version + 1)
                for account, progress in chosen
            ]
            if updates:
                await transaction.save(app, updates, writer.stamp(entries), now=now)
        writer.saved(len(entries))
        marked.update(account.person_id for account, _ in chosen)
    return marked


def _marked(
    account: Account, progress: Progress, wanted: Mapping[str, Mapping[str, Any]], actor: str, now: datetime
) -> Entry:
    return Entry(
        AuditKind.RECONCILED,
        now,
        actor,
        account.subject or Subject("", account.person_id),
        app=account.app,
        revision=account.revision,
        event_id=account.event_id,
        correlation_id=account.correlation_id,
        policy=account.policy,
        details=wanted[account.person_id],
        sealed={"account": progress.remote_id} if progress.remote_id else None,
    )


async def batches(rows: AsyncIterable[dict[str, Any]]) -> AsyncIterator[list[dict[str, Any]]]:
    """The rows of a listing, some at a time."""
    batch: list[dict[str, Any]] = []
    async for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
