"""The roles as simulated processes: the production workers on a runtime whose adapters are in memory.

Resolver, connector and relay are the files in `workers/`, unchanged. Two are written anew because they are made of
things that are real: the scheduler of APScheduler, which runs by the machine's clock, the auditor of files.
"""

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import orjson

from orchestrator.adapters.kafka.consuming import next_offsets
from orchestrator.bootstrap import Role, Runtime
from orchestrator.dialects import STANDARD, dialects
from orchestrator.domain.budget import Limit
from orchestrator.domain.discovery import Capabilities
from orchestrator.domain.policy import Policy
from orchestrator.domain.retry import Backoff
from orchestrator.errors import StoreUnavailable
from orchestrator.flows.application import Application
from orchestrator.flows.audit import AuditFlow
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.flows.breaking import Breaker
from orchestrator.flows.expire import ExpireFlow
from orchestrator.flows.health_watch import HealthWatch
from orchestrator.flows.lane import Lanes
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.flows.relay import RelayFlow
from orchestrator.flows.resolve import ResolveFlow
from orchestrator.roles import role
from orchestrator.simulation.loop import Process
from orchestrator.simulation.plan import wall_skew
from orchestrator.testing.broker import MemoryBroker, MemoryConsumers, MemoryRecord
from orchestrator.testing.clock import LoopClock, SkewedClock
from orchestrator.testing.scim import MemoryScim
from orchestrator.testing.store import MemoryStore
from schemas.groups import AUDITOR
from schemas.topics import AUDIT_ENTRIES

SWEEP_SECONDS = 2.0
CONCURRENCY = 4


class MemoryAuditLog:
    """`ports.AuditLog`: the auditor's disk. It outlives every process."""

    def __init__(self, fits: Callable[[int], int] = lambda entries: entries) -> None:
        """`fits` says how many of so many entries still find room when the disk is full."""
        self.entries: list[bytes] = []
        self.full = False
        self._fits = fits
        self._seen: set[tuple[str, int, int]] = set()

    async def append(self, records: Any) -> list[tuple[int, bytes]]:
        """Append those entries that are new. Raises OSError where not all of them find room; some may have."""
        await asyncio.sleep(0)
        appended = []
        room = self._fits(len(records)) if self.full else len(records)
        for number, record in enumerate(records):
            if number == room:
                raise OSError(errno.ENOSPC, "no space left on device")
            entry = orjson.loads(record)
            place = (entry["writer"], entry["epoch"], entry["sequence"])
            if place not in self._seen:
                self._seen.add(place)
                appended.append((len(self.entries), record))
                self.entries.append(record)
        return appended

    def read(self, start: int) -> Iterator[tuple[int, bytes]]:
        """The entries from a position on."""
        yield from enumerate(self.entries[start:], start)


@dataclass
class Plant:
    """What all processes share because it is not theirs: store, broker, applications, disk, policy, time."""

    store: MemoryStore
    broker: MemoryBroker
    apps: Mapping[str, MemoryScim]
    policy: Policy
    life: LoopClock
    wall: LoopClock
    audit_log: MemoryAuditLog = field(default_factory=MemoryAuditLog)
    concurrency: int = CONCURRENCY
    """Calls at once to one application, from one process."""
    limits: tuple[Limit, ...] = ()
    bulk: bool = False
    breaker: Breaker = field(default_factory=Breaker)


class SimulatedRuntime:
    """Stands for `bootstrap.Runtime` in one process."""

    def __init__(self, plant: Plant, process: Process, number: int, ahead: float = 0.0) -> None:
        """The machine's clock is `ahead` by so many seconds, or behind."""
        self.plant = plant
        self.config = SimpleNamespace(apps=dict.fromkeys(plant.apps))
        self.process = process
        self.clock = SkewedClock(plant.life, ahead)
        self.wall = SkewedClock(plant.wall, wall_skew(ahead))
        self.outbox = OutboxPublisher(plant.broker, plant.store.outbox)
        self.consumers = MemoryConsumers(plant.broker, process, number)
        self._watch = HealthWatch(plant.store.converge)

    def resolve_flow(self) -> ResolveFlow:
        """See `Runtime`."""
        plant, writer = self.plant, AuditWriter("resolver", self.wall.now())
        return ResolveFlow(
            plant.store.resolve, self.outbox, writer, plant.policy, self.clock, self.wall, breaker=plant.breaker
        )

    def relay_flow(self) -> RelayFlow:
        """See `Runtime`."""
        plant = self.plant
        return RelayFlow(plant.store.attention, plant.store.outbox, self.outbox, plant.broker, self.wall)

    def lanes(self, app: str) -> Lanes:
        """See `Runtime`."""
        plant = self.plant
        return Lanes(
            app,
            transport=plant.apps[app].transport(self.process),
            store=plant.store.converge,
            outbox=self.outbox,
            clock=self.wall,
            concurrency=plant.concurrency,
            backoff=Backoff(1.0, 20.0),
            attempts=8,
            members_per_patch=3,
            limits=plant.limits,
            application=Application(dialects()[STANDARD], Capabilities(bulk=True)) if plant.bulk else None,
            bulk=plant.bulk,
            watch=self._watch,
        )


def _scheduler(runtime: SimulatedRuntime) -> Role:
    """A sweep now and then, and at the next due instant."""
    plant = runtime.plant
    writer = AuditWriter("scheduler", runtime.wall.now())
    expire = ExpireFlow(plant.store.timers, runtime.outbox, writer, runtime.clock, runtime.wall)

    async def sweep_for_ever() -> None:
        while True:
            wait = SWEEP_SECONDS
            with contextlib.suppress(StoreUnavailable):
                await expire.sweep()
                due = await plant.store.timers.next_due()
                if due is not None:
                    wait = min(wait, max(runtime.clock.seconds_until(due), 0.0) + 0.002)  # as late as a timer is
            await asyncio.sleep(wait)

    return _looping("scheduler", sweep_for_ever)


def _auditor(runtime: SimulatedRuntime) -> Role:
    """As `workers.auditor`, on a disk in memory."""
    plant = runtime.plant
    audit = AuditFlow(plant.audit_log, plant.store.audit_index)

    async def handle(records: tuple[MemoryRecord, ...]) -> None:
        await audit(records)
        await subscription.commit(next_offsets(cast(Any, records)))

    subscription = runtime.consumers.subscribe((AUDIT_ENTRIES,), AUDITOR, handle, max_records=2000)

    async def start() -> None:
        await audit.take_over(plant.audit_log.read)

    async def stop() -> None:
        return

    return Role("auditor", start, stop)


def _looping(name: str, work: Callable[[], Awaitable[None]]) -> Role:
    tasks: list[asyncio.Future[None]] = []

    async def start() -> None:
        tasks.append(asyncio.ensure_future(work()))

    async def stop() -> None:
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])

    return Role(name, start, stop)


_OURS: dict[str, Callable[[SimulatedRuntime], Role]] = {"scheduler": _scheduler, "auditor": _auditor}


def make_role(name: str, runtime: SimulatedRuntime) -> Role:
    """The role, on the runtime of a simulated process."""
    if name in _OURS:
        return _OURS[name](runtime)
    return role(name)(cast(Runtime, runtime))
