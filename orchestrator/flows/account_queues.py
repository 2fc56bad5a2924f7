"""Ordered concurrency per account over a batch subscription: one account at a time, many accounts at once.

The handler only enqueues. Everything that waits for one account is taken together, because converging goes to the
newest desired state anyway: ten waiting revisions cost one run. A partition's offset to commit is the end of the
unbroken run of *seen* offsets that are done (offsets have gaps), committed now and then, and when the partition is
taken away after what is under way was finished. See decision 0008.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition

from orchestrator.flows.resolve import Record

log = structlog.get_logger()

COMMIT_SECONDS = 0.5
DRAIN_SECONDS = 25.0
STUCK_SECONDS = 0.5
"""The drain of an application that is paused: nothing will finish there however long we wait."""


class Offsets(Protocol):
    """What the queues need of a subscription."""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commit the next offsets to read."""
        ...

    def partitions(self) -> int:
        """How many partitions the subscribed topics have, whoever holds them; 0 while that is not known."""
        ...

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Stop fetching."""
        ...

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch again."""
        ...


class _Partition:
    """The offsets of one partition that were seen, and which of them are done."""

    __slots__ = ("alive", "committed", "done", "order", "running", "watermark")

    def __init__(self) -> None:
        self.order: deque[int] = deque()
        self.done: set[int] = set()
        self.watermark: int | None = None
        self.committed: int | None = None
        self.alive = True
        self.running: set[asyncio.Task[None]] = set()

    def next_offset(self) -> int | None:
        """The offset to commit, None when it was committed already."""
        while self.order and self.order[0] in self.done:
            self.watermark = self.order.popleft() + 1
            self.done.discard(self.watermark - 1)
        return self.watermark if self.watermark != self.committed else None


