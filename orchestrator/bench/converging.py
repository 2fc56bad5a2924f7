"""`jml bench converge`: SCIM calls a second through the whole connector, beside the bare transport.

Accounts are made by the real resolver first and wait in the lane. Then the connector converges them: load, intent,
call, outcome, audit entries, offsets. The floor sends the same creates to the same server with httpx over the same
transport at the same concurrency, and nothing else.
"""

import asyncio
import time
from typing import Any

import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from orchestrator.adapters.sql.settling import SqlSettling
from orchestrator.bench.people import joiner
from orchestrator.bench.place import application_policy, open_place
from orchestrator.bench.resolving import Progress, publish
from orchestrator.bootstrap import open_runtime, running
from orchestrator.config import EMBEDDED
from orchestrator.demo.servers.serve import ServerProcess
from orchestrator.domain.scim_diff import create_body
from orchestrator.roles import role

EMBEDDED_ACCOUNTS = 4000
"""What the embedded broker holds of one lane without dropping the oldest."""


async def bench_converge(
    kafka: str, store: str, *, count: int, concurrency: int, latency: float, progress: Progress, bulk: bool = False
) -> dict[str, Any]:
    """Measure; the result names broker, store and sizes."""
    if kafka == EMBEDDED:
        count = min(count, EMBEDDED_ACCOUNTS)
    async with ServerProcess("plain", latency=latency) as server:
        progress("floor", 0, count)
        floor_seconds = await _floor(server.base_url, count, concurrency)
    async with ServerProcess("plain", latency=latency) as server:
        policy = application_policy(server.base_url, groups="[]", concurrency=concurrency, bulk=bulk)
        async with open_place(kafka, store, {"app": policy}) as place:
            await publish(place.bootstrap, [joiner(number) for number in range(count)])
            async with open_runtime(place.config, broker=place.embedded) as runtime:
                settling = SqlSettling(runtime.database)
                async with running(runtime, [role("resolver")(runtime)]):
                    while (done := await settling.settled()) < count:
                        progress("preparing", done, count)
                        await asyncio.sleep(0.05)
                await runtime.published()
            async with open_runtime(place.config, broker=place.embedded) as runtime:
                settling = SqlSettling(runtime.database)
                connector = role("connector")(runtime)
                async with running(runtime, [connector]):
                    began = time.perf_counter()
                    while (left := await settling.undone()) > 0:
                        if left == count:
                            began = time.perf_counter()  # the group is still being joined
                        progress("converge", count - left, count)
                        await asyncio.sleep(0.02)
                    seconds = time.perf_counter() - began
        created = await _held(server.base_url)
    if created != count:
        raise AssertionError(f"the server holds {created} accounts, it should hold {count}")
    return {
        "bench": "converge",
        "broker": place.broker,
        "store": place.store,
        "accounts": count,
        "concurrency": concurrency,
        "latency_ms": latency * 1000,
        "bulk": bulk,
        "seconds": round(seconds, 3),
        "accounts_per_second" if bulk else "calls_per_second": round(count / seconds),  # one call each, but for Bulk
        "floor_calls_per_second": round(count / floor_seconds),
        "ratio_to_floor": round(floor_seconds / seconds, 3),
    }


async def _floor(base_url: str, count: int, concurrency: int) -> float:
    bodies = [
        orjson.dumps(create_body({**orjson.loads(joiner(number).value)["attributes"], "userName": f"floor{number}"}))
        for number in range(count)
    ]
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    headers = {"content-type": "application/scim+json"}
    async with httpx.AsyncClient(transport=AiohttpTransport(limits=limits), timeout=30, headers=headers) as client:

        async def send_some() -> None:
            while bodies:
                answer = await client.post(f"{base_url}/Users", content=bodies.pop())
                answer.raise_for_status()

        began = time.perf_counter()
        await asyncio.gather(*(send_some() for _ in range(concurrency)))
        return time.perf_counter() - began


async def _held(base_url: str) -> int:
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.get(f"{base_url}/Users", params={"count": "1"})
        return int(answer.json()["totalResults"])
