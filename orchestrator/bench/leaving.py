"""`jml bench leaver`: from the event to the verified deactivation, while joiners stand in line, beside the floor.

Leavers are hired first. Then the joiners are hired, and once all of them are decided and wait in the lanes, the leavers
leave, one after another. Each one's time runs from before the event is published to the read that showed the
application's account inactive, by the application's own witness. The floor is the same way with the bare clients and
nobody in line: an event through Kafka, a command through Kafka, the change, the read.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any

import httpx
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from httpx_aiohttp import AiohttpTransport

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka.publishing import KafkaPublisher
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.settling import SqlSettling
from orchestrator.bench.people import joiner, leaver
from orchestrator.bench.pipeline import CREW, all_roles, settle
from orchestrator.bench.place import Place, application_policy, open_place
from orchestrator.bench.quantiles import quantile
from orchestrator.bench.resolving import EMBEDDED_EVENTS, Progress, publish
from orchestrator.bench.server import Applications
from orchestrator.config import EMBEDDED
from orchestrator.domain.scim_diff import patch_body, set_active
from schemas.topics import HR_EVENTS, lane_topic

APP = "app0"
EVERY_SECONDS = 0.05
OUT_SECONDS = 120.0
FLOOR_LEAVERS = 50


async def bench_leaver(
    kafka: str, store: str, *, joiners: int, leavers: int, latency: float, concurrency: int, progress: Progress
) -> dict[str, Any]:
    """Measure; the result says how long the line was when the first and the last one left."""
    if kafka == EMBEDDED:
        joiners = min(joiners, EMBEDDED_EVENTS - leavers)
    clock = SystemClock()
    async with Applications(latency) as applications:
        policy = application_policy(applications.base_url(APP), groups="[]", concurrency=concurrency)
        async with open_place(kafka, store, {APP: policy}) as place, all_roles(place, CREW):
            await settle(place, leavers, 0, progress, "hiring leavers")
            database = Database(place.config.store.url, pool_size=1)
            settling = SqlSettling(database)
            publisher = KafkaPublisher(place.bootstrap)
            sent: dict[str, float] = {}
            try:
                await publish(place.bootstrap, [joiner(leavers + number) for number in range(joiners)])
                while (done := await settling.settled()) < leavers + joiners:
                    progress("joiners get in line", done, leavers + joiners)
                    await asyncio.sleep(0.05)
                at_first = await settling.undone()
                for number in range(leavers):
                    message = leaver(number)
                    sent[f"{APP}/{message.key.decode()}"] = clock.now().timestamp()
                    await publisher.publish([message])
                    progress("leaving", number + 1, leavers)
                    await asyncio.sleep(EVERY_SECONDS)
                at_last = await settling.undone()
                out = await _until_out(applications, len(sent))
            finally:
                await publisher.close()
                await database.close()
        took = sorted(out[place] - at for place, at in sent.items())
    async with (
        Applications(latency) as applications,
        open_place(kafka, store, {APP: application_policy(applications.base_url(APP))}) as place,
    ):
        floor = sorted(await _floor(place, applications.base_url(APP), progress))
    return {
        "bench": "leaver",
        "broker": place.broker,
        "store": place.store,
        "leavers": leavers,
        "in_line_at_first": at_first,
        "in_line_at_last": at_last,
        "latency_ms": latency * 1000,
        **{f"p{share}_ms": _milliseconds(took, share) for share in (50, 95, 99)},
        "max_ms": _milliseconds(took, 100),
        "floor_p50_ms": _milliseconds(floor, 50),
        "floor_p99_ms": _milliseconds(floor, 99),
        "ratio_to_floor": round(quantile(floor, 0.5) / quantile(took, 0.5), 3),
    }


async def _until_out(applications: Applications, leavers: int) -> dict[str, float]:
    """When each of them was out."""
    deadline = time.monotonic() + OUT_SECONDS
    while len(out := (await applications.stats())["out"]) < leavers:
        if time.monotonic() > deadline:
            raise AssertionError(f"only {len(out)} of {leavers} leavers are out")
        await asyncio.sleep(0.5)
    found: dict[str, float] = out
    return found


async def _floor(place: Place, base_url: str, progress: Progress) -> list[float]:
    """Two hops over Kafka, a change and a read, for one leaver after another."""
    hops = (HR_EVENTS, lane_topic(APP, "deprovision"))
    producer = AIOKafkaProducer(bootstrap_servers=place.bootstrap, enable_idempotence=True, acks="all")
    consumers = [AIOKafkaConsumer(topic, bootstrap_servers=place.bootstrap) for topic in hops]
    for client in (producer, *consumers):
        await client.start()
    for consumer in consumers:
        await consumer.seek_to_end()
        for partition in consumer.assignment():
            await consumer.position(partition)
    took = []
    try:
        async with httpx.AsyncClient(transport=AiohttpTransport(), timeout=30) as http:
            body = {"userName": "floor", "externalId": "floor", "active": True}
            user = (await http.post(f"{base_url}/Users", json=body)).json()["id"]
            change = orjson.dumps(patch_body([set_active(False)]))
            for number in range(FLOOR_LEAVERS):
                progress("floor", number + 1, FLOOR_LEAVERS)
                began = time.perf_counter()
                for topic, consumer in zip(hops, consumers, strict=True):
                    await producer.send_and_wait(topic, b"x" * 700, key=b"W%d" % number)
                    await consumer.getone()
                await http.patch(f"{base_url}/Users/{user}", content=change)
                await http.get(f"{base_url}/Users/{user}")
                took.append(time.perf_counter() - began)
    finally:
        for client in (producer, *consumers):
            with suppress(asyncio.CancelledError):  # of a task of aiokafka's own
                await client.stop()
    return took


def _milliseconds(ordered: list[float], share: int) -> float:
    return round(quantile(ordered, share / 100) * 1000, 1)
