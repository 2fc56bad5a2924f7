"""One run: a plant, its processes, people's lives and a nemesis, all drawn from one seed; then peace, and a verdict.

The story takes two weeks of the people's lives in a minute and a half of the machines' time, so that everything that
comes due meets everything that breaks.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, cast
from zoneinfo import ZoneInfo

import structlog

from orchestrator.bootstrap import Role
from orchestrator.cli.parked import retry_parked
from orchestrator.domain.account import AccountStatus
from orchestrator.errors import StoreUnavailable
from orchestrator.flows import audit_writer
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.log import allow
from orchestrator.ports import OperatorStore
from orchestrator.simulation.faults import Ambush, AppTemper, BrokerLine, StoreWeather, Trouble
from orchestrator.simulation.loop import Defect, Process, SimulationLoop, current_process
from orchestrator.simulation.oracle import Told
from orchestrator.simulation.plan import APPS, plan, policy_of, wall_skew
from orchestrator.simulation.roles import MemoryAuditLog, Plant, SimulatedRuntime, make_role
from orchestrator.simulation.scenario import DAYS, START, TOKEN, Arrival, arrivals, lives, unreadable
from orchestrator.testing.broker import MemoryBroker
from orchestrator.testing.clock import LoopClock
from orchestrator.testing.rows import ACCOUNT, OUTBOX, TIMER
from orchestrator.testing.scim import MemoryScim
from orchestrator.testing.store import MemoryStore
from schemas.envelope import Message
from schemas.topics import AUDIT_ENTRIES

DAY_SECONDS = 6.0
"""One day of the people's lives, in seconds of the machines'."""
SESSION_SECONDS = 15.0
SETTLE_SECONDS = 60.0
"""Calls that were sent before peace may arrive until then."""
MOST_STEPS = 12
"""Before an ambush strikes: a commit, a batch published, offsets, a few calls."""
QUIET_SECONDS = 480.0
"""Whoever is not done by then will never be."""

Trace = Callable[[str], None]


@dataclass
class Machine:
    """A place where a role runs: when its process dies, another one is started."""

    role: str
    number: int
    process: Process | None = None
    stop: asyncio.Event | None = None
    ahead: float = 0.0


@dataclass
class World:
    """Everything of one run; `invariants` reads what it left behind."""

    seed: int
    trace: Trace = lambda _: None
    violations: list[str] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    healed_at: float = 0.0
    frozen: set[str] = field(default_factory=set)
    killed: set[str] = field(default_factory=set)
    ahead: dict[str, float] = field(default_factory=dict)
    """By process, how many seconds its clock is ahead."""
    unreadable: list[Arrival] = field(default_factory=list)
    logged: list[dict[str, Any]] = field(default_factory=list)
    """What operators read: log lines, after the allowlist."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.plan = plan(self.chance)
        self.loop = SimulationLoop(self.chance)  # type: ignore[abstract]  # there is no outside
        self.trouble = Trouble(random.Random(self.chance.random()))
        self.tempers: dict[str, AppTemper] = {}
        self.machines: list[Machine] = []
        self.context = copy_context()
        self._boots = 0

    def run(self) -> "World":
        """Live through it."""
        with self.opened():
            self.go_on(self._main())
        return self

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """While something is going to happen."""
        with _repeatable(self.chance), _logs(self.trace, self):
            try:
                yield
            finally:
                self.loop.close()
        self.violations += [f"defect: {one}" for one in self.loop.defects]

    def go_on(self, work: Coroutine[Any, Any, None]) -> None:
        """Let everybody run until `work` is done."""
        try:
            self.loop.run_until(work)
        except Defect as defect:
            self.violations.append(f"defect: {defect}")

    def say(self, what: str) -> None:
        """A line of the trace."""
        self.trace(f"{self.loop.time():8.3f} {what}")

    # --- what is there -----------------------------------------------------------------------------------------------

    def _build(self) -> Plant:
        wall = LoopClock(self.loop, START)
        life = LoopClock(self.loop, START, 86400 / DAY_SECONDS)
        for app in APPS:
            habits = self.plan.habits[app]
            self.tempers[app] = AppTemper(
                self.trouble, app, habits.unique, self.plan.replica_lag[app], self.plan.slow[app], wall
            )
        return Plant(
            store=MemoryStore(StoreWeather(self.trouble), owner=current_process),
            broker=MemoryBroker(
                lambda topic: 1 if topic == AUDIT_ENTRIES else self.plan.partitions, BrokerLine(self.trouble)
            ),
            apps={app: MemoryScim(wall.now, self.plan.habits[app], self.tempers[app], token=TOKEN) for app in APPS},
            policy=policy_of(self.plan.zone, self.plan.delete_after),
            life=life,
            wall=wall,
            audit_log=MemoryAuditLog(lambda entries: self.trouble.chance.randrange(entries)),
        )

    def _story(self) -> list[Told]:
        return lives(self.chance, self.plan.people)

    def _arrivals(self) -> Iterable[Arrival]:
        self.unreadable = unreadable(self.chance, self.plan.people)
        return sorted([*arrivals(self.chance, self.told), *self.unreadable], key=lambda arrival: arrival.day)

    async def _main(self) -> None:
        await self.start()
        nemesis = asyncio.create_task(self._nemesis())
        await self._tell()
        await asyncio.sleep(max(0.0, DAYS * DAY_SECONDS - self.loop.time()))
        nemesis.cancel()
        await self.peace()

    async def start(self) -> None:
        """Everybody is there, and things begin to go wrong."""
        self.plant = self._build()
        self.told = self._story()
        self._create_accounts()
        roles = ["resolver"] * 2 + ["connector"] * self.plan.connectors + ["scheduler"] * 2 + ["relay", "auditor"]
        for number, role in enumerate(roles):
            ahead = self.chance.choice([-1.0, 1.0, self.chance.uniform(-1, 1)]) * self.plan.skew
            self.machines.append(Machine(role, number, ahead=ahead))
            self._boot(self.machines[-1])
        self.trouble.rate = self.plan.rate

    async def peace(self) -> None:
        """Everything is well again; return when everything is done."""
        self._heal()
        await self._until_quiet()

    def _create_accounts(self) -> None:
        """Some have an account already, by an administrator's hand, where names are unique: elsewhere nobody says."""
        if not self.plan.habits["directory"].unique:
            return
        for person in sorted({one.person for one in self.told}):
            if self.chance.random() < 0.2:
                resource: dict[str, Any] = {"userName": person, "title": "old"}
                if self.chance.random() < 0.5:
                    resource["externalId"] = person
                self.plant.apps["directory"].create(resource)

    async def _tell(self) -> None:
        for arrival in self._arrivals():
            await asyncio.sleep(max(0.0, arrival.day * DAY_SECONDS - self.loop.time()))
            self.publish(arrival.message)

    def publish(self, message: Message) -> None:
        """A message of a source arrives."""
        self.plant.broker.append(message)
        self.say(f"told {dict(message.headers)['ce_id'].decode()}")

    # --- processes ---------------------------------------------------------------------------------------------------

    def _boot(self, machine: Machine) -> None:
        self._boots += 1
        process = self.loop.process(f"{machine.role}{machine.number}#{self._boots}")
        machine.process, machine.stop = process, asyncio.Event()
        self.ahead[process.name] = wall_skew(machine.ahead)
        self.loop.spawn(process, self._life_of(machine, process, machine.stop))

    async def _life_of(self, machine: Machine, process: Process, stop: asyncio.Event) -> None:
        """As `cli.running` runs a role."""
        runtime = SimulatedRuntime(self.plant, process, machine.number, machine.ahead)
        role = make_role(machine.role, runtime)
        for failed in (runtime.outbox.failed, *role.failed):
            failed.add_done_callback(self._failed)
        runtime.outbox.start()
        while True:
            try:
                await role.start()
                break
            except StoreUnavailable:
                await asyncio.sleep(1)
        runtime.consumers.start()
        await stop.wait()
        await self._end(role, runtime)
        self.say(f"{process} has stopped")

    async def _end(self, role: Role, runtime: SimulatedRuntime) -> None:
        await role.stop()
        await runtime.consumers.stop()
        await runtime.outbox.drain()

    def _failed(self, future: "asyncio.Future[BaseException]") -> None:
        if not future.cancelled():
            error = future.result()
            self.violations.append(f"defect: {type(error).__name__}: {error}")

    def kill(self, machine: Machine) -> None:
        """SIGKILL; the store notices at once, the broker after the session timeout."""
        process = machine.process
        assert process is not None
        self.say(f"kill {process}")
        self.killed.add(process.name)
        self.loop.kill(process)
        self.plant.store.tables.disconnect(process)
        self.loop.call_later(SESSION_SECONDS, self.plant.broker.lost, process, context=self.context)
        machine.process = None

    def freeze(self, machine: Machine, seconds: float) -> None:
        """SIGSTOP and, later, SIGCONT."""
        process = machine.process
        assert process is not None
        self.say(f"freeze {process} for {seconds:.1f}")
        self.frozen.add(process.name)
        self.loop.freeze(process)
        self.loop.call_later(SESSION_SECONDS, self._session_over, process, context=self.context)
        self.loop.call_later(seconds, self._wake, process, context=self.context)

    def _session_over(self, process: Process) -> None:
        if process.frozen:
            self.plant.broker.lost(process)

    def _wake(self, process: Process) -> None:
        if process.frozen:
            self.say(f"wake {process}")
            self.loop.wake(process)

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    async def _nemesis(self) -> None:
        if not self.plan.nemesis:
            return
        while True:
            await asyncio.sleep(self.chance.uniform(1, 8))
            act = self.chance.choice(
                [
                    "kill",
                    "freeze",
                    "ambush",
                    "ambush",
                    "ambush",
                    "restart",
                    "store",
                    "broker",
                    "app",
                    "door",
                    "disk",
                    "operator",
                ]
            )
            machine = self.chance.choice(self.machines)
            seconds = self.chance.uniform(0.5, 6)
            if act == "operator":
                with contextlib.suppress(StoreUnavailable):
                    await self.retry_parked()
            elif act == "store":
                self._outage(self.trouble, "store_down", seconds)
            elif act == "broker":
                self._outage(self.trouble, "broker_down", seconds)
            elif act == "app":
                self._outage(self.tempers[self.chance.choice(APPS)], "down", seconds)
            elif act == "door":
                self._outage(
                    self.tempers[self.chance.choice(APPS)], "forbids", seconds * 3, self.chance.choice([401, 403])
                )
            elif act == "disk":
                self._outage(self.plant.audit_log, "full", seconds * 2)
            elif machine.process is None or machine.process.frozen:
                continue
            elif act == "ambush":
                self.lie_in_wait(machine, self.chance.randrange(MOST_STEPS), seconds)
            elif act == "freeze":
                self.freeze(machine, self.chance.uniform(1, 40))
            elif act == "kill":
                self.kill(machine)
                self.loop.call_later(seconds, self.boot_if_dead, machine)
            else:
                self.restart(machine)

    def lie_in_wait(self, machine: Machine, steps: int, seconds: float) -> None:
        """Kill it, or freeze it, in the middle of what it does next."""
        process, kills, nap = machine.process, self.chance.random() < 0.7, self.chance.uniform(1, 40)
        assert process is not None

        def strike() -> None:
            if machine.process is not process:
                return  # it is being replaced
            if kills:
                self.kill(machine)
                self.loop.call_later(seconds, self.boot_if_dead, machine, context=self.context)
            else:
                self.freeze(machine, nap)

        self.say(f"lie in wait for {process}, {steps} steps from now")
        self.trouble.ambushes[process] = Ambush(steps, strike)

    def restart(self, machine: Machine) -> None:
        """A deployment: the old process stops as it should while the new one starts."""
        assert machine.stop is not None
        self.say(f"restart {machine.process}")
        machine.stop.set()
        self._boot(machine)

    def boot_if_dead(self, machine: Machine) -> None:
        """A supervisor starts it again."""
        if machine.process is None:
            self._boot(machine)

    def _outage(self, of: object, what: str, seconds: float, how: Any = True) -> None:
        self.say(f"outage {what} {getattr(of, 'app', '')} for {seconds:.1f}")
        setattr(of, what, how)
        self.loop.call_later(seconds, setattr, of, what, type(how)(0))

    # --- peace -------------------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        self.say("heal")
        self.healed_at = self.loop.time()
        self.trouble.rate = 0.0
        self.trouble.store_down = self.trouble.broker_down = False
        self.trouble.ambushes.clear()
        self.plant.audit_log.full = False
        for temper in self.tempers.values():
            temper.heal()
        for machine in self.machines:
            self.boot_if_dead(machine)
            if machine.process is not None:
                self._wake(machine.process)

    async def _until_quiet(self) -> None:
        """Operators try parked accounts again, as they would after an outage."""
        quiet = 0
        await asyncio.sleep(SETTLE_SECONDS)
        while quiet < 3:
            if self.loop.time() > self.healed_at + QUIET_SECONDS + self.patience:
                self.violations.append(f"never quiet: {self.left()}")
                break
            await asyncio.sleep(2)
            await self.retry_parked()
            quiet = quiet + 1 if not self.left() else 0
        self.say("quiet")

    async def retry_parked(self) -> None:
        """An operator has everything tried again that is parked."""
        store = cast(OperatorStore, self.plant.store.parked)
        if chosen := await store.parked():
            self.say(f"operator retries {[(one.person_id, one.app, one.error_code) for one in chosen]}")
            now = self.plant.wall.now()
            await retry_parked(store, chosen, AuditWriter("operator", now), "ann", "healed", now)

    def left(self) -> list[str]:
        """What is not done yet."""
        tables, now = self.plant.store.tables, self.plant.life.now()
        left = [f"outbox segment {number}" for number in tables.table(OUTBOX)]
        left += [
            f"timer {key}" for key, row in tables.table(TIMER).items() if not row.fired_at and row.timer.due <= now
        ]
        for key, row in tables.table(ACCOUNT).items():
            progress = row.progress
            done = progress.status is AccountStatus.APPLIED and progress.intent is None
            if not done or progress.applied_revision < row.account.revision:
                left.append(f"account {key} at {progress.applied_revision} of {row.account.revision}, {progress}")
        if lag := self.plant.broker.lag():
            left.append(f"lag {lag}")
        return left

    @property
    def patience(self) -> float:
        """How many seconds more everything may take because what one machine puts off another one takes up."""
        return wall_skew(self.plan.skew) * 4

    def promises(self) -> Iterator[str]:
        """What is promised in this kind of world alone and was broken: `name: what`."""
        yield from ()

    @property
    def zone(self) -> ZoneInfo:
        """Where everybody's days begin."""
        return ZoneInfo(self.plan.zone)


