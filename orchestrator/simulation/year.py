"""A year of contractors: everybody is out within a minute of the end of the last day where they are, never before.

The resolver, the connector, three schedulers and the relay are those of `world`, in virtual time, and every week one
scheduler dies in the middle of a sweep. Nothing happens for most of the year, so the machine room sleeps then: its
processes are frozen until shortly before the next instant at which something is due, and thaw with all their timers.

Judged by the server's journal against the contracts as they were made up, by `zoneinfo` and nothing of ours.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import structlog

from orchestrator.domain.policy import ApplicationPolicy, TimeRules, compile_policy
from orchestrator.simulation.loop import Defect, Process, SimulationLoop, current_process
from orchestrator.simulation.roles import Plant, SimulatedRuntime, make_role
from orchestrator.simulation.world import _repeatable
from orchestrator.testing.auditing import SUBJECT
from orchestrator.testing.broker import MemoryBroker, Quiet
from orchestrator.testing.clock import LoopClock
from orchestrator.testing.rows import OUTBOX
from orchestrator.testing.scim import Habits, MemoryScim
from orchestrator.testing.store import MemoryStore
from orchestrator.testing.tables import Calm
from schemas.envelope import Envelope, Message
from schemas.topics import AUDIT_ENTRIES, HR_EVENTS, LIFECYCLE_NOTICES, LIFECYCLE_TIMERS

START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(days=365)
APP = "directory"
LATEST = timedelta(seconds=60)
FEED_HOUR = 2
"""HR sends what was stated since yesterday every night at this hour of UTC."""
WARNED_DAYS = 7
MARGIN_SECONDS = 3.0
SCHEDULERS = 3
ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "Africa/Johannesburg", "America/Anchorage", "America/Bogota",
    "America/Chicago", "America/Havana", "America/Los_Angeles", "America/New_York", "America/Santiago",
    "America/Sao_Paulo", "America/St_Johns", "Antarctica/Troll", "Asia/Beirut", "Asia/Dubai", "Asia/Jerusalem",
    "Asia/Kathmandu", "Asia/Kolkata", "Asia/Shanghai", "Asia/Tehran", "Asia/Tokyo", "Atlantic/Azores",
    "Australia/Lord_Howe", "Australia/Melbourne", "Europe/Berlin", "Europe/London", "Pacific/Apia",
    "Pacific/Chatham", "Pacific/Kiritimati", "Pacific/Marquesas",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Contract:
    """What one contractor's year comes to: the last day, and when HR has said what."""

    person: str
    zone: str
    first_day: date
    last_day: date | None
    told: tuple[tuple[date, str, dict[str, object]], ...]

    @property
    def over(self) -> datetime | None:
        """When the last day is over on the wall where the contractor is."""
        if self.last_day is None:
            return None
        return datetime.combine(self.last_day + timedelta(days=1), time(), ZoneInfo(self.zone)).astimezone(UTC)


def contracts(chance: random.Random, people: int) -> Iterator[Contract]:
    """One contract each; some are extended, shortened, or made permanent while they run."""
    for number in range(people):
        person, zone = f"c{number}", ZONES[number % len(ZONES)]
        first = START.date() + timedelta(days=chance.randint(5, 300))
        last: date | None = first + timedelta(days=chance.randint(8, 200))
        body = {
            "engagement_id": "1",
            "kind": "contractor",
            "start_date": first,
            "contract_end": last,
            "attributes": {"time_zone": zone},
        }
        told: list[tuple[date, str, dict[str, object]]] = [
            (first - timedelta(days=chance.randint(3, 5)), "joined", body)
        ]
        fate = chance.random()
        if fate < 0.4:
            assert last is not None
            stated = first + timedelta(days=chance.randint(0, (last - first).days - 4))
            if fate < 0.25:
                last += timedelta(days=chance.randint(1, 90))
            elif fate < 0.35:
                last = stated + timedelta(days=3)
            else:
                last = None
            told.append((stated, "contract_changed", {"engagement_id": "1", "contract_end": last}))
        yield Contract(person, zone, first, last, tuple(told))


