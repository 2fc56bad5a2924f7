"""One account, one application, one connector, in virtual time: for what a single call can do wrong."""

import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.account import Account, Progress
from orchestrator.domain.person import Decision, Person
from orchestrator.domain.retry import Backoff
from orchestrator.flows.lane import Lanes
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.ports import ResolveChanges, ScimRequest
from orchestrator.simulation.loop import SimulationLoop
from orchestrator.simulation.scenario import START
from orchestrator.testing.broker import MemoryBroker
from orchestrator.testing.clock import LoopClock
from orchestrator.testing.rows import ACCOUNT
from orchestrator.testing.scim import Habits, MemoryScim, Plan, State
from orchestrator.testing.store import MemoryStore
from schemas.commands import DesiredState

WHO = "ada"

WELL = Plan()
UNANSWERED = Plan("unanswered")
DOWN = Plan("error", status=503)
MISSING = Plan("error", status=404)


@dataclass
class Script:
    """A `Temper` by the book: for "METHOD /collection" what becomes of the next calls, after that all is well."""

    fates: dict[str, list[Plan]] = field(default_factory=dict)
    stale: list[float] = field(default_factory=list)

    def plan(self, request: ScimRequest) -> Plan:
        """See `scim.Temper`."""
        coming = self.fates.get(f"{request.method} /{request.path.split('/')[1]}", [])
        return coming.pop(0) if coming else Plan()

    def staleness(self) -> float:
        """See `scim.Temper`."""
        return self.stale.pop(0) if self.stale else 0.0


class Desk:
    """Says what the account should be, and has it converged."""

    def __init__(self, loop: SimulationLoop, habits: Habits) -> None:
        self.clock = LoopClock(loop, START)
        self.script = Script()
        self.app = MemoryScim(self.clock.now, habits, self.script)
        self.loop = loop
        self.store = MemoryStore()
        self.lanes = self.connector("connector")
        self._revisions: dict[str, int] = {}

    def connector(self, name: str) -> Lanes:
        """One more process that has the application's lanes."""
        outbox = OutboxPublisher(MemoryBroker(lambda _: 1), self.store.outbox)
        outbox.start()
        return Lanes(
            "crm",
            transport=self.app.transport(name),
            store=self.store.converge,
            outbox=outbox,
            clock=self.clock,
            concurrency=4,
            backoff=Backoff(1, 1),
        )

    def when(self, call: str, *fates: Plan) -> None:
        """What becomes of the next calls of a kind."""
        self.script.fates.setdefault(call, []).extend(fates)

    async def want(self, state: DesiredState = "active", *, title: str = "", groups: Iterable[str] = ()) -> None:
        """A new revision, converged once."""
        await self.decide(state, title=title, groups=groups)
        await self.converge()

    async def decide(
        self, state: DesiredState = "active", *, title: str = "", groups: Iterable[str] = (), who: str = WHO
    ) -> None:
        """A new revision, and nobody does anything."""
        self._revisions[who] = revision = self._revisions.get(who, 0) + 1
        resource = {"userName": who, "externalId": who, **({"title": title} if title else {})}
        account = Account(who, "crm", revision, state, resource, tuple(groups), START, "hr#1", "c", "p")
        person = Person(who, decision=Decision(START, "active", "employee", "p"))
        async with self.store.resolve.transaction() as transaction:
            await transaction.load([who])
            await transaction.save(ResolveChanges(persons=[person], accounts=[account]), now=self.clock.now())

    async def converge(self, lanes: Lanes | None = None) -> None:
        """As when a command for the account comes in."""
        await (lanes or self.lanes).queues._process(WHO)

    @property
    def accounts(self) -> list[State]:
        """What the application has."""
        return [state for one in self.app.users if (state := self.app.state(one))]

    def remove(self, user_id: str) -> None:
        """An administrator takes an account away."""
        del self.app.users[user_id]

    def made(self, *methods: str) -> list[int]:
        """The answers to all calls of some methods."""
        return [one.status for one in self.app.journal if one.method in methods]

    @property
    def progress(self) -> Progress:
        """What we believe."""
        progress: Progress = self.store.tables.table(ACCOUNT)[WHO, "crm"].progress
        return progress


def at_the_desk(work: Callable[[Desk], Coroutine[Any, Any, None]], habits: Habits | None = None) -> None:
    """Run a story."""
    loop = SimulationLoop(random.Random(0))  # type: ignore[abstract]  # there is no outside

    async def story() -> None:
        await work(Desk(loop, habits or Habits()))

    loop.run(story())
    assert loop.defects == []