class AccountQueues(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Runs `process(person_id)` for each account with waiting commands; `process` must not raise.

    `urgent` topics are always taken in, the others only while fewer than `room` commands wait. At most `width`
    accounts of the others are under way, so that memory stays bounded whatever the backlog. `is_stuck` says that
    nothing can finish now; `on_share` is told which part of all partitions this process holds, `on_urgent` whether any
    account is under way for an urgent command, and `on_hurry` of each that comes for an account that is under way.
    `beside` is how many accounts that are under way need nothing but patience, and do not count: call `go_on` when it
    grows.
    """

    def __init__(
        self,
        process: Callable[[str], Awaitable[None]],
        *,
        urgent: Iterable[str],
        width: int,
        room: int = 4000,
        is_stuck: Callable[[], bool] = lambda: False,
        on_share: Callable[[float], None] | None = None,
        on_urgent: Callable[[bool], None] = lambda _: None,
        on_hurry: Callable[[str], None] = lambda _: None,
        beside: Callable[[], int] = lambda: 0,
    ) -> None:
        self._process = process
        self._is_stuck = is_stuck
        self._on_share = on_share
        self._on_urgent = on_urgent
        self._on_hurry = on_hurry
        self._hurried: set[str] = set()
        self._beside = beside
        self._urgent = set(urgent)
        self._width = width
        self._room = room
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._waiting: dict[str, list[tuple[_Partition, int]]] = {}
        self._ready: deque[str] = deque()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._under_way = {True: 0, False: 0}  # ordinary accounts and urgent ones
        self._pending = 0
        self._paused = False
        self._closing = False
        self._offsets: Offsets | None = None
        self._committer: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def attach(self, offsets: Offsets) -> None:
        """Say where to commit, before the subscription is started."""
        self._offsets = offsets

    @property
    def pending(self) -> int:
        """Commands taken in and not done."""
        return self._pending

    async def __call__(self, records: Sequence[Record]) -> None:
        """Take in a batch. Nothing is awaited before every record has its partition: a partition that is taken away
        meanwhile takes its records with it."""
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit_now_and_then(), name="commit offsets")
        for record in records:
            partition = self._partitions.get(TopicPartition(record.topic, record.partition))
            if partition is None or not partition.alive or self._closing:
                continue  # not committed, so the new owner gets it
            partition.order.append(record.offset)
            self._pending += 1
            key = (record.key or b"").decode("utf-8", "replace")
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.append((partition, record.offset))
                if record.topic in self._urgent and key not in self._running:
                    self._start(key, ordinary=False)
                elif record.topic in self._urgent:
                    self._hurry(key)
                continue
            self._waiting[key] = [(partition, record.offset)]
            if record.topic in self._urgent:
                self._start(key, ordinary=False)
            else:
                self._ready.append(key)
        self._start_ready()
        self._pause_or_resume()

    def go_on(self) -> None:
        """There is room for more accounts."""
        self._start_ready()

    def _start_ready(self) -> None:
        while self._ready and self._under_way[True] < self._width + self._beside():
            key = self._ready.popleft()
            if key in self._waiting and key not in self._running:
                self._start(key, ordinary=True)

    def _start(self, key: str, *, ordinary: bool) -> None:
        self._count(1, ordinary=ordinary)
        self._running[key] = asyncio.create_task(self._run(key, ordinary=ordinary), name=f"account {key}")

    def _hurry(self, key: str) -> None:
        """It is under way, perhaps for something else and at the end of a line."""
        if key not in self._hurried:
            self._hurried.add(key)
            self._count(1, ordinary=False)
        self._on_hurry(key)

    def _count(self, more: int, *, ordinary: bool) -> None:
        self._under_way[ordinary] += more
        if not ordinary:
            self._on_urgent(self._under_way[False] > 0)

    async def _run(self, key: str, *, ordinary: bool) -> None:
        """Serve one account until nothing waits for it. What follows the last look happens without an await."""
        try:
            while waiting := self._waiting.get(key):
                self._waiting[key] = []
                await self._serve(key, waiting)
        except Exception as error:  # noqa: BLE001 - a defect of ours, handed to whoever runs the role, which then ends
            if not self.failed.done():
                self.failed.set_result(error)
        finally:
            self._pending -= len(self._waiting.pop(key, ()))
            del self._running[key]
            self._count(-1, ordinary=ordinary)
            if key in self._hurried:
                self._hurried.discard(key)
                self._count(-1, ordinary=False)
            self._start_ready()
            self._pause_or_resume()

    async def _serve(self, key: str, waiting: Sequence[tuple[_Partition, int]]) -> None:
        alive = [(partition, offset) for partition, offset in waiting if partition.alive]
        task = asyncio.current_task()
        assert task is not None
        owners = {partition for partition, _ in alive}
        for partition in owners:
            partition.running.add(task)
        try:
            if alive and not self._closing:
                await self._process(key)
                for partition, offset in alive:
                    partition.done.add(offset)
                self._moved.set()
        finally:
            self._pending -= len(waiting)
            for partition in owners:
                partition.running.discard(task)

    def _pause_or_resume(self) -> None:
        """Only the ordinary lane is paused when intake is full; a lane that is stuck altogether pauses both."""
        if self._offsets is None:
            return
        ordinary = [tp for tp in self._partitions if tp.topic not in self._urgent]
        if not self._paused and self._pending > self._room:
            self._paused = True
            self._offsets.pause(ordinary)
        elif self._paused and self._pending < self._room // 2:
            self._paused = False
            self._offsets.resume(list(self._partitions))
        if self._paused and self._pending > 8 * self._room:
            self._offsets.pause(list(self._partitions))

    # --- offsets --------------------------------------------------------------------------------------------------

    async def _commit_now_and_then(self) -> None:
        """Where nothing is done there is nothing to commit, and nobody wakes up."""
        try:
            while True:
                await self._moved.wait()
                await asyncio.sleep(COMMIT_SECONDS)
                self._moved.clear()
                if not await self._commit(self._partitions):
                    self._moved.set()
        except Exception as error:  # noqa: BLE001 - a defect of ours, handed to whoever runs the role, which then ends
            if not self.failed.done():
                self.failed.set_result(error)

    async def _commit(self, partitions: Iterable[TopicPartition]) -> bool:
        """False when it was refused."""
        offsets = {
            tp: offset
            for tp in list(partitions)
            if (partition := self._partitions.get(tp)) and (offset := partition.next_offset()) is not None
        }
        if not offsets or self._offsets is None:
            return True
        if not await self._offsets.commit(offsets):
            return False
        for tp, offset in offsets.items():
            if tp in self._partitions:
                self._partitions[tp].committed = offset
        return True

    # --- rebalance and end ----------------------------------------------------------------------------------------

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """New partitions begin with nothing seen."""
        for tp in assigned:
            self._partitions.setdefault(tp, _Partition())
        self._tell_share()
        self._paused = False
        self._pause_or_resume()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Finish what is under way, commit, forget. aiokafka keeps heartbeating meanwhile."""
        revoked = list(revoked)
        await self._drain([self._partitions[tp] for tp in revoked if tp in self._partitions])
        await self._commit(revoked)
        for tp in revoked:
            self._partitions.pop(tp, None)
        self._tell_share()

    def _tell_share(self) -> None:
        """The group hands partitions out anew only when every member has given up its own: the shares of all processes
        never add up to more than the whole."""
        if self._on_share is not None and self._offsets is not None:
            held = len(self._partitions)
            self._on_share(held / max(self._offsets.partitions(), held, 1))

    async def close(self) -> None:
        """The same for everything; before the broker is stopped."""
        self._closing = True
        await self._drain(list(self._partitions.values()))
        if self._committer is not None:
            self._committer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._committer
            self._committer = None
        await self._commit(self._partitions)

    async def _drain(self, partitions: Sequence[_Partition]) -> None:
        """Runs that do not end in time are cancelled: their intents tell the next owner to read back."""
        for partition in partitions:
            partition.alive = False
        tasks = {task for partition in partitions for task in partition.running}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=STUCK_SECONDS if self._is_stuck() else DRAIN_SECONDS)
        for task in late:
            task.cancel()
        if late:
            log.warning("drain_cut_short", accounts=len(late))
            await asyncio.wait(late, timeout=1)