class Reaper(Calm, Quiet):
    """`tables.Weather` and `broker.Line`: once it has `patience`, one of the schedulers' next steps is the last."""

    def __init__(self, died: Callable[[Process], None]) -> None:
        self.patience: int | None = None
        self._died = died

    async def committing(self) -> None:
        """See `Weather`."""
        await super().committing()
        await self._strike()

    async def committed(self) -> None:
        """See `Weather`."""
        await self._strike()

    async def produce(self, messages: Sequence[Message]) -> int:
        """See `Line`."""
        await self._strike()
        return await super().produce(messages)

    async def produced(self, *, complete: bool) -> None:
        """See `Line`."""
        await self._strike()

    async def _strike(self) -> None:
        process = current_process()
        if self.patience is None or not process.name.startswith("scheduler"):
            return
        self.patience -= 1
        if self.patience < 0:
            self.patience = None
            self._died(process)
            await asyncio.get_running_loop().create_future()


@dataclass
class Year:
    """One run."""

    people: int
    seed: int = 0
    killed: int = 0
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.contracts = list(contracts(self.chance, self.people))
        self.loop = SimulationLoop(self.chance, most_steps=1 << 62)  # type: ignore[abstract]  # there is no outside
        self._processes: dict[str, Process] = {}
        self._boots = 0

    def run(self) -> "Year":
        """Live through it."""
        before = structlog.get_config()
        structlog.configure(processors=[_drop])
        try:
            with _repeatable(self.chance):
                self.loop.run(self._main())
        except Defect as defect:
            self.violations.append(f"defect: {defect}")
        finally:
            structlog.configure(**before)
        self.violations += [f"defect: {one}" for one in self.loop.defects]
        self.violations += judge(self)
        return self

    async def _main(self) -> None:
        self.clock = LoopClock(self.loop, START)
        self.reaper = Reaper(self._died)
        policy, problems = compile_policy(
            [ApplicationPolicy(APP, {"userName": "person.id", "externalId": "person.id"})],
            "UTC",
            TimeRules(contract_end_days=(WARNED_DAYS,)),
        )
        assert policy is not None, problems
        self.plant = Plant(
            store=MemoryStore(self.reaper, owner=current_process),
            broker=MemoryBroker(lambda _: 2, self.reaper),
            apps={APP: MemoryScim(self.clock.now, Habits(unique=False))},
            policy=policy,
            life=self.clock,
            wall=self.clock,
        )
        for name in ("resolver", "connector", "relay", *(f"scheduler{number}" for number in range(SCHEDULERS))):
            self._boot(name)
        feed = sorted(self._feed(), key=lambda arrival: arrival[0])
        deaths = [START + timedelta(weeks=week, seconds=self.chance.uniform(0, 86400)) for week in range(52)]
        while True:
            due = await self.plant.store.timers.next_due()
            coming = min([END, *(at for at, _ in feed[:1]), *([due] if due is not None else [])])
            if coming >= END:
                return
            await self._idle(coming)
            while feed and feed[0][0] <= self.clock.now():
                self.plant.broker.append(feed.pop(0)[1])
            if deaths and deaths[0] <= coming == due:
                deaths.pop(0)
                self.reaper.patience = self.chance.randrange(6)
            await self._until_quiet()

    def _feed(self) -> Iterator[tuple[datetime, Message]]:
        for one in self.contracts:
            for number, (day, kind, data) in enumerate(one.told):
                at = datetime.combine(day, time(FEED_HOUR), UTC)
                envelope = Envelope(
                    f"{one.person}-{number}", "hr", f"jml.worker.{kind}.v1", at - timedelta(hours=1), one.person
                )
                body = orjson.dumps({"worker_id": one.person, **data})
                yield at, Message(HR_EVENTS, one.person.encode(), body, envelope.headers())

    # --- processes ---------------------------------------------------------------------------------------------------

    def _boot(self, name: str) -> None:
        self._boots += 1
        process = self.loop.process(f"{name}#{self._boots}")
        self._processes[name] = process
        self.loop.spawn(process, self._life_of(name.rstrip("0123456789"), process))

    async def _life_of(self, role: str, process: Process) -> None:
        runtime = SimulatedRuntime(self.plant, process, self._boots)
        made = make_role(role, runtime)
        runtime.outbox.start()
        await made.start()
        runtime.consumers.start()
        await self.loop.create_future()  # for ever

    def _died(self, process: Process) -> None:
        """SIGKILL in the middle of whatever it does; another one is started."""
        name = process.name.partition("#")[0]
        self.loop.kill(process)
        self.plant.store.tables.disconnect(process)
        self.killed += 1
        self._boot(name)

    async def _idle(self, until: datetime) -> None:
        """Nothing is due before `until`: everybody sleeps until shortly before."""
        seconds = (until - self.clock.now()).total_seconds()
        if seconds > MARGIN_SECONDS:
            for process in self._processes.values():
                self.loop.freeze(process)
            await self._seconds(seconds - MARGIN_SECONDS)
            for process in self._processes.values():
                self.loop.wake(process)
        await self.clock.sleep_until(until)

    async def _until_quiet(self) -> None:
        """Whatever is due is fired, whatever is fired is decided, whatever is decided is done."""
        quiet, began = 0, self.loop.time()
        while quiet < 2:
            await self._seconds(1)
            due = await self.plant.store.timers.next_due()
            busy = self.plant.store.tables.table(OUTBOX) or self.plant.broker.lag()
            quiet = 0 if busy or (due is not None and due <= self.clock.now()) else quiet + 1
            if self.loop.time() > began + 600:
                raise Defect("never quiet")

    async def _seconds(self, seconds: float) -> None:
        await self.clock.sleep_until(self.clock.now() + timedelta(seconds=seconds))


