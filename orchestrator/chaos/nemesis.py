"""What happens to the roles: killed or paused at random, one blow after another, never for longer than told."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from orchestrator.chaos.fleet import Worker
from orchestrator.ports import Clock

PAUSES = 0.25
"""Of the blows; the others kill."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One of them. `at` is seconds since 1970."""

    at: float
    what: str
    whom: str
    seconds: float


class Nemesis:
    """Seeded: the same seed strikes the same roles after the same waits; what they do just then, no seed says."""

    def __init__(self, workers: Sequence[Worker], seed: int, clock: Clock, *, session_timeout: float) -> None:
        self.blows: list[Blow] = []
        self.exits: list[str] = []
        """Roles that were found dead although nobody had struck them."""
        self._workers = workers
        self._chance = random.Random(f"nemesis/{seed}")
        self._clock = clock
        self._session_timeout = session_timeout

    async def rage(self, seconds: float) -> None:
        """Strike until the time is over; afterwards everybody runs."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        longest = min(10.0, max(3.0, seconds / 5))
        pausing: set[str] = set()
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(self._chance.uniform(2.0, longest))
                if loop.time() >= end:
                    return
                await self._raise_the_dead()
                whom = self._chance.choice([one for one in self._workers if one.name not in pausing])
                if self._chance.random() < PAUSES and not pausing:
                    length = self._session_timeout * self._chance.uniform(1.5, 2.5)
                    self._note("pause", whom, length)
                    pausing.add(whom.name)
                    pause = tasks.create_task(whom.pause(length))
                    pause.add_done_callback(partial(_over, pausing, whom.name))
                else:
                    down = self._chance.uniform(0.0, 2.0)
                    self._note("kill", whom, down)
                    await whom.kill()
                    await asyncio.sleep(down)
                    await whom.start()

    async def _raise_the_dead(self) -> None:
        for one in self._workers:
            if not one.running:
                self.exits.append(f"{one.caller} ended by itself; see {one.log.name}")
                await one.start()

    def _note(self, what: str, whom: Worker, seconds: float) -> None:
        self.blows.append(Blow(self._clock.now().timestamp(), what, whom.name, seconds))


def _over(pausing: set[str], name: str, _: object) -> None:
    pausing.discard(name)
