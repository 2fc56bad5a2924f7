"""`jml bench pipeline`: events of HR to accounts in all applications, every role a process, beside the floor.

On the embedded broker all roles run in this process, since it serves only one. The floor is what the same machine does
with the bare clients: as many processes send as many calls to the same applications with httpx over the same
transport, while aiokafka sends and reads as many messages as the pipeline put on its topics. It decides nothing and
saves nothing.
"""

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.settling import SqlSettling
from orchestrator.bench.people import joiner
from orchestrator.bench.place import Place, application_policy, open_place
from orchestrator.bench.processes import RoleProcess, environment, role_processes
from orchestrator.bench.resolving import EMBEDDED_EVENTS, Progress, publish
from orchestrator.bench.server import Applications
from orchestrator.bench.unaudited import unaudited
from orchestrator.bootstrap import open_runtime, running
from orchestrator.config import EMBEDDED
from orchestrator.domain.intent import RECHECK
from orchestrator.errors import UserError
from orchestrator.roles import role, role_names
from schemas.topics import AUDIT_ENTRIES, HR_EVENTS, lane_topic, topics

CREW = {"resolver": 1, "connector": 2, "scheduler": 1, "relay": 1, "auditor": 1}
ROLES, UNAUDITED = "orchestrator.cli", "orchestrator.bench.unaudited"
WARM_UP = 100
POLL_SECONDS = 0.05
MESSAGE_BYTES = 700
"""What a command or an entry with its headers takes, about."""


class _Where(NamedTuple):
    """Where a run takes place, and what it meets there. Each run has fresh topics, database and applications."""

    kafka: str
    store: str
    names: tuple[str, ...]
    latency: float
    concurrency: int

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[Applications, Place]]:
        async with Applications(self.latency) as applications:
            policies = {
                name: application_policy(applications.base_url(name), concurrency=self.concurrency)
                for name in self.names
            }
            async with open_place(self.kafka, self.store, policies) as place:
                yield applications, place