@contextlib.contextmanager
def _repeatable(chance: random.Random) -> Iterator[None]:
    """Nothing may depend on the machine: generators that flows make for their jitter, and the names of writers."""
    generator, name, numbers = random.Random, audit_writer.instance_name, iter(range(1 << 30))

    class Seeded(random.Random):
        def __init__(self, seed: Any = None) -> None:
            super().__init__(chance.random() if seed is None else seed)

    random.Random = Seeded  # type: ignore[assignment, misc]
    audit_writer.instance_name = lambda role: f"{role}@{current_process()}-{next(numbers)}"
    try:
        yield
    finally:
        random.Random = generator  # type: ignore[misc]
        audit_writer.instance_name = name


@contextlib.contextmanager
def _logs(trace: Trace, world: World) -> Iterator[None]:
    """The flows' log lines go into the trace."""

    def keep(_: Any, __: str, event: Any) -> Any:
        world.logged.append(event)
        if trace is not World.trace:
            world.say(f"  {current_process()}: {event}")
        raise structlog.DropEvent

    before = structlog.get_config()
    everything = structlog.make_filtering_bound_logger(logging.NOTSET)  # whatever level this process logs at
    structlog.configure(processors=[allow, keep], wrapper_class=everything)
    try:
        yield
    finally:
        structlog.configure(**before)
