"""Ends that could not be enforced: measured, and told of once each. Connector and relay go on trying to close them."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from orchestrator.domain.account import Account
from orchestrator.domain.notices import OVERDUE_AFTER, age, overdue_notice
from orchestrator.domain.person import Person
from orchestrator.domain.sealing import Subject
from orchestrator.errors import StoreUnavailable
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.metrics import OVERDUE_ENDS, OVERDUE_SECONDS
from orchestrator.ports import Clock
from orchestrator.ports.noticing import Overdue, OverdueStore
from schemas.audit import AuditKind
from schemas.envelope import Envelope, Message, timestamp
from schemas.notices import Notice
from schemas.topics import LIFECYCLE_NOTICES

SWEEP_LIMIT = 500


class OverdueFlow:
    """Sweep it now and then; a sweep that finds nothing costs one read of a small index."""

    def __init__(
        self,
        store: OverdueStore,
        outbox: OutboxPublisher,
        writer: AuditWriter,
        clock: Clock,
        wall: Clock,
        *,
        tell_after: timedelta,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._writer = writer
        self._clock = clock
        self._wall = wall
        self._tell_after = tell_after
        self._measured: set[str] = set()
        self._sweeping = asyncio.Lock()

    async def sweep(self) -> int:
        """Measure, and tell of what is overdue for long; returns how many notices went out. Raises StoreUnavailable."""
        async with self._sweeping:
            now, known = self._clock.now(), self._wall.now()
            found = await self._store.count(due=now - OVERDUE_AFTER, known=known - OVERDUE_AFTER)
            self._measure(found, now)
            wait, told = max(self._tell_after, OVERDUE_AFTER), 0
            if any(overdue.oldest < now - wait for overdue in found.values()):
                while taken := await self._tell(now - wait, known - wait):
                    told += taken
            return told

    def _measure(self, found: Mapping[str, Overdue], now: datetime) -> None:
        for app in self._measured - found.keys():
            OVERDUE_ENDS.labels(app).set(0)
            OVERDUE_SECONDS.labels(app).set(0)
        for app, overdue in found.items():
            OVERDUE_ENDS.labels(app).set(overdue.ends)
            OVERDUE_SECONDS.labels(app).set(age(overdue.oldest, now))
        self._measured |= found.keys()

    async def _tell(self, due: datetime, known: datetime) -> int:
        at = self._wall.now()
        try:
            async with self._store.transaction() as transaction:
                taken = await transaction.take(due=due, known=known, limit=SWEEP_LIMIT)
                if not taken:
                    return 0
                notices = [self._notice(account, person) for account, person in taken]
                entries = [_entry(account, notice, at) for (account, _), notice in zip(taken, notices, strict=True)]
                messages = [*(notice_message(one, at) for one in notices), *self._writer.stamp(entries)]
                segment = await transaction.told([account for account, _ in taken], messages, now=at)
        except StoreUnavailable:
            self._writer.lost()
            raise
        self._writer.saved(len(entries))
        await self._outbox.submit(segment, messages)
        return len(taken)

    def _notice(self, account: Account, person: Person | None) -> Notice:
        attributes = person.history.at(self._clock.now()) if person is not None else {}
        return overdue_notice(account, attributes.get("manager_id"), attributes.get("sponsor_id"))


def notice_message(notice: Notice, at: datetime) -> Message:
    """A notice on its topic, keyed by the person. Its id makes a second one of the same a duplicate."""
    envelope = Envelope(id=notice.id, source="jml/overdue", type=Notice.TYPE, time=at, subject=notice.person_id)
    return Message(LIFECYCLE_NOTICES, notice.person_id.encode(), notice.model_dump_json().encode(), envelope.headers())


def _entry(account: Account, notice: Notice, at: datetime) -> Entry:
    return Entry(
        AuditKind.NOTICE_ISSUED,
        at,
        "scheduler",
        account.subject or Subject("", account.person_id),
        app=account.app,
        revision=account.revision,
        event_id=account.event_id,
        correlation_id=account.correlation_id,
        policy=account.policy,
        details={"notice": notice.kind, "due": timestamp(notice.due)},
    )
