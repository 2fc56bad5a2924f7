"""What goes wrong, drawn from the seed: on the way to the store, to the broker, and at the applications.

Everything is bounded in time and number, and nothing goes wrong after `heal`: then the promises have to come true.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiokafka import TopicPartition

from orchestrator.errors import BrokerUnavailable, StoreUnavailable
from orchestrator.ports import ScimRequest
from orchestrator.simulation.loop import Process, current_process
from orchestrator.testing.scim import Plan
from schemas.envelope import Message


@dataclass
class Trouble:
    """How bad it is now. `store_down` and `broker_down` are outages, `rate` the odds of a single failure."""

    chance: random.Random
    rate: float = 0.0
    store_down: bool = False
    broker_down: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    ambushes: dict[Process, "Ambush"] = field(default_factory=dict)

    def steps(self) -> bool:
        """The running process is about to leave a trace outside of itself, or just did. Whether it is its last step."""
        ambush = self.ambushes.get(current_process()) if self.ambushes else None
        if ambush is None:
            return False
        ambush.steps -= 1
        if ambush.steps >= 0:
            return False
        del self.ambushes[current_process()]
        ambush.strike()
        return not current_process().alive

    async def step(self) -> None:
        """The same for what can wait: whoever is struck down here goes no further."""
        if self.steps():
            await asyncio.get_running_loop().create_future()

    def strikes(self, what: str, odds: float = 1.0) -> bool:
        """Whether it happens now."""
        if self.rate and self.chance.random() < self.rate * odds:
            self.counts[what] = self.counts.get(what, 0) + 1
            return True
        return False

    async def travel(self, most: float = 0.01) -> None:
        """Some time passes, often none worth mentioning."""
        if self.chance.random() < 0.3:
            await asyncio.sleep(self.chance.random() * most)


@dataclass
class Ambush:
    """After so many more steps of a process it is struck. By the clock alone a blow rarely meets work: two systems are
    told of everything one after the other, and in between is where promises break."""

    steps: int
    strike: Callable[[], None]


class StoreWeather:
    """`tables.Weather`."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble

    async def statement(self) -> None:
        """A statement may find the store down."""
        await self._trouble.travel()
        if self._trouble.store_down or self._trouble.strikes("store: statement failed", 0.2):
            raise StoreUnavailable("the store is down")

    async def committing(self) -> None:
        """A commit may fail."""
        await self._trouble.step()
        await self._trouble.travel()
        if self._trouble.store_down or self._trouble.strikes("store: commit failed", 0.2):
            raise StoreUnavailable("the store went down before the commit")

    async def committed(self) -> None:
        """Its answer may be lost."""
        await self._trouble.step()
        await self._trouble.travel()
        if self._trouble.strikes("store: answer to a commit lost", 0.2):
            raise StoreUnavailable("the connection was lost during the commit")


class BrokerLine:
    """`broker.Line`."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble

    async def produce(self, messages: Sequence[Message]) -> int:
        """Of a batch that fails, some may arrive."""
        await self._trouble.step()
        await self._trouble.travel()
        if self._trouble.broker_down:
            raise BrokerUnavailable("the broker is down")
        if self._trouble.strikes("broker: batch cut short", 0.3):
            return self._trouble.chance.randint(0, len(messages))
        return len(messages)

    async def produced(self, *, complete: bool) -> None:
        """What was cut short has to be said."""
        await self._trouble.step()
        if not complete:
            raise BrokerUnavailable("some messages were not confirmed")
        await self._trouble.travel()
        if self._trouble.strikes("broker: confirmation lost", 0.3):
            raise BrokerUnavailable("the connection was lost before the confirmation")

    async def fetch(self) -> None:
        """Fetching is slow at most."""
        while self._trouble.broker_down:
            await asyncio.sleep(0.5)
        await self._trouble.travel(0.05)

    async def commit(self) -> None:
        """So is committing."""
        await self._trouble.step()
        await self._trouble.travel()

    def mix(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Any order across partitions."""
        self._trouble.chance.shuffle(partitions)
        return partitions