def judge(year: Year) -> list[str]:
    """Every broken promise, in words."""
    opened: dict[str, list[datetime]] = defaultdict(list)
    closed: dict[str, list[datetime]] = defaultdict(list)
    for call in year.plant.apps[APP].journal:
        if call.changed and call.after is not None and call.person is not None:
            at = START + timedelta(seconds=call.at)
            (opened if call.after.active else closed)[call.person].append(at)
    fired = set(_ids(year, LIFECYCLE_TIMERS))
    decided = _decisions(year)
    found = [f"the timer {one} was decided {times} times" for one, times in decided.items() if times > 1]
    found += [f"the timer {one} was never decided" for one in fired if one not in decided]
    warned = Counter(one.partition("/")[0] for one in set(_ids(year, LIFECYCLE_NOTICES)))
    for one in year.contracts:
        over = one.over
        if over is None or over >= END:
            if closed[one.person]:
                found.append(f"{one.person} was put out at {closed[one.person]} and works until {one.last_day}")
            continue
        if len(closed[one.person]) != 1 or len(opened[one.person]) != 1:
            found.append(
                f"{one.person} was let in {len(opened[one.person])} and put out {len(closed[one.person])} times"
            )
        elif not over <= closed[one.person][0] <= over + LATEST:
            found.append(f"{one.person} in {one.zone} was put out at {closed[one.person][0]}, the end was {over}")
        if not warned[one.person]:
            found.append(f"nobody was warned that {one.person} leaves")
    return found


def _ids(year: Year, topic: str) -> Iterator[str]:
    for place in year.plant.broker.topic(topic):
        for record in year.plant.broker.log(place):
            yield dict(record.headers)["ce_id"].decode()


def _decisions(year: Year) -> Counter[str]:
    """By timer, how often it was decided: the resolver's entries, each once however often it was published."""
    seen, decided = set(), Counter[str]()
    people = {one.id: one.person_id for one in year.plant.store.tables.table(SUBJECT).values()}
    for place in year.plant.broker.topic(AUDIT_ENTRIES):
        for record in year.plant.broker.log(place):
            if b'"person_resolved"' not in (record.value or b"") or b"jml/scheduler#" not in (record.value or b""):
                continue
            entry = orjson.loads(record.value or b"")
            if entry["id"] not in seen:
                seen.add(entry["id"])
                timer = entry["event_id"].removeprefix("jml/scheduler#")
                decided[timer.replace(entry["subject"], people[entry["subject"]])] += 1
    return decided


def _drop(_: Any, __: str, event: Any) -> Any:
    raise structlog.DropEvent
