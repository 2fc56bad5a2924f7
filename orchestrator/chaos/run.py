"""One run: place, processes, load and blows, peace, quiet, verdict."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

from orchestrator.adapters.audit_log import read_entries
from orchestrator.adapters.audit_log.keys import write_key
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka.publishing import KafkaPublisher
from orchestrator.adapters.sql.engine import Database
from orchestrator.bench.place import Place, open_place
from orchestrator.chaos.evidence import DEPARTMENT, Evidence, deeds, lines, with_people
from orchestrator.chaos.faults import HANG_SECONDS
from orchestrator.chaos.fleet import CREW, Application, Worker, free_port, policy, toml
from orchestrator.chaos.judge import judge
from orchestrator.chaos.nemesis import Nemesis
from orchestrator.chaos.plan import SOURCE, Told, make_plan
from orchestrator.chaos.quiet import Quiet
from orchestrator.chaos.report import Outcome
from orchestrator.domain.signed_note import generate_key
from orchestrator.errors import UserError

SESSION_SECONDS = 3.0
REBALANCE_SECONDS = 20.0
SETTLE_SECONDS = 300.0
"""An intent that a killed process left open is looked at after 90 s, and once more 90 s later."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is given."""

    kafka: str
    store: str
    seed: int = 1
    people: int = 200
    seconds: float = 60.0
    apps: int = 4
    faults: bool = True
    rechecks: bool = True


async def run_chaos(settings: Settings, folder: Path, progress: Progress) -> Outcome:
    """Play it in `folder`, which keeps all evidence. Raises UserError where it would touch what is not its own."""
    if settings.kafka == "embedded" or settings.store == "sqlite":
        raise UserError("a chaos run needs a real broker and PostgreSQL: many processes share them")
    departments = {f"app{number}": DEPARTMENT if number % 3 == 2 else None for number in range(settings.apps)}
    tokens = f"canarytoken{settings.seed}{random.Random(settings.seed).getrandbits(48):x}"
    applications = [
        Application(name, folder, folder / "faults.on", tokens, seed=f"{settings.seed}/{name}", unique=number % 2 == 0)
        for number, name in enumerate(departments)
    ]
    policies = {one.name: policy(one.base_url, departments[one.name]) for one in applications}
    async with open_place(settings.kafka, settings.store, policies) as place:
        _write_config(place, folder, policies)
        async with _processes(applications, folder, tokens, place.config.store.url) as workers:
            return await _Run(settings, folder, place, workers, departments, tokens).play(progress)


def _write_config(place: Place, folder: Path, policies: dict[str, Any]) -> None:
    tables = {
        "kafka": {
            "bootstrap": place.bootstrap,
            "partitions": place.config.kafka.partitions,
            "session_timeout_seconds": SESSION_SECONDS,
            "rebalance_timeout_seconds": REBALANCE_SECONDS,
        },
        "audit": {"dir": "audit", "key_file": "audit.key"},
        "breaker": {"enabled": False},  # the plan ends most of its people within minutes, and means it
        "apps": policies,
    }
    (folder / "jml.toml").write_text(toml(tables))
    write_key(generate_key("chaos/audit"), folder / "audit.key")


@asynccontextmanager
async def _processes(
    applications: list[Application], folder: Path, tokens: str, store: str
) -> AsyncIterator[list[Worker]]:
    """All of them, started; none is left behind, whatever happens."""
    chance, clock = random.Random(), SystemClock()
    workers = [
        Worker(role, number, folder, tokens, store, free_port(chance), clock)
        for role, count in CREW.items()
        for number in range(1, count + 1)
    ]
    try:
        for application in applications:
            await application.start()
        for worker in workers:
            await worker.start()
        yield workers
    finally:
        for worker in workers:
            if worker.running:
                await worker.kill()
        for application in applications:
            await application.stop()


