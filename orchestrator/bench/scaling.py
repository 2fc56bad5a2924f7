"""`jml bench resolve --processes 2`: what a second resolver adds, each a process of its own on one consumer group."""

import asyncio
import time
from typing import Any

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.settling import SqlSettling
from orchestrator.bench.people import events
from orchestrator.bench.place import application_policy, open_place
from orchestrator.bench.processes import role_processes
from orchestrator.bench.resolving import Progress, publish
from orchestrator.config import EMBEDDED
from orchestrator.errors import UserError

WARM_UP = 400
"""Events of other people before the first that counts: by then every process has its partitions."""


async def bench_scaling(
    kafka: str, store: str, *, apps: int, count: int, processes: int, progress: Progress
) -> dict[str, Any]:
    """Events a second with one process and with so many. Raises UserError where only one process can be."""
    if kafka == EMBEDDED or not store.startswith("postgresql"):
        raise UserError("--processes needs a broker and a database that several processes can share: --kafka, --store")
    rates = {number: await _rate(kafka, store, apps, count, number, progress) for number in (1, processes)}
    return {
        "bench": "resolve",
        "broker": "kafka",
        "store": "postgresql",
        "applications": apps,
        "events": count,
        **{f"events_per_second_of_{number}": round(rate) for number, rate in rates.items()},
        "scaling": round(rates[processes] / rates[1], 2),
    }


async def _rate(kafka: str, store: str, apps: int, count: int, processes: int, progress: Progress) -> float:
    """From the first event published to the last one committed, publishing included."""
    policies = {f"app{number}": application_policy() for number in range(apps)}
    async with open_place(kafka, store, policies) as place, role_processes(place, {"resolver": processes}):
        database = Database(place.config.store.url, pool_size=1)
        settling = SqlSettling(database)

        async def settle(messages: int, first: int, before: int) -> None:
            await publish(place.bootstrap, list(events(messages, first)))
            while (done := await settling.settled() - before) < messages:
                progress(f"{processes} resolvers", done, messages)
                await asyncio.sleep(0.02)

        try:
            await settle(WARM_UP, count, 0)
            began = time.perf_counter()
            await settle(count, 0, WARM_UP)
            return count / (time.perf_counter() - began)
        finally:
            await database.close()
