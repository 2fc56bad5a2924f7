"""Publishes what transactions left in the outbox: first the process that saved it, after a crash the relay."""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from orchestrator.domain.retry import Backoff
from orchestrator.errors import BrokerUnavailable, StoreUnavailable
from orchestrator.ports import Clock, OutboxStore, Publisher
from schemas.envelope import Message
from schemas.topics import AUDIT_ENTRIES

log = structlog.get_logger()

ABANDONED_AFTER = timedelta(seconds=20)
"""A segment that is older was left by a process that died (or is slow: publishing twice is harmless)."""
QUEUED_SEGMENTS = 32
COMPANY_SECONDS = 0.05
"""After a publication evidence waits so long for company: nobody acts on it, and a request to the broker costs as much
as many entries. A command does not wait, nor does what was saved before it."""
_BACKOFF = Backoff(base=0.2, most=10)


@dataclass(slots=True)
class _Segment:
    id: int
    messages: Sequence[Message]


class OutboxPublisher:
    """Publishes saved segments in their order, in the background, so that the next transaction can run meanwhile.

    Nothing depends on it for safety: what it does not get done, the relay does.
    """

    def __init__(self, publisher: Publisher, store: OutboxStore) -> None:
        self._publisher = publisher
        self._store = store
        self._queue: asyncio.Queue[_Segment] = asyncio.Queue(QUEUED_SEGMENTS)
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._chance = random.Random()
        self._failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._run(), name="outbox")
        self._task.add_done_callback(self._ended)

    @property
    def failed(self) -> "asyncio.Future[BaseException]":
        """Done when publishing ended by a defect of ours; the process then has to end as well."""
        return self._failed

    async def submit(self, segment: int | None, messages: Sequence[Message]) -> None:
        """Hand over a committed segment; waits while too many are on their way."""
        if segment is None:
            return
        await self._queue.put(_Segment(segment, messages))
        if any(message.topic != AUDIT_ENTRIES for message in messages) or self._queue.full():
            self._hurry.set()

    async def idle(self) -> None:
        """Return when everything handed over is published."""
        self._hurry.set()
        await self._queue.join()

    async def drain(self, seconds: float = 15.0) -> None:
        """Publish what is left, then stop; what takes longer is left to the relay."""
        if self._task is None:
            return
        if not self._failed.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.idle(), seconds)
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._failed.done():
            self._failed.set_result(error)

    async def _run(self) -> None:
        while True:
            segments = [await self._queue.get()]
            while not self._queue.empty():
                segments.append(self._queue.get_nowait())
            self._hurry.clear()
            await self._publish(segments)
            for _ in segments:
                self._queue.task_done()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMPANY_SECONDS):
                    await self._hurry.wait()

    async def _publish(self, segments: Sequence[_Segment]) -> None:
        messages = [message for segment in segments for message in segment.messages]
        attempt = 0
        while True:
            try:
                await self._publisher.publish(messages)
                break
            except BrokerUnavailable as error:
                attempt += 1
                log.warning("publish_failed", reason=error.code, attempt=attempt, messages=len(messages))
                await asyncio.sleep(_BACKOFF.delay(attempt, self._chance))
        try:
            await self._store.published([segment.id for segment in segments])
        except StoreUnavailable as error:  # the relay publishes them again, which is harmless
            log.warning("outbox_not_cleared", reason=error.code, segments=len(segments))


async def publish_leftovers(store: OutboxStore, publisher: Publisher, clock: Clock, *, limit: int = 50) -> int:
    """Publish segments that a dead process left; returns how many. Raises StoreUnavailable, BrokerUnavailable."""
    segments = await store.leftover(older_than=clock.now() - ABANDONED_AFTER, limit=limit)
    for segment, messages in segments:
        await publisher.publish(messages)
        await store.published([segment])
    return len(segments)
