"""What every play needs: a place, the applications and the roles as processes, and the evidence at the end."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
from aiokafka import AIOKafkaConsumer

from orchestrator.adapters.audit_log import read_entries
from orchestrator.adapters.audit_log.keys import write_key
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka.publishing import KafkaPublisher
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.settling import SqlSettling
from orchestrator.bench.place import Place, open_place
from orchestrator.bench.processes import free_port, toml
from orchestrator.chaos.evidence import DEPARTMENT, Blow, Evidence, deeds, lines, set_right, with_people
from orchestrator.chaos.faults import HANG_SECONDS, Habit
from orchestrator.chaos.fleet import CREW, TIMEOUT_SECONDS, Application, Ground, Worker, policy
from orchestrator.chaos.plan import SOURCE, Told
from orchestrator.chaos.quiet import Quiet
from orchestrator.domain.signed_note import generate_key
from orchestrator.errors import BrokerUnavailable, UserError
from schemas.envelope import Message
from schemas.topics import QUARANTINE

SESSION_SECONDS = 3.0
REBALANCE_SECONDS = 30.0
"""Longer than a connector drains."""
READY_SECONDS = 180.0
PUBLISH_AGAIN_SECONDS = 0.5

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is on the stage. `habit` is the applications'; None: every fault at its usual rate."""

    kafka: str
    store: str
    seed: int = 1
    apps: int = 8
    rechecks: bool = True
    crew: Mapping[str, int] = field(default_factory=lambda: dict(CREW))
    unique: bool | None = None
    """Whether applications refuse a second account of the same name; None: every second one does not."""
    habit: Habit | None = None
    mutant: str | None = None
    session: float = SESSION_SECONDS
    """How long Kafka waits for a member that says nothing."""
    timeout: float = TIMEOUT_SECONDS
    """How long a connector waits for an application."""


@asynccontextmanager
async def open_stage(setting: Setting, folder: Path) -> AsyncIterator["Stage"]:
    """Everybody is started; nobody is left behind, whatever happens. `folder` keeps all evidence.

    Raises UserError where it would touch what is not its own.
    """
    if setting.kafka == "embedded" or setting.store == "sqlite":
        raise UserError("a chaos run needs a real broker and PostgreSQL: many processes share them")
    departments = {f"app{number}": DEPARTMENT if number % 3 == 2 else None for number in range(setting.apps)}
    tokens = f"canarytoken{setting.seed}{random.Random(setting.seed).getrandbits(48):x}"
    applications = [
        Application(
            name,
            folder,
            folder / "faults.on",
            tokens,
            seed=f"{setting.seed}/{name}",
            unique=number % 2 == 0 if setting.unique is None else setting.unique,
            habit=setting.habit,
        )
        for number, name in enumerate(departments)
    ]
    policies = {one.name: policy(one.base_url, departments[one.name], setting.timeout) for one in applications}
    async with open_place(setting.kafka, setting.store, policies) as place:
        _write_config(place, folder, policies, setting.session)
        bases = {one.name: one.base_url for one in applications}
        ground = Ground(folder, tokens, place.config.store.url, SystemClock(), setting.mutant, bases)
        chance = random.Random()
        workers = [
            Worker(role, number, ground, free_port(chance))
            for role, count in setting.crew.items()
            for number in range(1, count + 1)
        ]
        try:
            for application in applications:
                await application.start()
            for worker in workers:
                await worker.open()
                await worker.start()
            yield Stage(setting, folder, place, workers, departments, tokens)
        finally:
            for worker in workers:
                worker.close()
            await asyncio.gather(*(worker.kill() for worker in workers if worker.running))
            await asyncio.gather(*(application.stop() for application in applications))


