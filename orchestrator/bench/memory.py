"""`jml bench memory`: does a role's memory grow with the number of people it has seen?

A resolver of its own process reads hires, first a few, then many; resident memory is read from the system after each.
"""

import asyncio
import gc
from typing import Any

import psutil

from orchestrator.adapters.sql.settling import SqlSettling
from orchestrator.bench.people import joiner
from orchestrator.bench.place import application_policy, open_place
from orchestrator.bench.resolving import EMBEDDED_EVENTS, Progress, publish
from orchestrator.bootstrap import open_runtime, running
from orchestrator.config import EMBEDDED
from orchestrator.roles import role

SLICE = 2000


async def bench_memory(kafka: str, store: str, *, people: int, progress: Progress) -> dict[str, Any]:
    """Measure the resolver at 1,000 people and at `people`."""
    sizes = sorted({1000, people})
    resident: dict[str, float] = {}
    async with (
        open_place(kafka, store, {"app": application_policy()}) as place,
        open_runtime(place.config, broker=place.embedded) as runtime,
    ):
        settling = SqlSettling(runtime.database)
        done = 0
        step = min(SLICE, EMBEDDED_EVENTS) if kafka == EMBEDDED else SLICE
        async with running(runtime, [role("resolver")(runtime)]):
            for size in sizes:
                while done < size:
                    await publish(place.bootstrap, [joiner(number) for number in range(done, min(done + step, size))])
                    done = min(done + step, size)
                    while await settling.settled() < done:
                        await asyncio.sleep(0.02)
                    progress("people", done, sizes[-1])
                gc.collect()
                resident[str(size)] = round(psutil.Process().memory_info().rss / 1e6, 1)
    smallest, largest = resident[str(sizes[0])], resident[str(sizes[-1])]
    return {
        "bench": "memory",
        "broker": place.broker,
        "store": place.store,
        "people": people,
        "resident_megabytes": resident,
        "growth": round(largest / smallest, 3),
    }
