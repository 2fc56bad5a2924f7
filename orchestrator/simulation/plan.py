"""What kind of world a seed makes: how many people and machines, how bad things are, and the policy."""

import random
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from orchestrator.domain.policy import ApplicationPolicy, Policy, compile_policy
from orchestrator.domain.resolve import MAX_SKEW
from orchestrator.testing.scim import Habits

APPS = ("directory", "code")
MOST_SKEW = MAX_SKEW.total_seconds() / 2
"""By which a clock of people's lives is wrong: two of them differ by `MAX_SKEW`."""
MOST_WALL_SKEW = 15.0
"""By which a machine's own is: leases of seconds and looks after 90 seconds need clocks that differ by half a minute at
most."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What kind of world a seed makes."""

    people: int
    partitions: int
    connectors: int
    zone: str
    delete_after: int | None
    rate: float
    nemesis: bool
    habits: dict[str, Habits]
    replica_lag: dict[str, float]
    slow: dict[str, float]
    skew: float
    """How many seconds a machine's clock may be ahead or behind."""


def plan(chance: random.Random) -> Plan:
    """Draw a world: some are calm, most are not."""
    habits = {
        app: Habits(
            unique=chance.random() < 0.8,
            names_conflicts=chance.random() < 0.5,
            speaks_text=chance.random() < 0.3,
        )
        for app in APPS
    }
    return Plan(
        people=chance.randint(3, 6),
        partitions=chance.choice([1, 2, 3]),
        connectors=chance.choice([2, 2, 3]),
        zone=chance.choice(["UTC", "Australia/Melbourne", "America/Los_Angeles"]),
        delete_after=chance.choice([None, None, 0, 2]),
        rate=chance.choice([0.0, 0.03, 0.1, 0.2]),
        nemesis=chance.random() < 0.8,
        habits=habits,
        replica_lag={app: chance.choice([0.0, 0.0, 3.0]) if habits[app].unique else 0.0 for app in APPS},
        slow={app: chance.choice([0.01, 0.1, 2.0]) for app in APPS},
        skew=chance.choice([0.0, 0.0, 2.0, MOST_SKEW]),
    )


@lru_cache
def policy_of(zone: str, delete_after: int | None) -> Policy:
    """The policy of all worlds: one application for everybody, one for a department."""
    common = {
        "userName": "person.id",
        "externalId": "person.id",
        "title": "person.title",
        "displayName": "person.display_name",
        "emails": '[{"value": person.email, "type": "work"}]',
    }
    compiled, problems = compile_policy(
        [
            ApplicationPolicy("directory", common, groups="[person.department]"),
            ApplicationPolicy(
                "code",
                common,
                scope='person.department == "eng"',
                leave_of_absence="deactivate",
                delete_after=None if delete_after is None else timedelta(days=delete_after),
            ),
        ],
        zone,
    )
    assert compiled is not None, problems
    return compiled


def wall_skew(skew: float) -> float:
    """By how many seconds the clock for waiting is wrong on a machine whose clock of people's lives is by `skew`."""
    return max(-MOST_WALL_SKEW, min(skew, MOST_WALL_SKEW))