async def bench_pipeline(
    kafka: str,
    store: str,
    *,
    apps: int,
    count: int,
    latency: float,
    concurrency: int,
    progress: Progress,
    audit_cost: bool = False,
) -> dict[str, Any]:
    """Measure; the result names broker, store and sizes. `audit_cost`: also with auditing taken out."""
    if kafka == EMBEDDED:
        count = min(count, EMBEDDED_EVENTS // (2 * apps))
    where = _Where(kafka, store, tuple(f"app{number}" for number in range(apps)), latency, concurrency)
    async with where.opened() as (applications, place), all_roles(place, CREW) as roles:
        place_is = {"broker": place.broker, "store": place.store}
        await settle(place, WARM_UP, 0, progress, "warming up")
        warm = await applications.stats()
        computed, began = cpu_seconds(roles), time.perf_counter()
        await settle(place, count, WARM_UP, progress, "pipeline")
        seconds = time.perf_counter() - began
        cpu = {name: used - computed[name] for name, used in cpu_seconds(roles).items()}
        stats = await applications.stats()
        messages = await _messages(place) * count // (count + WARM_UP)
    if stats["active"] != (count + WARM_UP) * apps:
        raise AssertionError(f"applications hold {stats['active']} accounts, not {(count + WARM_UP) * apps}")
    calls = sum(stats["calls"].values()) - sum(warm["calls"].values())
    async with where.opened() as (applications, place):
        processes = CREW["connector"] if place.embedded is None else 1
        floor = await _floor(place, applications, calls, messages, processes, concurrency * apps, progress)
    cost: dict[str, Any] = {}
    if audit_cost:
        cost = await _auditing_costs(where, count, progress, seconds)
    return {
        "bench": "pipeline",
        **place_is,
        "applications": apps,
        "events": count,
        "latency_ms": latency * 1000,
        "seconds": round(seconds, 3),
        "events_per_second": round(count / seconds),
        "calls_per_second": round(calls / seconds),
        "cpu_ms_per_event": {name: round(used / count * 1000, 2) for name, used in cpu.items()},
        "calls_per_account": round(calls / (count * apps), 3),
        "messages_per_event": round(messages / count, 1),
        "floor_events_per_second": round(count / floor),
        "ratio_to_floor": round(floor / seconds, 3),
        **cost,
    }


async def _auditing_costs(where: _Where, count: int, progress: Progress, first: float) -> dict[str, Any]:
    """What auditing takes, in four runs: with it, twice without it, with it. A machine that gets faster or slower
    meanwhile does so for both. `first` are the seconds that the first one took."""
    seconds = {True: [first], False: []}
    for audited in (False, False, True):
        seconds[audited].append(await _once(where, count, progress, audited=audited))
    with_it, without = (2 * count / sum(seconds[audited]) for audited in (True, False))
    return {
        "events_per_second_with_auditing": round(with_it),
        "events_per_second_without_auditing": round(without),
        "auditing_costs": round(1 - with_it / without, 3),
    }


async def _once(where: _Where, count: int, progress: Progress, *, audited: bool) -> float:
    """The seconds of one more run: `audited` like the first, or with nothing recorded and nobody there to record it."""
    crew = {name: number for name, number in CREW.items() if audited or name != "auditor"}
    phase, module = ("auditing", ROLES) if audited else ("without auditing", UNAUDITED)
    async with where.opened() as (_, place):
        with nullcontext() if audited else unaudited():
            async with all_roles(place, crew, module=module):
                await settle(place, WARM_UP, 0, progress, "warming up")
                began = time.perf_counter()
                await settle(place, count, WARM_UP, progress, phase)
                return time.perf_counter() - began


@asynccontextmanager
async def all_roles(place: Place, crew: Mapping[str, int], module: str = ROLES) -> AsyncIterator[list[RoleProcess]]:
    """Every role on a place: processes on a real broker, this process on the embedded one."""
    if place.embedded is None:
        async with role_processes(place, crew, module) as processes:
            yield processes
        return
    async with open_runtime(place.config, broker=place.embedded) as runtime:
        made = [role(name)(runtime) for name in role_names() if name in crew]
        async with running(runtime, made):
            yield []


def cpu_seconds(processes: Sequence[RoleProcess]) -> dict[str, float]:
    """By role, what all its processes have computed; all of them are this one on the embedded broker."""
    if not processes:
        return {"all roles": time.process_time()}
    found: dict[str, float] = defaultdict(float)
    for one in processes:
        found[one.role] += one.cpu_seconds
    return dict(found)


async def settle(place: Place, count: int, first: int, progress: Progress, phase: str) -> None:
    """Hire `count` people from number `first` on, all at once, and return when every account is what it should be."""
    database = Database(place.config.store.url, pool_size=1)
    settling = SqlSettling(database)
    try:
        await publish(place.bootstrap, [joiner(number) for number in range(first, first + count)])
        while True:
            left = await settling.left(now=SystemClock().now(), events=first + count)
            if left <= await settling.waiting(RECHECK):  # a second look in a minute and a half keeps nobody out
                break
            progress(phase, max(count - left, 0), count)
            await asyncio.sleep(POLL_SECONDS)
        progress(phase, count, count)
    finally:
        await database.close()


async def _messages(place: Place) -> int:
    """How many messages lie on the topics of the pipeline."""
    names = [topic.name for topic in topics(tuple(place.apps))]
    consumer = AIOKafkaConsumer(*names, bootstrap_servers=place.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return int(sum((await consumer.end_offsets(sorted(consumer.assignment()))).values()))
    finally:
        await consumer.stop()


# --- the floor --------------------------------------------------------------------------------------------------------


async def _floor(
    place: Place,
    applications: Applications,
    calls: int,
    messages: int,
    processes: int,
    concurrency: int,
    progress: Progress,
) -> float:
    """The seconds that the bare clients need, calls and messages side by side."""
    progress("floor", 0, calls)
    urls = [applications.base_url(app) for app in place.apps]
    async with _bare_kafka(place) as through, _callers(urls, calls // processes, processes, concurrency) as callers:
        await through(1)  # new topics need a moment, and so do connections
        began = time.perf_counter()
        await asyncio.gather(*(_told_to_go(one) for one in callers), through(messages))
        seconds = time.perf_counter() - began
    progress("floor", calls, calls)
    return seconds


@asynccontextmanager
async def _callers(
    urls: list[str], calls: int, processes: int, concurrency: int
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Processes that wait for a line before they call."""
    started: list[asyncio.subprocess.Process] = []
    try:
        for number in range(processes):
            arguments = ["--calls", str(calls), "--first", str(number * calls), "--concurrency", str(concurrency)]
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "orchestrator.bench.bare", *arguments, *urls),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment(),
            )
            started.append(process)
        for process in started:
            assert process.stdout is not None
            await process.stdout.readline()
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _told_to_go(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    if await process.wait():
        raise UserError("a process of the floor failed; what it said stands above")


@asynccontextmanager
async def _bare_kafka(place: Place) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """What sends and reads so many messages, spread over the topics as the pipeline spreads them."""
    names = [HR_EVENTS, AUDIT_ENTRIES, *(lane_topic(app, "provision") for app in place.apps)]
    consumer = AIOKafkaConsumer(*names, bootstrap_servers=place.bootstrap, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=place.bootstrap, enable_idempotence=True, acks="all")

    async def read(left: int) -> None:
        while left > 0:
            left -= sum(len(found) for found in (await consumer.getmany(timeout_ms=200, max_records=500)).values())

    async def send(share: int) -> None:
        body = b"x" * MESSAGE_BYTES
        for number in range(share):
            for name in names:
                await producer.send(name, body, key=b"W%07d" % number)
        await producer.flush()

    async def through(messages: int) -> None:
        share = max(messages // len(names), 1)
        await asyncio.gather(read(share * len(names)), send(share))

    await consumer.start()
    await producer.start()
    try:
        yield through
    finally:
        await producer.stop()
        await consumer.stop()
