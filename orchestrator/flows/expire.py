"""The scheduler's sweep: what is due becomes an event on the same path as HR's."""

import asyncio

import orjson
import structlog

from orchestrator.domain.sealing import known_as
from orchestrator.errors import StoreUnavailable
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.metrics import TIMERS_FIRED
from orchestrator.ports import Clock, Timer, TimerStore
from schemas.audit import AuditKind
from schemas.changes import TimerFired
from schemas.envelope import Envelope, Message, timestamp
from schemas.topics import LIFECYCLE_TIMERS

log = structlog.get_logger()

SWEEP_LIMIT = 500


class ExpireFlow:
    """Fires due timers. Any number of schedulers may run: each timer is fired once, under a deterministic id."""

    def __init__(
        self, store: TimerStore, outbox: OutboxPublisher, writer: AuditWriter, clock: Clock, wall: Clock
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._writer = writer
        self._clock = clock
        self._wall = wall
        self._sweeping = asyncio.Lock()

    async def sweep(self) -> int:
        """Fire everything that is due, in order of due time; returns how many. Raises StoreUnavailable."""
        fired = 0
        async with self._sweeping:
            while True:
                taken = await self._fire_some()
                fired += taken
                if taken < SWEEP_LIMIT:
                    return fired

    async def _fire_some(self) -> int:
        now, at = self._clock.now(), self._wall.now()
        try:
            async with self._store.transaction() as transaction:
                timers = await transaction.take_due(now=now, limit=SWEEP_LIMIT)
                if not timers:
                    return 0
                subjects = await transaction.subjects(sorted({timer.person_id for timer in timers}))
                messages = [timer_event(timer) for timer in timers]
                messages += self._writer.stamp(
                    [
                        Entry(
                            AuditKind.TIMER_FIRED,
                            at,
                            "scheduler",
                            known_as(subjects, timer.person_id),
                            event_id=timer.event_id,
                            details={"timer": timer.kind, "due": timestamp(timer.due), "rule": timer.rule},
                        )
                        for timer in timers
                    ]
                )
                segment = await transaction.fired(timers, messages, now=at)
        except StoreUnavailable:
            self._writer.lost()
            raise
        self._writer.saved(len(timers))
        TIMERS_FIRED.inc(len(timers))
        await self._outbox.submit(segment, messages)
        return len(timers)


def timer_event(timer: Timer) -> Message:
    """The event a timer makes. Its id follows from what it is about, so firing twice is one event to the inbox."""
    due = timestamp(timer.due)
    envelope = Envelope(
        id=f"{timer.person_id}/{timer.kind}/{due}",
        source="jml/scheduler",
        type=TimerFired.TYPE,
        time=timer.due,
        subject=timer.person_id,
    )
    body = {"worker_id": timer.person_id, "kind": timer.kind, "due": due}
    return Message(LIFECYCLE_TIMERS, timer.person_id.encode(), orjson.dumps(body), envelope.headers())
