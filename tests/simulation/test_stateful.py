"""The same worlds, steered by Hypothesis: it shrinks what breaks them to a short story."""

import asyncio
import contextlib
import random
from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from orchestrator.simulation.invariants import judge
from orchestrator.simulation.scenario import START, Life, message
from orchestrator.simulation.world import Machine, World

PEOPLE = 3
people = st.integers(0, PEOPLE - 1)
machines = st.integers(0, 7)
draws = st.integers(0, 1 << 16)


class Worlds(RuleBasedStateMachine):
    """Join, move, leave, absence, rehire, extend, shorten, convert, block; kill, freeze, restart; again, and late."""

    @initialize(seed=st.integers(0, 1 << 20))
    def begin(self, seed: int) -> None:
        self.world = World(seed)
        self.world.plan = replace(self.world.plan, people=0)
        self.open = contextlib.ExitStack()
        self.open.enter_context(self.world.opened())
        self.world.go_on(self.world.start())
        self.lives: dict[int, Life] = {}
        self.held: list[int] = []

    @property
    def today(self) -> float:
        return (self.world.plant.life.now() - START) / timedelta(days=1)

    def machine(self, number: int) -> Machine:
        return self.world.machines[number % len(self.world.machines)]

    @rule(
        happenings=st.lists(
            st.tuples(people, draws, st.booleans(), st.sampled_from([0.0, 0.3, 3.0, 9.0])), min_size=1, max_size=5
        )
    )
    def things_happen(self, happenings: list[tuple[int, int, bool, float]]) -> None:
        for person, draw, late, pause in happenings:
            self.something_happens(person, draw, late, pause)

    def something_happens(self, person: int, draw: int, late: bool, pause: float) -> None:
        """A person joins, or goes on; what comes late is told when the next thing is."""
        life = self.lives.get(person)
        if life is None:
            life = self.lives[person] = Life(f"p{person}", random.Random(draw))
            life.begin(self.today)
        else:
            life.chance = random.Random(draw)
            life.go_on(self.today)
        known = {one.id for one in self.world.told}
        fresh = [one for one in life.told if one.id not in known]
        self.held += range(len(self.world.told), len(self.world.told) + len(fresh))
        self.world.told += fresh
        if not late:
            self.tell_what_was_held()
        self.time_passes(pause)

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 5.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.go_on(asyncio.sleep(seconds))

    def tell_what_was_held(self) -> None:
        for index in reversed(self.held):
            self.world.publish(message(self.world.told[index]))
        self.held.clear()

    @precondition(lambda self: self.world.told)
    @rule(draw=draws)
    def told_again(self, draw: int) -> None:
        self.world.publish(message(self.world.told[draw % len(self.world.told)]))

    @rule(number=machines, seconds=st.sampled_from([0.1, 3.0]))
    def kill(self, number: int, seconds: float) -> None:
        machine = self.machine(number)
        if machine.process is not None and not machine.process.frozen:
            self.world.kill(machine)
            self.world.loop.call_later(seconds, self.world.boot_if_dead, machine)

    @rule(number=machines, seconds=st.sampled_from([1.0, 12.0, 30.0]))
    def freeze(self, number: int, seconds: float) -> None:
        machine = self.machine(number)
        if machine.process is not None and not machine.process.frozen:
            self.world.freeze(machine, seconds)

    @rule(number=machines)
    def restart(self, number: int) -> None:
        machine = self.machine(number)
        if machine.process is not None and not machine.process.frozen:

            async def restart() -> None:
                self.world.restart(machine)

            self.world.go_on(restart())

    def teardown(self) -> None:
        """Peace, and the verdict."""
        if hasattr(self, "world"):
            self.tell_what_was_held()
            self.world.go_on(self.world.peace())
            self.open.close()
            assert judge(self.world) == []


TestWorlds = Worlds.TestCase
TestWorlds.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