@dataclass
class AppTemper:
    """`scim.Temper` of one application. `unique` servers may be asked twice without harm, so only they are."""

    trouble: Trouble
    app: str
    unique: bool
    replica_lag: float
    slow: float
    clock: Any
    down: bool = False
    forbids: int = 0
    """401 or 403: it takes no call of ours; 0: it does."""
    _throttled_until: datetime | None = None
    _ineffective: dict[str, int] = field(default_factory=dict)

    def plan(self, request: ScimRequest) -> Plan:
        """The fate of one call."""
        chance, trouble = self.trouble.chance, self.trouble
        trouble.steps()  # its call is on its way, whatever becomes of it
        plan = Plan(arrives=chance.random() * self.slow, answered=chance.random() * self.slow)
        if self.down:
            return replace(plan, fate="refused", status=chance.choice([0, 503]))
        if self.forbids:
            return replace(plan, fate="error", status=self.forbids)
        if self._throttled_until is not None and self.clock.now() < self._throttled_until:
            return self._throttle(plan, (self._throttled_until - self.clock.now()).total_seconds())
        if trouble.strikes("scim: throttled", 0.3):
            seconds = chance.randint(1, 15)
            self._throttled_until = self.clock.now() + timedelta(seconds=seconds)
            return self._throttle(plan, seconds)
        if trouble.strikes("scim: 5xx", 0.5):
            wait = chance.choice([None, None, chance.randint(1, 5)])
            return replace(plan, fate="error", status=chance.choice([500, 503]), retry_after=wait)
        if trouble.strikes("scim: page", 0.1):
            return replace(plan, fate="page", status=chance.choice([200, 404, 502]))
        if trouble.strikes("scim: lost", 0.3):
            return replace(plan, fate="lost")
        if trouble.strikes("scim: done and unanswered", 0.5):
            return replace(plan, fate="unanswered")
        if trouble.strikes("scim: reset", 0.3):
            return replace(plan, fate=chance.choice(["reset", "cut"]))
        if request.method == "GET":
            return plan
        return self._odd(request, plan)

    def _odd(self, request: ScimRequest, plan: Plan) -> Plan:
        """What only happens to changes."""
        chance, trouble = self.trouble.chance, self.trouble
        if self.unique and trouble.strikes("scim: arrives after the time-out", 0.3):
            return replace(plan, fate="late", late=chance.uniform(0, 40))
        if self.unique and trouble.strikes("scim: comes once more after the time-out", 0.3):
            return replace(plan, fate="again", late=chance.uniform(0, 40))
        if trouble.strikes("scim: done and 5xx", 0.3):
            return replace(plan, fate="failed", status=chance.choice([500, 502, 503]))
        if self.unique and trouble.strikes("scim: done twice", 0.3):
            return replace(plan, fate="twice", answered=plan.answered + chance.random() * 5)
        if trouble.strikes("scim: 409", 0.1):
            body = chance.choice([None, {"scimType": "uniqueness"}])
            return replace(plan, fate="error", status=409, body=body)
        if request.method == "PATCH" and trouble.strikes("scim: 404 on PATCH", 0.2):
            return replace(plan, fate="error", status=404)
        before = self._ineffective.get(request.path, 0)
        if _takes_access(request) and before < 2 and trouble.strikes("scim: success without effect", 2):
            self._ineffective[request.path] = before + 1
            return replace(plan, fate="ineffective")
        return plan

    def _throttle(self, plan: Plan, seconds: float) -> Plan:
        drawn = self.trouble.chance.random()
        if drawn < 0.2:
            return replace(plan, fate="error", status=429)
        if drawn < 0.5:
            until = self.clock.now() + timedelta(seconds=seconds + 1)
            return replace(plan, fate="error", status=429, retry_after=format_datetime(until, usegmt=True))
        return replace(plan, fate="error", status=429, retry_after=int(seconds) + 1)

    def staleness(self) -> float:
        """How old the picture is that a read shows."""
        if self.trouble.rate and self.replica_lag and self.trouble.chance.random() < 0.3:
            return self.trouble.chance.random() * self.replica_lag
        return 0.0

    def heal(self) -> None:
        """From now on it behaves."""
        self.down = False
        self.forbids = 0
        self._throttled_until = None


def _takes_access(request: ScimRequest) -> bool:
    if request.method == "DELETE":
        return True
    changes = (request.body or {}).get("Operations", [])
    return any(one.get("path") == "active" and one.get("value") is False for one in changes)
