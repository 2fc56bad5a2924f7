"""A connector joins while another one waits for creates that take longer than a lease: only its drain keeps the new
owner from looking too early."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

from orchestrator.domain.intent import LEASE_SECONDS
from orchestrator.ports import ScimRequest
from orchestrator.simulation.backlog import joined
from orchestrator.simulation.oracle import Told
from orchestrator.simulation.roles import Plant
from orchestrator.simulation.scenario import START, Arrival, message
from orchestrator.simulation.world import Machine, World
from orchestrator.testing.scim import Habits, Plan

JOINERS = 6
_DAY = 0.1
"""On which everybody joins."""
_LONG = LEASE_SECONDS + 2


class Handover(World):
    """A calm world but for its slow creates, of which a second one makes a second account."""

    def __post_init__(self) -> None:
        super().__post_init__()
        apps = self.plan.habits
        self.plan = replace(
            self.plan,
            rate=0.0,
            nemesis=False,
            skew=0.0,
            partitions=3,
            connectors=1,
            habits=dict.fromkeys(apps, Habits(unique=False, timeout=_LONG * 2)),
            replica_lag=dict.fromkeys(apps, 0.0),
            slow=dict.fromkeys(apps, 0.01),
        )

    def _build(self) -> Plant:
        plant = super()._build()
        for temper in self.tempers.values():
            temper.plan = _slowly(temper.plan)  # type: ignore[assignment]
        return plant

    async def _main(self) -> None:
        await self.start()
        await self._tell()
        await asyncio.sleep(2)
        self.machines.append(Machine("connector", len(self.machines)))
        self._boot(self.machines[-1])
        await asyncio.sleep(_LONG * 4)
        await self.peace()

    def _story(self) -> list[Told]:
        return [joined(f"p{number}", _DAY) for number in range(JOINERS)]

    def _arrivals(self) -> Iterable[Arrival]:
        return [Arrival((one.stated - START) / timedelta(days=1), message(one)) for one in self.told]

    def _create_accounts(self) -> None:
        """Nobody has one."""


def _slowly(quick: Callable[[ScimRequest], Plan]) -> Callable[[ScimRequest], Plan]:
    def plan(request: ScimRequest) -> Plan:
        create = request.method == "POST" and request.path == "/Users"
        return replace(quick(request), arrives=_LONG) if create else quick(request)

    return plan
