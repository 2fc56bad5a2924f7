"""Many people and few calls, so that changes stand in line and go in Bulk requests, and all that a request of many
operations can come to: it is done and nobody hears of it, done in part, answered in part, refused as a whole.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from orchestrator.domain.budget import Limit
from orchestrator.ports import ScimRequest
from orchestrator.simulation.faults import Trouble
from orchestrator.simulation.roles import Plant
from orchestrator.simulation.world import World
from orchestrator.testing.scim import Fate, Plan

PEOPLE = 16
LIMIT = Limit("any", 2, 1.0)
_ODD: tuple[Fate, ...] = ("halfway", "patchy", "unanswered", "lost")
_REFUSALS = (400, 413, 500, 501)


class Crowd(World):
    """A world of chance whose applications have Bulk."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.plan = replace(self.plan, people=PEOPLE)
        self.operations: list[int] = []
        """Of each Bulk request."""

    def _build(self) -> Plant:
        plant = super()._build()
        for temper in self.tempers.values():
            temper.plan = self._meddling(temper.plan)  # type: ignore[assignment]
        return replace(plant, limits=(LIMIT,), bulk=True)

    def _meddling(self, plan: Callable[[ScimRequest], Plan]) -> Callable[[ScimRequest], Plan]:
        trouble = Trouble(random.Random(self.seed))

        def meddled(request: ScimRequest) -> Plan:
            planned = plan(request)
            if request.path != "/Bulk":
                return planned
            self.operations.append(len((request.body or {})["Operations"]))
            trouble.rate = self.trouble.rate
            if planned.fate == "served" and trouble.strikes("bulk: odd", 2):
                return replace(planned, fate=trouble.chance.choice(_ODD))
            if planned.fate == "served" and trouble.strikes("bulk: refused", 0.5):
                return replace(planned, fate="error", status=trouble.chance.choice(_REFUSALS))
            return planned

        return meddled
