"""Access rebuilt from the log alone is what the database said, at any instant of lives that nobody wrote for it."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import cast

import pytest

from orchestrator.domain.account import AccountStatus
from orchestrator.domain.breaker import BreakerPolicy, Rule
from orchestrator.domain.sealing import Subject, anonymous
from orchestrator.evidence.access import Holding, Replay
from orchestrator.evidence.entries import recorded
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.flows.breaking import Breaker
from orchestrator.flows.holding import reject, release
from orchestrator.ports import OperatorStore
from orchestrator.simulation.plan import APPS
from orchestrator.simulation.roles import Plant
from orchestrator.simulation.world import World
from orchestrator.testing.auditing import SUBJECT
from orchestrator.testing.rows import ACCOUNT, AccountRow

LOOK_SECONDS = 0.5
IN_FLIGHT = timedelta(seconds=1)
"""An entry has its time a moment before its transaction is committed; within it, the two may differ."""

Rows = dict[tuple[str, str], AccountRow]


@dataclass
class WatchedWorld(World):
    """A world in which somebody copies the table of accounts every now and then."""

    calm: bool = False
    held: bool = False
    """Whether a breaker holds nearly everything that takes access away, until operators let it go or reject it."""
    seen: list[tuple[datetime, Rows]] = field(default_factory=list)

    @property
    def subjects(self) -> dict[str, str]:
        """How the log calls people, by worker id."""
        rows: dict[str, Subject] = self.plant.store.tables.table(SUBJECT)
        return {person_id: one.id for person_id, one in rows.items()}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.plan = replace(self.plan, skew=0.0)  # the log has the times of its writers, a look those of the room
        if self.calm:
            self.plan = replace(self.plan, rate=0.0, nemesis=False)

    async def _main(self) -> None:
        watcher = asyncio.create_task(self._watch())
        await super()._main()
        watcher.cancel()
        self._look()

    def _build(self) -> Plant:
        plant = super()._build()
        if self.held:
            rule = Rule(limit=1, share=0.0, total_limit=1, total_share=0.0)
            plant.breaker = Breaker(BreakerPolicy(timedelta(days=30), rule), APPS)
        return plant

    async def retry_parked(self) -> None:
        """The same operators decide about what is held, and have the connectors look at what is done."""
        await super().retry_parked()
        store, now, who = self.plant.store, self.plant.wall.now(), {"operator": "ann", "reason": "looked"}
        holds = cast(OperatorStore, store.holds)
        for one in await holds.held():
            writer = AuditWriter("operator", now)
            if self.chance.random() < 0.7:
                await release(holds, [one], writer, self.plant.policy, now=now, **who)
            else:
                await reject(holds, [one], writer, now=now, **who)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if hasattr(self, "plant"):
                self._look()

    def _look(self) -> None:
        rows: Rows = dict(self.plant.store.tables.table(ACCOUNT))
        self.seen.append((self.plant.wall.now(), rows))


def released(world: World) -> int:
    return sum(b'"command_released"' in record for record in world.plant.audit_log.entries)


def replayed(world: World, at: datetime | None = None) -> Replay:
    made = Replay(at)
    for one in recorded(enumerate(world.plant.audit_log.entries)):
        made.take(one)
    return made


def differences(rows: Rows, replay: Replay, subjects: dict[str, str]) -> dict[tuple[str, str], list[str]]:
    """Which accounts differ, by subject and application, and in what."""
    present = {(one.subject, one.app): one for one in replay.present()}
    rows = {(subjects[person_id], app): row for (person_id, app), row in rows.items()}
    found = {key: ["only in the log"] for key in present.keys() - rows.keys()}
    for key, row in rows.items():
        holding = present.get(key)
        if problems := ["only in the database"] if holding is None else differing(row, holding):
            found[key] = problems
    return found


def differing(row: AccountRow, holding: Holding) -> list[str]:
    account, progress, desired = row.account, row.progress, holding.desired
    known_as = partial(anonymous, person_id=account.person_id, stand_in=holding.subject)
    assert desired is not None
    pairs: dict[str, tuple[object, object]] = {
        "revision": (account.revision, desired.revision),
        "state": (account.state, desired.state),
        "since": (account.since, desired.since),
        "event": (known_as(account.event_id), desired.event_id),
        "correlation": (known_as(account.correlation_id), desired.correlation_id),
        "policy": (account.policy, desired.policy),
        "applied revision": (progress.applied_revision, holding.applied_revision),
        "status": (progress.status.value, holding.status),
        "attempts": (progress.attempts, holding.attempts),
    }
    pairs["desired groups"] = (set(account.groups), set(desired.groups or ()))
    if progress.status in (AccountStatus.RETRYING, AccountStatus.PARKED):
        pairs["code"] = (progress.error_code, holding.code)
    if progress.status is AccountStatus.APPLIED and progress.intent is None:
        pairs["access"] = (progress.active is True, holding.has_access)
        pairs["sure"] = (True, not holding.unsure)
        pairs["groups"] = (set(progress.groups), set(holding.groups or ()))
    return [
        f"{name}: {one} in the database, {other} in the log" for name, (one, other) in pairs.items() if one != other
    ]


@pytest.mark.parametrize("seed", range(12))
def test_at_any_instant_the_log_says_what_the_database_said(seed: int) -> None:
    world = WatchedWorld(seed, calm=True)
    world.run()
    entries = list(recorded(enumerate(world.plant.audit_log.entries)))
    exact = 0
    changing = 0
    for at, rows in world.seen[:: max(1, len(world.seen) // 60)]:
        just_now = {(one.subject, one.app) for one in entries if at - IN_FLIGHT < one.at <= at}
        found = differences(rows, replayed(world, at), world.subjects)
        assert not {key: why for key, why in found.items() if key not in just_now}, at
        exact += not found
        changing += bool(just_now)
    assert exact > 30
    assert changing > 3, "some looks were taken while something happened"


@pytest.mark.parametrize("seed", [116, *range(100, 112)])
def test_after_every_trouble_the_log_says_what_the_database_says(seed: int) -> None:
    """Processes were killed and frozen, the store and the broker were away, entries came late and twice."""
    world = WatchedWorld(seed)
    world.run()
    at, rows = world.seen[-1]
    assert rows
    assert differences(rows, replayed(world, at), world.subjects) == {}
    assert differences(rows, replayed(world), world.subjects) == {}


@pytest.mark.parametrize("seed", range(201, 209))
def test_what_was_held_and_released_is_what_the_database_says(seed: int) -> None:
    """A released command is the account's desired state from then on, a rejected one never is."""
    world = WatchedWorld(seed, held=True)
    world.run()
    at, rows = world.seen[-1]
    assert released(world) > 0
    assert differences(rows, replayed(world, at), world.subjects) == {}
