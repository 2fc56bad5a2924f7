"""What happens to roles and services: one blow after another, seeded.

Two hands strike at once. One kills and freezes roles. The other one hits what is around them: the broker, the
database, the auditor's disk, clocks and links. Both deal from a deck, so that each kind comes before any comes twice,
and neither stops before its deck was dealt once: whatever the machine has to do, a run has had every kind of blow.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import TypeVar

from orchestrator.chaos.evidence import Blow
from orchestrator.chaos.fleet import DATABASE, Worker, can_fill_disks
from orchestrator.chaos.proxy import LOUD, SILENT
from orchestrator.chaos.services import Services, order
from orchestrator.ports import Clock

AGAINST_ROLES = ("kill", "kill", "kill", "pause")
"""The deck of the blows against roles."""
STEP_SECONDS = 300.0
"""By how much a clock is wrong."""
ROOM = 4096
"""Bytes beyond which no file of an auditor with a full disk grows."""
STEPPED = ("resolver", "scheduler", "relay")
"""Whose clock may go ahead. What a connector with such a clock puts off is due five minutes late for everybody else."""

Card = TypeVar("Card")


class Nemesis:
    """Seeded: the same seed strikes the same after the same waits; what they do just then, no seed says."""

    def __init__(
        self,
        workers: Sequence[Worker],
        seed: int,
        clock: Clock,
        services: Services,
        *,
        session_timeout: float,
        patient: bool = True,
    ) -> None:
        self.blows: list[Blow] = []
        self.exits: list[str] = []
        """Roles that were found dead although nobody had struck them."""
        self._workers = workers
        self._chance = random.Random(f"nemesis/{seed}")
        self._round = random.Random(f"nemesis/{seed}/surroundings")
        self._clock = clock
        self._services = services
        self._session_timeout = session_timeout
        self._patient = patient
        self._busy: set[str] = set()

    async def rage(self, seconds: float) -> None:
        """Strike until the time is over and each kind of blow was struck; afterwards everybody runs."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hit_roles(end, seconds, tasks))
            tasks.create_task(self._hit_surroundings(end, seconds))
        await self.raise_the_dead()

    # --- roles -----------------------------------------------------------------------------------------------------

    async def _hit_roles(self, end: float, seconds: float, tasks: asyncio.TaskGroup) -> None:
        longest = min(10.0, max(3.0, seconds / 5))
        async for what in self._dealt(
            list(AGAINST_ROLES), self._chance, lambda: self._chance.uniform(2.0, longest), end
        ):
            await self.raise_the_dead()
            whom = await self._free(self._workers, self._chance, with_its_crew=what == "pause")
            if what == "pause":
                length = self._session_timeout * self._chance.uniform(1.5, 2.5)
                tasks.create_task(self._pause(whom, length))
                await asyncio.sleep(0)
            else:
                await self.kill(whom, self._chance.uniform(0.0, 2.0))

    async def kill(self, whom: Worker, down: float) -> None:
        """Kill a role and start it again."""
        async with self._struck("kill", whom.name):
            await whom.kill()
            await asyncio.sleep(down)
            await whom.start()

    async def _pause(self, whom: Worker, seconds: float) -> None:
        async with self._struck("pause", whom.name):
            await whom.pause(seconds)

    async def raise_the_dead(self) -> None:
        """Start again whoever is down, as a supervisor does. Who cannot begin because broker or database is away has
        done nothing wrong; who had begun to work has."""
        for one in self._workers:
            if not one.running:
                excused = not one.came_up and any(
                    blow.about(one.started_at, self._now()) for blow in self.blows if _keeps_from_starting(blow, one)
                )
                if not excused:
                    self.exits.append(f"{one.caller} ended by itself; see {one.log.name}")
                await one.start()

    # --- what is around them ---------------------------------------------------------------------------------------

    async def _hit_surroundings(self, end: float, seconds: float) -> None:
        """The waits are such that a whole deck fits into a run, if it can."""
        deck = self._deck(min(max(seconds / 12, 2.0), 12.0))
        calm = min(6.0, max(0.3, seconds / len(deck) / 4))
        async for strike in self._dealt(deck, self._round, lambda: self._round.uniform(0.5, 1.5) * calm, end):
            await strike()

    def _deck(self, most: float) -> list[Callable[[], Awaitable[None]]]:
        """Every kind of blow that is possible here, each for up to `most` seconds."""
        length = partial(self._round.uniform, most / 2, most)
        deck: list[Callable[[], Awaitable[None]]] = [
            lambda: self._cut(DATABASE, length()),
            lambda: self._cut("application", length()),
            lambda: self._step_clock(length()),
        ]
        if can_fill_disks():
            deck.append(lambda: self._fill_disk(length()))
        for name, service in (("broker", self._services.broker), ("database", self._services.database)):
            if service.kill and service.start:
                deck.append(partial(self._stop, name, service.kill, service.start, min(most, 3.0)))
            if service.pause and service.resume:
                longest = self._session_timeout * 2
                deck.append(partial(self._freeze, name, service.pause, service.resume, longest))
        return deck

    async def _stop(self, name: str, kill: str, start: str, most: float) -> None:
        async with self._struck("kill", name):
            await order(kill)
            try:
                await asyncio.sleep(self._round.uniform(0.0, most))
            finally:
                await order(start)

    async def _freeze(self, name: str, pause: str, resume: str, most: float) -> None:
        async with self._struck("pause", name):
            await order(pause)
            try:
                await asyncio.sleep(self._round.uniform(most / 2, most))
            finally:
                await order(resume)

    async def _cut(self, what: str, seconds: float) -> None:
        """Cut the link of one role to one peer."""
        roles = [one for one in self._workers if what == DATABASE or len(one.links) > 1]
        whom = self._round.choice(roles)
        peer = what if what == DATABASE else self._round.choice([name for name in whom.links if name != DATABASE])
        how = self._round.choice([SILENT, LOUD, "reset"])
        async with self._struck("cut", f"{whom.name} to {peer}"):
            whom.links[peer].cut(LOUD if how == "reset" else how)
            try:
                await asyncio.sleep(0.0 if how == "reset" else seconds)
            finally:
                whom.links[peer].heal()

    async def _step_clock(self, seconds: float) -> None:
        whom = await self._free([one for one in self._workers if one.role in (*STEPPED, "connector")], self._round)
        back = whom.role not in STEPPED and not self._patient
        by = -STEP_SECONDS if back else self._round.choice([STEP_SECONDS, -STEP_SECONDS])
        async with self._struck("clock", whom.name, by):
            await whom.with_wrong_clock(seconds, by)

    async def _fill_disk(self, seconds: float) -> None:
        """All auditors at once: only one of them writes, and nobody outside knows which."""
        room = self._round.choice([0, ROOM])
        auditors = [one for one in self._workers if one.role == "auditor"]
        await self._free(auditors, self._round)
        async with asyncio.TaskGroup() as tasks:
            for one in [one for one in auditors if one.name not in self._busy]:
                tasks.create_task(self._fill_disk_of(one, seconds, room))

    async def _fill_disk_of(self, whom: Worker, seconds: float, room: int) -> None:
        async with self._struck("disk", whom.name):
            await whom.without_disk(seconds, room)

    # --- both ------------------------------------------------------------------------------------------------------

    async def _dealt(
        self, deck: list[Card], chance: random.Random, wait: Callable[[], float], end: float
    ) -> AsyncIterator[Card]:
        """One card after another, each after a wait: until the time is over, and the whole deck at least once."""
        for times_dealt in count():
            chance.shuffle(deck)
            for card in deck:
                await asyncio.sleep(wait())
                if times_dealt and asyncio.get_running_loop().time() >= end:
                    return
                yield card

    async def _free(self, roles: Sequence[Worker], chance: random.Random, *, with_its_crew: bool = False) -> Worker:
        """One that runs and that no blow is about, as soon as there is one; nor about another one of its role."""

        def is_struck(whom: Worker) -> bool:
            return any(
                one.name in self._busy
                for one in self._workers
                if one is whom or (with_its_crew and one.role == whom.role)
            )

        while not (free := [one for one in roles if one.running and not is_struck(one)]):
            await asyncio.sleep(0.1)
        return chance.choice(free)

    @asynccontextmanager
    async def _struck(self, what: str, whom: str, by: float = 0.0) -> AsyncIterator[None]:
        """Write a blow down from its begin to its end, whatever ends it."""
        begin, place = self._now(), len(self.blows)
        self.blows.append(Blow(what, whom, begin, float("inf"), by))
        mine = self.blows[place]
        self._busy.add(whom)
        try:
            yield
        finally:
            self._busy.discard(whom)
            self.blows[self.blows.index(mine)] = Blow(what, whom, begin, self._now(), by)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _keeps_from_starting(blow: Blow, worker: Worker) -> bool:
    return blow.whom in ("broker", "database", f"{worker.name} to {DATABASE}")
