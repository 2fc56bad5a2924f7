"""`jml bench timers`: many timers stored, some of them due at the same instant, through the scheduler's real sweep.

An idle sweep is measured with a thousand timers and with all of them: it reads an index, so it has to cost the same.
The floor selects as many due rows, marks them and inserts one row of the outbox for each batch with the bare driver's
statements, and produces as many messages of the same size with the bare client. It decides, audits and numbers nothing.
"""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from statistics import median
from typing import Any

import asyncpg
import psutil
import sqlalchemy as sa
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.tables import Instant, outbox, timer
from orchestrator.bench.place import Place, application_policy, open_place
from orchestrator.bench.resolving import Progress
from orchestrator.bootstrap import Runtime, open_runtime
from orchestrator.flows.expire import SWEEP_LIMIT
from schemas.topics import LIFECYCLE_NOTICES, LIFECYCLE_TIMERS

FEW = 1000
IDLE_ROUNDS, IDLE_SWEEPS = 6, 10
SLICE = 50_000
_COLUMNS = ("person_id", "kind", "due", "event_id", "rule")
_INSERT = f"insert into timer ({', '.join(_COLUMNS)}) values (?, ?, ?, ?, ?)"  # noqa: S608 - our own names
_AUDIT_BYTES = 400
_EVENT_BYTES = 100


async def bench_timers(kafka: str, store: str, *, timers: int, due: int, progress: Progress) -> dict[str, Any]:
    """Measure with `timers` stored, of which `due` are due at one instant."""
    now = SystemClock().now()
    later = timers - due
    async with (
        open_place(kafka, store, {"app": application_policy()}) as place,
        open_runtime(place.config, broker=place.embedded) as runtime,
    ):
        few = min(FEW, later)
        await _load(runtime.database, _to_come(0, few, now))
        idle_few = await _idle(runtime)
        began = time.perf_counter()
        for start in range(few, later, SLICE):
            await _load(runtime.database, _to_come(start, min(start + SLICE, later), now))
            progress("load", min(start + SLICE, later), later)
        loaded = time.perf_counter() - began
        await _settle_statistics(runtime.database)
        idle_many = await _idle(runtime)
        await _load(runtime.database, _due("due", due, now))
        fired = await _fire(runtime, due, progress)
        read = await _count(place)
        await _load(runtime.database, _due("floor", due, now))
        floor = await _floor(place, runtime.database, due)
    return {
        "bench": "timers",
        "broker": place.broker,
        "store": place.store,
        "timers": timers,
        "due": due,
        "read_back": read,
        **fired,
        "timers_per_second": round(due / fired["seconds"]),
        "floor_seconds": round(floor, 3),
        "ratio_to_floor": round(floor / fired["seconds"], 3),
        "idle_sweep_ms_few": round(idle_few * 1000, 3),
        "idle_sweep_ms_many": round(idle_many * 1000, 3),
        "idle_ratio": round(idle_many / idle_few, 3),
        "load_per_second": round((later - few) / loaded) if later > few else None,
    }


Row = tuple[str, str, datetime, str, str]


def _to_come(start: int, end: int, now: datetime) -> Iterator[Row]:
    """Ends over the years to come, five minutes apart, so that an index is filled from left to right and quickly."""
    for number in range(start, end):
        due = now + timedelta(days=1, minutes=5 * number)
        yield f"W{number:08}", "contract_end", due, f"hr/bench#{number}", "contract_end"


def _due(prefix: str, count: int, now: datetime) -> Iterator[Row]:
    """Ends that all came a minute ago."""
    at = now - timedelta(minutes=1)
    return (
        (f"{prefix}{number:08}", "contract_end", at, f"hr/bench#{number}", "contract_end") for number in range(count)
    )


