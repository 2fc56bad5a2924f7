"""`jml bench converge --limit`: what a lane makes of a limit, and what groups and coalescing cost, by the application's
own journal.

Three parts on one place. A lane full of joiners under a limit of R calls a second, with one leaver in the middle of it.
Then everybody into ten groups without a limit. Then ten changes of each person while no connector runs.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sql.settling import SqlSettling
from orchestrator.bench.people import joiner
from orchestrator.bench.place import Place, application_policy, open_place
from orchestrator.bench.resolving import Progress, publish
from orchestrator.bootstrap import open_runtime, running
from orchestrator.config import EMBEDDED
from orchestrator.demo.servers.serve import ServerProcess
from orchestrator.roles import role
from schemas.envelope import Envelope, Message, timestamp
from schemas.topics import HR_EVENTS

EMBEDDED_PEOPLE = 2000
"""What the embedded broker holds of one lane beside the audit entries."""
GROUPS = 10
CHANGES = 10
LEAVER = 0
"""The number of the person who leaves."""

Call = Mapping[str, Any]


async def bench_limited(
    kafka: str,
    store: str,
    *,
    count: int,
    limit: float,
    concurrency: int,
    latency: float,
    progress: Progress,
    bulk: bool = False,
) -> dict[str, Any]:
    """Measure; the result names broker, store and sizes."""
    if kafka == EMBEDDED:
        count = min(count, EMBEDDED_PEOPLE)
    with tempfile.TemporaryDirectory(prefix="jml-bench-") as folder:
        limited = await _lane(kafka, store, Path(folder), count, limit, concurrency, latency, progress, bulk)
        merged = await _calls(kafka, store, Path(folder), count, concurrency, latency, progress)
    return {
        "bench": "converge",
        **limited.pop("place"),
        "people": count,
        "limit_per_second": limit,
        "concurrency": concurrency,
        "latency_ms": latency * 1000,
        "bulk": bulk,
        **limited,
        **merged,
    }


async def _lane(
    kafka: str,
    store: str,
    folder: Path,
    count: int,
    limit: float,
    concurrency: int,
    latency: float,
    progress: Progress,
    bulk: bool,
) -> dict[str, Any]:
    journal = folder / "limited.jsonl"
    async with ServerProcess("plain", latency=latency, journal=journal) as server:
        policy = application_policy(
            server.base_url, groups="[]", concurrency=concurrency, budget={"calls_per_second": limit}, bulk=bulk
        )
        async with open_place(kafka, store, {"app": policy}) as place:
            await publish(place.bootstrap, [joiner(LEAVER)])
            await _run(place, "resolver", "connector", settled=1)
            await publish(place.bootstrap, [joiner(number) for number in range(1, count)])
            await _run(place, "resolver", settled=count, progress=progress)
            left_at: datetime | None = None
            async with _running(place, "resolver", "connector") as settling:
                while (left := await settling.undone()) > 0 or await settling.settled() <= count:
                    progress("under the limit", count - left, count)
                    if left_at is None and left < count - max(count // 4, 1):
                        left_at = SystemClock().now()
                        await publish(place.bootstrap, [_event("left", LEAVER, left_at, ends_at=timestamp(left_at))])
                    await asyncio.sleep(0.02)
    calls = _read(journal)
    out = [
        _at(call, "answered_at") for call in calls if call["method"] == "PATCH" and b'"active"' in orjson.dumps(call)
    ]
    creates = sorted(_at(call, "received_at") for call in calls if call["method"] == "POST")[1:]
    every = sorted(_at(call, "received_at") for call in calls)
    window = max(1.0, 1 / limit)
    seconds = creates[-1] - creates[0]
    within = sum(creates[0] <= moment <= creates[-1] for moment in every)
    return {
        "place": {"broker": place.broker, "store": place.store},
        "joiners_per_second": round((count - 1) / seconds, 1) if seconds else None,
        "used_of_limit": round(within / seconds / limit, 3),
        "most_in_a_window": most_in_a_window(every, window),
        "limit_of_a_window": round(limit * window),
        "leaver_seconds": round(min(out) - left_at.timestamp(), 3) if out and left_at else None,
    }


async def _calls(
    kafka: str, store: str, folder: Path, count: int, concurrency: int, latency: float, progress: Progress
) -> dict[str, Any]:
    """What groups and changes cost, in calls; nothing here is about time."""
    journal = folder / "calls.jsonl"
    async with ServerProcess("plain", latency=latency, journal=journal) as server:
        policy = application_policy(server.base_url, groups='["ward " + person.cost_center]', concurrency=concurrency)
        async with open_place(kafka, store, {"app": policy}) as place:
            await publish(place.bootstrap, [_in_a_group(number) for number in range(count)])
            await _run(place, "resolver", settled=count, progress=progress)
            await _run(place, "connector", progress=progress)
            patches = [call for call in _read(journal) if call["method"] == "PATCH" and "/Groups" in call["path"]]
            changed = min(count, EMBEDDED_PEOPLE // CHANGES) if place.embedded else count
            moves = [
                _event(f"moved-{turn}", number, SystemClock().now(), attributes={"title": f"Title {turn}"})
                for turn in range(CHANGES)
                for number in range(changed)
            ]
            await publish(place.bootstrap, moves)
            await _run(place, "resolver", settled=count + len(moves), progress=progress)
            before = len(_read(journal))
            await _run(place, "connector", progress=progress)
            after = len(_read(journal)) - before
    return {
        "group_calls": len(patches),
        "group_calls_to_one_for_each": round(len(patches) / count, 4),
        "changes_of_a_person": CHANGES,
        "calls_for_them": round(after / changed, 3),
    }


@asynccontextmanager
async def _running(place: Place, *roles: str) -> AsyncIterator[SqlSettling]:
    async with open_runtime(place.config, broker=place.embedded) as runtime:
        async with running(runtime, [role(name)(runtime) for name in roles]):
            yield SqlSettling(runtime.database)
        await runtime.published()


async def _run(place: Place, *roles: str, settled: int = 0, progress: Progress | None = None) -> None:
    """Run these roles until so many events are resolved and, with a connector, every account is what it should be."""
    async with _running(place, *roles) as settling:
        while (done := await settling.settled()) < settled:
            if progress is not None:
                progress("preparing", done, settled)
            await asyncio.sleep(0.05)
        while "connector" in roles and (left := await settling.undone()) > 0:
            if progress is not None:
                progress("accounts left", 0, left)
            await asyncio.sleep(0.05)


def _in_a_group(number: int) -> Message:
    """A joiner in one of ten groups."""
    message = joiner(number)
    body = orjson.loads(message.value)
    body["attributes"]["cost_center"] = f"C{number % GROUPS}"
    return message._replace(value=orjson.dumps(body))


def _event(what: str, number: int, at: datetime, **data: Any) -> Message:
    worker = f"W{number:07}"
    kind = "jml.worker.left.v1" if what == "left" else "jml.worker.moved.v1"
    envelope = Envelope(f"{worker}/{what}", "hr/bench", kind, at, subject=worker)
    body = orjson.dumps({"worker_id": worker, **data})
    return Message(HR_EVENTS, worker.encode(), body, envelope.headers())


def _read(journal: Path) -> list[Call]:
    return [json.loads(line) for line in journal.read_text().splitlines()]


def _at(call: Call, name: str) -> float:
    return datetime.fromisoformat(call[name]).timestamp()


def most_in_a_window(moments: Sequence[float], seconds: float) -> int:
    """The most of these moments, in order, in any half-open window of that length."""
    most = start = 0
    for end, moment in enumerate(moments):
        while moments[start] <= moment - seconds:
            start += 1
        most = max(most, end - start + 1)
    return most