def _write_config(place: Place, folder: Path, policies: dict[str, Any], session: float) -> None:
    tables = {
        "kafka": {
            "bootstrap": place.bootstrap,
            "partitions": place.config.kafka.partitions,
            "session_timeout_seconds": session,
            "rebalance_timeout_seconds": REBALANCE_SECONDS,
        },
        "audit": {"dir": "audit", "key_file": "audit.key"},
        "breaker": {"enabled": False},  # the plan ends most of its people within minutes, and means it
        "apps": policies,
    }
    (folder / "jml.toml").write_text(toml(tables))
    write_key(generate_key("chaos/audit"), folder / "audit.key")


class Stage:
    """The play once everybody was started."""

    def __init__(
        self,
        setting: Setting,
        folder: Path,
        place: Place,
        workers: list[Worker],
        departments: dict[str, str | None],
        tokens: str,
    ) -> None:
        self.workers = workers
        self.clock = SystemClock()
        self.canary = f"Canary{setting.seed}Person"
        self.exits: list[str] = []
        self.spoiled = 0
        self._setting, self._folder, self._place = setting, folder, place
        self._departments, self._tokens = departments, tokens
        self._control = folder / "faults.on"
        self._told: list[Told] = []

    def crew(self, role: str) -> list[Worker]:
        """All processes of a role."""
        return [one for one in self.workers if one.role == role]

    async def until_decided(self, events: int) -> None:
        """Wait until so many events have been taken in and committed."""
        database = Database(self._place.config.store.url, pool_size=1)
        try:
            while await SqlSettling(database).settled() < events:
                await asyncio.sleep(0.05)
        finally:
            await database.close()

    async def until_intended(self, accounts: int) -> None:
        """Wait until so many accounts are being changed."""
        database = Database(self._place.config.store.url, pool_size=1)
        try:
            while await SqlSettling(database).intended() < accounts:
                await asyncio.sleep(0.05)
        finally:
            await database.close()

    async def until_called(self, calls: int) -> None:
        """Wait until applications have answered so many calls."""
        while sum(len(lines(self._folder / f"{app}.deeds.jsonl")) for app in self._departments) < calls:
            await asyncio.sleep(0.05)

    def faults(self, *, on: bool) -> None:
        """Let the applications misbehave, or not."""
        if on:
            self._control.touch()
        else:
            self._control.unlink(missing_ok=True)

    async def until_ready(self, progress: Progress, *, again: bool = False) -> None:
        """Everybody works: what a run does to a start-up is seen at every restart.

        `again`: after an outage, whoever could not begin is started once more, as a supervisor does.
        """
        async with httpx.AsyncClient(timeout=5) as client:
            for number, worker in enumerate(self.workers):
                progress("starting", number, len(self.workers))
                await self._until_ready(worker, client, again=again)
        progress("starting", len(self.workers), len(self.workers))

    async def _until_ready(self, worker: Worker, client: httpx.AsyncClient, *, again: bool) -> None:
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if not worker.running:
                if not again:
                    raise UserError(f"{worker.name} ended at its start: {worker.log.read_text()[-600:]}")
                if worker.came_up:
                    self.exits.append(f"{worker.caller} ended by itself; see {worker.log.name}")
                await worker.start()
            try:
                if (await client.get(f"http://127.0.0.1:{worker.port}/health/live")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)
        raise UserError(f"{worker.name} does not answer: {worker.log.read_text()[-600:]}")

    async def publish(
        self,
        told: Sequence[Told],
        progress: Progress,
        *,
        spoiled: Sequence[tuple[float, Message]] = (),
        phase: str = "publishing",
    ) -> None:
        """Send events and records at their offsets from now. The list of events is evidence: it is written before."""
        self._told += told
        self.spoiled += len(spoiled)
        rows = [{name: getattr(one, name) for name in Told.__dataclass_fields__} for one in self._told]
        (self._folder / "events.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        queue = sorted([*((one.offset, one.message()) for one in told), *spoiled], key=lambda one: one[0])
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        publisher = KafkaPublisher(self._place.bootstrap)
        try:
            while sent < len(queue):
                await asyncio.sleep(max(0.0, began + queue[sent][0] - loop.time()))
                due = [message for offset, message in queue[sent:] if began + offset <= loop.time()]
                try:
                    await publisher.publish(due)
                except BrokerUnavailable:  # some may have arrived; who sends events sends them again
                    await asyncio.sleep(PUBLISH_AGAIN_SECONDS)
                    continue
                sent += len(due)
                progress(phase, sent, len(queue))
        finally:
            await publisher.close()

    async def until_quiet(self, seconds: float, progress: Progress) -> bool:
        """Wait until nothing is left to do; False when `seconds` were not enough."""
        database = Database(self._place.config.store.url, pool_size=1)
        quiet = Quiet(database, self._folder / "audit", self.clock, rechecks=self._setting.rechecks)
        most = 0

        def show(left: int) -> None:
            nonlocal most
            most = max(most, left, 1)
            progress("settling", most - left, most)

        try:
            return await quiet.wait(len({one.id for one in self._told}), seconds, show)
        finally:
            await database.close()

    async def end(self, blows: Sequence[Blow] = ()) -> Evidence:
        """Stop everybody and gather what was written."""
        logs = await self._metrics()
        await self._stop()
        logs["quarantine reasons"] = await self._reasons()
        folder = self._folder
        logs |= {worker.log.name: worker.log.read_bytes() for worker in self.workers}
        raw = [entry for _, entry in read_entries(folder / "audit")]
        logs["audit log"] = b"\n".join(raw)
        entries = with_people([orjson.loads(entry) for entry in raw], self._told, SOURCE)
        by_pid = {pid: worker.name for worker in self.workers for pid in worker.pids}
        set_right(entries, blows, by_pid)
        return Evidence(
            told=self._told,
            entries=entries,
            deeds={app: deeds(folder / f"{app}.deeds.jsonl") for app in self._departments},
            journals={app: lines(folder / f"{app}.journal.jsonl") for app in self._departments},
            departments=self._departments,
            judged_at=self.clock.now(),
            pauses=[pause for worker in self.workers for pause in worker.pauses],
            blows=list(blows),
            logs=logs,
            canaries=(self.canary, self._tokens),
            exits=tuple(self.exits),
            spoiled=self.spoiled,
            workers=by_pid,
        )

    async def _metrics(self) -> dict[str, bytes]:
        """What every role tells of itself, and whether it still runs."""
        found = {}
        async with httpx.AsyncClient(timeout=10) as client:
            for worker in self.workers:
                if not worker.running:
                    self.exits.append(f"{worker.name} ended by itself; see {worker.log.name}")
                    continue
                try:
                    answer = await client.get(f"http://127.0.0.1:{worker.port}/metrics")
                    found[f"{worker.name} metrics"] = answer.content
                except httpx.HTTPError as error:
                    self.exits.append(f"{worker.name} does not answer: {type(error).__name__}")
        return found

    async def _stop(self) -> None:
        """Those who write first, then the auditor who records it; applications answer what they hold back."""
        writers = [worker for worker in self.workers if worker.role not in ("relay", "auditor")]
        for crew in (writers, [worker for worker in self.workers if worker not in writers]):
            running = [worker for worker in crew if worker.running]
            codes = await asyncio.gather(*(worker.stop() for worker in running))
            self.exits += [
                f"{worker.name} ended with {code} when it was stopped"
                for worker, code in zip(running, codes, strict=True)
                if code
            ]
            await asyncio.sleep(HANG_SECONDS + 0.5)

    async def _reasons(self) -> bytes:
        """What the quarantine topic says of the records in it; the records themselves are theirs who sent them."""
        consumer = AIOKafkaConsumer(QUARANTINE, bootstrap_servers=self._place.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        reasons: list[bytes] = []
        try:
            ends = await consumer.end_offsets(sorted(consumer.assignment()))
            left = sum(ends.values()) - sum((await consumer.beginning_offsets(sorted(ends))).values())
            while left > 0:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    left -= len(records)
                    for record in records:
                        reasons += [value for name, value in record.headers if name.startswith("quarantine-")]
        finally:
            await consumer.stop()
        return b"\n".join(reasons)
