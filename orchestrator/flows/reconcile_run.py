"""One run of a reconciliation as evidence: what was found, what was marked to be put right, and the sum of it.

The entries have the shape that the reports `orphans` and `drift` read: `finding`, `count`, `accounts`, `changed` and
`action`. An account of somebody is named by the person's subject, one of nobody by its id in the application.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from orchestrator.domain.reconciliation import Finding, FindingKind
from orchestrator.domain.sealing import Subject
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.reconcile import BATCH, Reconciliation, look_again
from orchestrator.ports import ReconcileStore, SubjectStore
from schemas.audit import AuditKind

MOST_NAMES = 10
"""Attributes that are named of one account."""
MOST_BYTES = 32 << 10
"""Of accounts in one entry: an entry of the log has at most 64 KiB."""
MOST_ENTRIES = 50
"""In one transaction."""
LONGEST_ID = 200
SUMMARY = "summary"


class Kept(NamedTuple):
    """What is kept of a finding until the end of the run. No value of an attribute is."""

    kind: FindingKind
    account: str | None
    person_id: str | None
    changed: tuple[str, ...]
    takes_access: bool
    fixable: bool
    group: str | None = None


class ReconcileRun:
    """Collects what a `Reconciliation` finds; `fix` has the connector look at it, `record` ends the run."""

    def __init__(
        self,
        app: str,
        reconciliation: Reconciliation,
        store: ReconcileStore,
        subjects: SubjectStore,
        writer: AuditWriter,
        *,
        actor: str,
    ) -> None:
        self._app = app
        self._reconciliation = reconciliation
        self._store = store
        self._subjects = subjects
        self._writer = writer
        self._actor = actor
        self._kept: dict[FindingKind, list[Kept]] = defaultdict(list)
        self._marked: set[str] = set()

    def take(self, finding: Finding) -> None:
        """Remember a finding."""
        if finding.differs:
            account = None if finding.person_id is not None else _account(finding)
            changed = tuple(sorted(finding.differences))
            self._kept[finding.kind].append(
                Kept(
                    finding.kind,
                    account,
                    finding.person_id,
                    changed,
                    finding.takes_access,
                    finding.fixable,
                    finding.group,
                )
            )

    @property
    def differing(self) -> int:
        """How many accounts are not as they should be."""
        return sum(map(len, self._kept.values()))

    @property
    def fixable(self) -> list[Kept]:
        """What one more look of the connector puts right, what takes access away first."""
        found = [one for kind in self._kept.values() for one in kind if one.fixable]
        return sorted(found, key=lambda one: not one.takes_access)

    @property
    def accounts_to_fix(self) -> tuple[int, int]:
        """How many accounts one more look puts right, and how many of them lose access by it. Of one account several
        things may differ: it may be inactive and out of three groups."""
        found = self.fixable
        return len({one.person_id for one in found}), len({one.person_id for one in found if one.takes_access})

    async def fix(self, *, now: datetime) -> int:
        """Have the connector look once more at everything that is fixable; returns at how many accounts it will."""
        by_person: dict[str, list[Kept]] = defaultdict(list)
        for one in self.fixable:
            if one.person_id is not None:
                by_person[one.person_id].append(one)
        wanted = {person_id: _details(found, "marked") for person_id, found in by_person.items()}
        misplaced: dict[str, list[str]] = defaultdict(list)
        for one in self._kept[FindingKind.MEMBER_EXTRA]:
            if one.person_id is not None and one.group is not None:
                misplaced[one.person_id].append(one.group)
        self._marked = await look_again(
            self._app, wanted, self._store, self._writer, actor=self._actor, now=now, misplaced=misplaced
        )
        return len(self._marked)

    async def record(self, *, now: datetime, calls: int, skipped: int, run: str | None = None) -> None:
        """Save what was found and not marked, account by account, and the sum; `run` names a scheduled run."""
        for rows in self._kept.values():
            left = [one for one in rows if not (one.fixable and one.person_id in self._marked)]
            for start in range(0, len(left), BATCH * MOST_ENTRIES):
                await self._save(await self._listed(left[start : start + BATCH * MOST_ENTRIES], len(rows), now), now)
        found = self._reconciliation
        details = {
            "finding": SUMMARY,
            "counts": {kind.value: found.counts[kind] for kind in FindingKind},
            "complete": found.complete,
            "marked": len(self._marked),
            "calls": calls,
            "unreadable": skipped,
            **({} if run is None else {"run": run}),
        }
        await self._save([self._entry(details, None, now)], now)

    async def _listed(self, rows: Sequence[Kept], count: int, now: datetime) -> list[Entry]:
        subjects: dict[str, Subject] = {}
        ids = sorted({one.person_id for one in rows if one.person_id is not None})
        for start in range(0, len(ids), BATCH):
            subjects.update(await self._subjects.of_people(ids[start : start + BATCH]))
        accounts = (_listed(one, subjects) for one in rows)
        details = {"finding": rows[0].kind.value, "count": count, "action": "none"} if rows else {}
        return [self._entry({**details, "accounts": chunk}, None, now) for chunk in _chunks(accounts)]

    async def _save(self, entries: Sequence[Entry], now: datetime) -> None:
        for start in range(0, len(entries), MOST_ENTRIES):
            chunk = entries[start : start + MOST_ENTRIES]
            await self._store.record(self._writer.stamp(chunk), now=now)
            self._writer.saved(len(chunk))

    def _entry(self, details: Mapping[str, Any], subject: Subject | None, now: datetime) -> Entry:
        return Entry(AuditKind.RECONCILED, now, self._actor, subject, app=self._app, details=details)


def _details(found: Sequence[Kept], action: str) -> dict[str, Any]:
    """What was found of one account; the finding that comes first gives the name."""
    changed = list(dict.fromkeys(name for one in found for name in one.changed))
    return {"finding": found[0].kind.value, "count": 1, "changed": changed[:MOST_NAMES], "action": action}


def _listed(one: Kept, subjects: Mapping[str, Subject]) -> Any:
    if one.person_id is None:
        return one.account
    subject = subjects.get(one.person_id)
    changed = {"changed": list(one.changed[:MOST_NAMES])} if one.changed else {}
    return {"account": "", "subject": subject.id if subject else None, **changed}


def _account(finding: Finding) -> str:
    """The account's id; its digest where it is a name or an address, which whoever looks for it can compute."""
    remote_id = finding.remote_id or ""
    if finding.named:
        return f"sha256:{hashlib.sha256(remote_id.encode()).hexdigest()[:32]}"
    return remote_id[:LONGEST_ID]


def _chunks(accounts: Iterable[Any]) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    size = 0
    for one in accounts:
        length = len(orjson.dumps(one)) + 1
        if chunk and size + length > MOST_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += length
    if chunk:
        yield chunk