class _Run:
    """The play once everything is up."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        place: Place,
        workers: list[Worker],
        departments: dict[str, str | None],
        tokens: str,
    ) -> None:
        self._settings, self._folder, self._place = settings, folder, place
        self._workers, self._departments, self._tokens = workers, departments, tokens
        self._clock = SystemClock()
        self._control = folder / "faults.on"
        self._canary = f"Canary{settings.seed}Person"
        self._exits: list[str] = []

    async def play(self, progress: Progress) -> Outcome:
        settings = self._settings
        await self._until_ready(progress)
        started = self._clock.now()
        told = make_plan(settings.seed, settings.people, settings.seconds, started, self._canary)
        self._write_events(told)
        nemesis = Nemesis(self._workers, settings.seed, self._clock, session_timeout=SESSION_SECONDS)
        if settings.faults:
            self._control.touch()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish(told, progress))
            if settings.faults:
                tasks.create_task(nemesis.rage(settings.seconds))
        self._exits += nemesis.exits
        self._control.unlink(missing_ok=True)
        healed = self._clock.now()
        settled = await self._until_quiet(len({one.id for one in told}), progress)
        settle_seconds = (self._clock.now() - healed).total_seconds()
        logs = await self._metrics()
        await self._stop()
        evidence = self._evidence(told, logs)
        violations = judge(evidence)
        if not settled:
            violations.insert(0, f"quiet: not within {SETTLE_SECONDS:.0f} s after peace; what follows was judged early")
        return Outcome(
            settings.seed, evidence, nemesis.blows, violations, started.timestamp(), healed.timestamp(), settle_seconds
        )

    async def _until_ready(self, progress: Progress) -> None:
        """Kill nobody who is not up yet: what a run does to a start-up is seen at every restart."""
        async with httpx.AsyncClient(timeout=5) as client:
            for number, worker in enumerate(self._workers):
                progress("starting", number, len(self._workers))
                for _ in range(300):
                    if not worker.running:
                        raise UserError(f"{worker.name} ended at its start: {worker.log.read_text()[-600:]}")
                    try:
                        if (await client.get(f"http://127.0.0.1:{worker.port}/health/live")).status_code == 200:
                            break
                    except httpx.HTTPError:
                        pass
                    await asyncio.sleep(0.2)
        progress("starting", len(self._workers), len(self._workers))

    def _write_events(self, told: list[Told]) -> None:
        """The list of events is evidence: it is written before the first one is sent."""
        rows = [{name: getattr(one, name) for name in Told.__dataclass_fields__} for one in told]
        (self._folder / "events.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))

    async def _publish(self, told: list[Told], progress: Progress) -> None:
        publisher = KafkaPublisher(self._place.bootstrap)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            for number, one in enumerate(told):
                await asyncio.sleep(max(0.0, began + one.offset - loop.time()))
                await publisher.publish([one.message()])
                progress("publishing", number + 1, len(told))
        finally:
            await publisher.close()
        await asyncio.sleep(max(0.0, began + self._settings.seconds - loop.time()))

    async def _until_quiet(self, events: int, progress: Progress) -> bool:
        database = Database(self._place.config.store.url, pool_size=1)
        quiet = Quiet(database, self._folder / "audit", self._clock, rechecks=self._settings.rechecks)
        most = 0

        def show(left: int) -> None:
            nonlocal most
            most = max(most, left, 1)
            progress("settling", most - left, most)

        try:
            return await quiet.wait(events, SETTLE_SECONDS, show)
        finally:
            await database.close()

    async def _metrics(self) -> dict[str, bytes]:
        """What every role tells of itself, and whether it still runs."""
        found = {}
        async with httpx.AsyncClient(timeout=10) as client:
            for worker in self._workers:
                if not worker.running:
                    self._exits.append(f"{worker.name} ended by itself; see {worker.log.name}")
                    continue
                try:
                    answer = await client.get(f"http://127.0.0.1:{worker.port}/metrics")
                    found[f"{worker.name} metrics"] = answer.content
                except httpx.HTTPError as error:
                    self._exits.append(f"{worker.name} does not answer: {type(error).__name__}")
        return found

    async def _stop(self) -> None:
        """Those who write first, then the auditor who records it; applications answer what they hold back."""
        writers = [worker for worker in self._workers if worker.role not in ("relay", "auditor")]
        for crew in (writers, [worker for worker in self._workers if worker not in writers]):
            running = [worker for worker in crew if worker.running]
            codes = await asyncio.gather(*(worker.stop() for worker in running))
            self._exits += [
                f"{worker.name} ended with {code} when it was stopped"
                for worker, code in zip(running, codes, strict=True)
                if code
            ]
            await asyncio.sleep(HANG_SECONDS + 0.5)

    def _evidence(self, told: list[Told], logs: dict[str, bytes]) -> Evidence:
        folder = self._folder
        logs |= {worker.log.name: worker.log.read_bytes() for worker in self._workers}
        audited = [entry for _, entry in read_entries(folder / "audit")]
        logs["audit log"] = b"\n".join(audited)
        return Evidence(
            told=told,
            entries=with_people([orjson.loads(entry) for entry in audited], told, SOURCE),
            deeds={app: deeds(folder / f"{app}.deeds.jsonl") for app in self._departments},
            journals={app: lines(folder / f"{app}.journal.jsonl") for app in self._departments},
            departments=self._departments,
            judged_at=self._clock.now(),
            pauses=[pause for worker in self._workers for pause in worker.pauses],
            logs=logs,
            canaries=(self._canary, self._tokens),
            exits=tuple(self._exits),
        )
