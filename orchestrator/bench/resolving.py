"""`jml bench resolve`: events a second through the resolver's real transaction, beside the floor.

The floor reads the same records with aiokafka's `getmany`, decodes their JSON and writes the same rows with one bulk
insert per table and batch of 200: inbox, person, accounts, timers, and a row of the outbox for each message. It decides
nothing, publishes nothing and commits no offsets. The resolver packs the messages of a batch into one row of the
outbox; `ratio_to_packed_floor` compares with a floor that does the same and is the harder one.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson
import sqlalchemy as sa
from aiokafka import AIOKafkaConsumer

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka.consuming import Records
from orchestrator.adapters.kafka.publishing import KafkaPublisher
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.settling import SqlSettling
from orchestrator.adapters.sql.tables import account, inbox, outbox, person, timer
from orchestrator.bench.people import events
from orchestrator.bench.place import Place, application_policy, open_place
from orchestrator.bootstrap import open_runtime, running
from orchestrator.config import EMBEDDED
from orchestrator.roles import role
from schemas.envelope import Message
from schemas.topics import HR_EVENTS

Progress = Callable[[str, int, int], None]

EMBEDDED_EVENTS = 6000
"""What the embedded broker holds of one topic without dropping the oldest."""
FLOOR_BATCH = 200


async def bench_resolve(kafka: str, store: str, *, apps: int, count: int, progress: Progress) -> dict[str, Any]:
    """Measure; the result names broker, store and sizes."""
    if kafka == EMBEDDED:
        count = min(count, EMBEDDED_EVENTS)
    policies = {f"app{number}": application_policy() for number in range(apps)}
    async with open_place(kafka, store, policies) as place:
        await publish(place.bootstrap, list(events(count)))
        progress("floor", 0, count)
        floor_seconds = await _floor(place, count, apps, packed=False)
    async with open_place(kafka, store, policies) as place:
        await publish(place.bootstrap, list(events(count)))
        progress("packed floor", 0, count)
        packed_seconds = await _floor(place, count, apps, packed=True)
    async with open_place(kafka, store, policies) as place:
        await publish(place.bootstrap, list(events(count)))
        seconds = await _resolve(place, count, progress)
    return {
        "bench": "resolve",
        "broker": place.broker,
        "store": place.store,
        "applications": apps,
        "events": count,
        "seconds": round(seconds, 3),
        "events_per_second": round(count / seconds),
        "floor_events_per_second": round(count / floor_seconds),
        "ratio_to_floor": round(floor_seconds / seconds, 3),
        "ratio_to_packed_floor": round(packed_seconds / seconds, 3),
    }


async def publish(bootstrap: str, messages: list[Message]) -> None:
    """Put the events on their topic before anything is measured."""
    publisher = KafkaPublisher(bootstrap)
    for start in range(0, len(messages), 2000):
        await publisher.publish(messages[start : start + 2000])
    await publisher.close()


async def _resolve(place: Place, count: int, progress: Progress) -> float:
    """From the first batch to the last commit, the commands and audit entries published on the way."""
    began: list[float] = []
    async with open_runtime(place.config, broker=place.embedded) as runtime:
        settling = SqlSettling(runtime.database)
        subscribe = runtime.consumers.subscribe

        def watched(topics: Any, group: str, handle: Any, **settings: Any) -> Any:
            async def first(records: Records) -> None:
                began.append(time.perf_counter())
                await handle(records)

            return subscribe(topics, group, first, **settings)

        runtime.consumers.subscribe = watched  # type: ignore[method-assign]
        async with running(runtime, [role("resolver")(runtime)]):
            while (done := await settling.settled()) < count:
                progress("resolve", done, count)
                await asyncio.sleep(0.05)
            await runtime.published()
            return time.perf_counter() - began[0]


async def _floor(place: Place, count: int, apps: int, *, packed: bool) -> float:
    database = Database(place.config.store.url)
    consumer = AIOKafkaConsumer(HR_EVENTS, bootstrap_servers=place.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    done = 0
    began = 0.0
    insert_person = database.insert(person)
    upsert = insert_person.on_conflict_do_update(
        index_elements=["id"],
        set_={"record": insert_person.excluded.record, "updated_at": insert_person.excluded.updated_at},
    )
    insert_account = database.insert(account)
    upsert_account = insert_account.on_conflict_do_update(
        index_elements=["person_id", "app"],
        set_={"desired": insert_account.excluded.desired, "revision": insert_account.excluded.revision},
    )
    insert_timer = database.insert(timer).on_conflict_do_nothing()
    try:
        while done < count:
            fetched = await consumer.getmany(timeout_ms=200, max_records=FLOOR_BATCH)
            records = [record for records in fetched.values() for record in records]
            if not records:
                continue
            began = began or time.perf_counter()
            rows = _rows([orjson.loads(record.value) for record in records], done, apps, packed)
            async with database.write() as connection:
                await connection.execute(sa.insert(inbox), rows["inbox"])
                await connection.execute(upsert, rows["person"])
                await connection.execute(upsert_account, rows["account"])
                if rows["timer"]:
                    await connection.execute(insert_timer, rows["timer"])
                await connection.execute(sa.insert(outbox), rows["outbox"])
            done += len(records)
        return time.perf_counter() - began
    finally:
        await consumer.stop()
        await database.close()


def _rows(bodies: list[dict[str, Any]], done: int, apps: int, packed: bool) -> dict[str, list[dict[str, Any]]]:
    """The rows that the resolver writes for these events, of the same sizes, without having decided anything."""
    now = SystemClock().now()
    people = {body["worker_id"]: body for body in bodies}
    record = "x" * 700
    desired = "x" * 420
    messages = len(bodies) * (2 + 2 * apps)  # received, resolved; for each account its command and the entry for it
    return {
        "inbox": [
            {"key": f"hr/bench#{done + n}", "outcome": "resolved", "received_at": now} for n in range(len(bodies))
        ],
        "person": [
            {
                "id": worker,
                "record": record,
                "status": "active",
                "manager_id": None,
                "email": f"{worker}@example.com",
                "updated_at": now,
            }
            for worker in sorted(people)
        ],
        "account": [
            {
                "person_id": worker,
                "app": f"app{number}",
                "revision": 1,
                "state": "active",
                "desired": desired,
                "since": now,
                "event_id": "hr/bench#1",
                "correlation_id": worker,
                "policy": "0123456789abcdef",
                "attention_at": now,
            }
            for worker in sorted(people)
            for number in range(apps)
        ],
        "timer": [
            {"person_id": worker, "kind": "contract_end", "due": now, "event_id": "hr/bench#1", "rule": "contract_end"}
            for worker, body in sorted(people.items())
            if body.get("contract_end")
        ],
        "outbox": [{"messages": b"x" * (700 * messages), "created_at": now}]
        if packed
        else [{"messages": b"x" * 700, "created_at": now}] * messages,
    }