async def _load(database: Database, rows: Iterator[Row]) -> None:
    """In bulk, past SQLAlchemy: COPY on PostgreSQL, one prepared statement on SQLite."""
    if not database.is_sqlite:
        url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = await asyncpg.connect(url)
        try:
            await connection.copy_records_to_table("timer", columns=_COLUMNS, records=rows)
        finally:
            await connection.close()
        return
    instant, dialect = Instant(), database.engine.dialect
    bound = [(one, kind, instant.process_bind_param(due, dialect), event, rule) for one, kind, due, event, rule in rows]
    async with database.write() as opened:
        driver = (await opened.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.executemany(_INSERT, bound)


async def _settle_statistics(database: Database) -> None:
    """What autovacuum does within minutes of such a load, so that both measurements find a planner that knows."""
    async with database.write() as connection:
        await connection.execute(sa.text("analyze timer" if not database.is_sqlite else "pragma optimize"))


async def _idle(runtime: Runtime) -> float:
    """Seconds of a sweep that finds nothing, the look at what is due next included.

    The median of some, and of that the least of several rounds: whatever else the machine does only adds to it.
    """
    expire, store = runtime.expire_flow()
    medians = []
    for _ in range(IDLE_ROUNDS):
        samples = []
        for _ in range(IDLE_SWEEPS):
            began = time.perf_counter()
            await expire.sweep()
            await store.next_due()
            samples.append(time.perf_counter() - began)
        medians.append(median(samples))
    return min(medians)


async def _fire(runtime: Runtime, due: int, progress: Progress) -> dict[str, Any]:
    """From the first look to the last confirmation of the broker."""
    expire, _ = runtime.expire_flow()
    process = psutil.Process()
    before, cpu = process.memory_info().rss, process.cpu_times()
    highest = before

    async def watch() -> None:
        nonlocal highest
        while True:
            highest = max(highest, process.memory_info().rss)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    fired = await expire.sweep()
    await runtime.published()
    seconds = time.perf_counter() - began
    watching.cancel()
    after = process.cpu_times()
    progress("fire", fired, due)
    return {
        "fired": fired,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(after.user + after.system - cpu.user - cpu.system, 3),
        "memory_growth_megabytes": round((highest - before) / 1e6, 1),
    }


async def _count(place: Place) -> int:
    """How many different events a stranger finds on the topic."""
    consumer = AIOKafkaConsumer(
        LIFECYCLE_TIMERS, bootstrap_servers=place.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    found: set[bytes] = set()
    async with consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(one) < end for one, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found.update(dict(record.headers)["ce_id"] for record in records)
    return len(found)


async def _floor(place: Place, database: Database, due: int) -> float:
    """Select, mark and insert in the same batches, then produce the same number of messages of the same sizes."""
    now = SystemClock().now()
    select = (
        sa.select(timer)
        .where(timer.c.fired_at.is_(None), timer.c.due <= now)
        .order_by(timer.c.due)
        .limit(SWEEP_LIMIT)
        .with_for_update(skip_locked=True)
    )
    mark = (
        sa.update(timer)
        .where(
            timer.c.person_id == sa.bindparam("b_person_id"),
            timer.c.kind == sa.bindparam("b_kind"),
            timer.c.due == sa.bindparam("b_due"),
        )
        .values(fired_at=now)
    )
    bodies = (b"x" * _EVENT_BYTES, b"x" * _AUDIT_BYTES)
    producer = AIOKafkaProducer(bootstrap_servers=place.bootstrap, enable_idempotence=True, linger_ms=5)
    async with producer:
        began, done = time.perf_counter(), 0
        while done < due:
            async with database.write() as connection:
                rows = (await connection.execute(select)).all()
                keys = [{"b_person_id": row.person_id, "b_kind": row.kind, "b_due": row.due} for row in rows]
                await connection.execute(mark, keys)
                packed = b"x" * (len(rows) * sum(map(len, bodies)))
                await connection.execute(sa.insert(outbox), {"messages": packed, "created_at": now})
            sent = [await producer.send(LIFECYCLE_NOTICES, body, key=b"x") for _ in rows for body in bodies]
            await asyncio.gather(*sent)
            done += len(rows)
        return time.perf_counter() - began
