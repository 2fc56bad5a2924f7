"""A change of the policy reaches everybody: a timer for each person, spread over a time, on the path of all timers.

Nothing is decided here. The resolver decides each person when the timer fires, with the policy that it has then, and
the breaker stands where it always stands.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from orchestrator.domain.breaker import BreakerPolicy, Window
from orchestrator.domain.planning import Planned
from orchestrator.domain.policy import Policy
from orchestrator.domain.timers import POLICY_CHANGED, policy_event, spread
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.plan import Totals, plan_everybody
from orchestrator.ports import PlanStore, Timer
from orchestrator.ports.policy import PolicyStore
from schemas.audit import AuditKind

PAGE = 1000
"""People in one transaction: a resolver that needs one of them waits no longer than that takes."""


class PastBreaker(NamedTuple):
    """An application in which the policy takes away more access than its breaker lets pass.

    `limit` None: nothing would be held there, because the breaker is off or the application too small for it.
    """

    app: str
    removals: int
    limit: int | None


@dataclass(slots=True)
class Impact:
    """What a policy would change: the totals of the plan, and how much access it would take away by application."""

    totals: Totals = field(default_factory=Totals)
    removals: Counter[str] = field(default_factory=Counter)

    def past(self, breaker: BreakerPolicy | None, population: Mapping[str, int]) -> list[PastBreaker]:
        """Where it takes away more than passes the breaker within one window."""
        limits = {app: limit_of(breaker, app, population.get(app, 0)) for app in self.removals}
        return [
            PastBreaker(app, number, limits[app])
            for app, number in sorted(self.removals.items())
            if number > (limits[app] or 0)
        ]


def limit_of(breaker: BreakerPolicy | None, app: str, population: int) -> int | None:
    """How many removals pass the breaker of an application within a window; None where nothing is ever held."""
    if breaker is None or population < breaker.rule_of(app).min_population:
        return None
    rule = breaker.rule_of(app)
    return min(Window(population).limit(rule), Window(population).limit_of_all(rule))


async def impact(
    store: PlanStore, policy: Policy, now: datetime, progress: Callable[[int], None] = lambda _: None
) -> Impact:
    """What the policy would change for everybody, as `jml plan --all` has it. `progress` is told how many persons were
    looked at."""
    found = Impact()
    async for one in plan_everybody(store, policy, now, found.totals):
        if takes_away(one):
            found.removals[one.app] += 1
        progress(found.totals.persons)
    return found


def takes_away(one: Planned) -> bool:
    """Whether a planned command counts for the breaker."""
    return one.kind in ("deactivate", "delete") or bool(one.groups_removed)


async def schedule(store: PolicyStore, version: str, *, begin: datetime, over: timedelta) -> AsyncIterator[int]:
    """Have everybody decided anew who was decided last by another version than this one, from `begin` on and spread
    evenly; yields after each page of people how many got a timer by then.

    Whoever has such a timer keeps it, so that after a crash the same call goes on where it stopped.
    """
    after, number = "", 0
    while True:
        async with store.change() as transaction:
            found = await transaction.undecided(version, after=after, limit=PAGE)
            cause = policy_event(version)
            await transaction.set_timers(
                [Timer(one, POLICY_CHANGED, spread(one, version, begin, over), cause, POLICY_CHANGED) for one in found]
            )
        if not found:
            return
        after, number = found[-1], number + len(found)
        yield number


async def record(
    store: PolicyStore,
    writer: AuditWriter,
    found: Impact,
    version: str,
    *,
    operator: str,
    over: timedelta,
    now: datetime,
) -> None:
    """Say in the audit log who applies which version, and what it was expected to change."""
    details = {
        "action": "apply_policy",
        "version": version,
        "persons": found.totals.persons,
        "touched": found.totals.touched,
        "commands": {app: dict(sorted(kinds.items())) for app, kinds in sorted(found.totals.commands.items())},
        "over_seconds": int(over.total_seconds()),
    }
    entry = Entry(AuditKind.OPERATOR_ACTED, now, f"operator:{operator}", policy=version, details=details)
    await store.record(writer.stamp([entry]), now=now)
    writer.saved(1)
