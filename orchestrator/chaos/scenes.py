"""Small fixed scenes, each of which brings a system that lacks one safeguard to break a promise."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from orchestrator.chaos.faults import Habit
from orchestrator.chaos.fleet import DATABASE, TIMEOUT_SECONDS
from orchestrator.chaos.plan import STATED_AGO, Told
from orchestrator.chaos.proxy import SILENT
from orchestrator.chaos.stage import SESSION_SECONDS, Progress, Stage
from orchestrator.domain.intent import LEASE_SECONDS

SMALL = {"resolver": 1, "connector": 1, "relay": 1, "auditor": 1}
SETTLE_SECONDS = 150.0
PATIENT_SECONDS = 8.0
"""A session that outlives a machine that is slow for a moment: here only the drain is to be seen."""
FETCHED_SECONDS = 3.0
"""By then a resolver has read what was sent to it."""

Play = Callable[[Stage, Progress], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scene:
    """Who is on the stage, how the application behaves, and what happens."""

    about: str
    play: Play
    crew: Mapping[str, int]
    habit: Habit
    unique: bool = False
    session: float = SESSION_SECONDS
    timeout: float = TIMEOUT_SECONDS


CALM = Habit.of("slow", rate=0.0)
SLUGGISH = Habit.of("slow", rate=1.0)
BUSY = Habit.of("slow", rate=1.0, slow=0.15)
LONG = Habit.of("slow create", rate=1.0, slow=LEASE_SECONDS + 2)
RUDE = Habit.of("200 without effect", "commit then time out", "429 seconds", rate=0.3)


async def _resolvers_die_with_a_batch(stage: Stage, progress: Progress) -> None:
    """Their way to the database is cut: what they have read they cannot save. Then they are killed."""
    resolvers = stage.crew("resolver")
    for one in resolvers:
        one.links[DATABASE].cut(SILENT)
    await stage.publish(joiners(stage, 40), progress)
    await asyncio.sleep(FETCHED_SECONDS)
    await asyncio.gather(*(one.kill() for one in resolvers))
    for one in resolvers:
        one.links[DATABASE].heal()
        await one.start()


async def _resolvers_die_after_a_commit(stage: Stage, progress: Progress) -> None:
    resolvers = stage.crew("resolver")
    await stage.publish(joiners(stage, 40), progress)
    await stage.until_decided(40)
    await asyncio.gather(*(one.kill() for one in resolvers))
    for one in resolvers:
        await one.start()


async def _an_application_misbehaves(stage: Stage, progress: Progress) -> None:
    """Calls all the while, every event twice; then everybody leaves."""
    hired = joiners(stage, 120, seconds=8.0)
    await stage.publish(sorted([*hired, *hired], key=lambda one: one.offset), progress)
    await stage.until_quiet(SETTLE_SECONDS, progress)
    await stage.publish(leavers(stage, 40), progress)


async def _connectors_die_in_mid_call(stage: Stage, progress: Progress) -> None:
    connectors = stage.crew("connector")
    await stage.publish(joiners(stage, 60), progress)
    await stage.until_called(8)
    await asyncio.gather(*(one.kill() for one in connectors))
    for one in connectors:
        await one.start()


async def _a_connector_freezes(stage: Stage, progress: Progress) -> None:
    """Its work goes to the other one; then it wakes up and goes on with what it was doing."""
    await stage.publish(joiners(stage, 60), progress)
    await stage.until_called(8)
    await stage.crew("connector")[0].pause(SESSION_SECONDS * 4)


async def _a_connector_joins(stage: Stage, progress: Progress) -> None:
    """It was frozen for so long that it is no member any more, and comes when the other one has its hands full: with
    creates that take longer than a lease."""
    late = stage.crew("connector")[1]
    late.freeze()
    await asyncio.sleep(PATIENT_SECONDS * 1.5)
    await stage.publish(joiners(stage, 8), progress)
    await stage.until_intended(8)
    late.thaw()


async def _joiners_stand_in_line(stage: Stage, progress: Progress) -> None:
    """Ten leave when 400 have just been hired."""
    await stage.publish(joiners(stage, 10), progress)
    await stage.until_quiet(SETTLE_SECONDS, progress)
    await stage.publish(joiners(stage, 400, first=10), progress)
    await stage.until_called(30)
    await stage.publish(leavers(stage, 10), progress)


SCENES: dict[str, Scene] = {
    "batch": Scene("resolvers die with a batch", _resolvers_die_with_a_batch, {**SMALL, "resolver": 2}, CALM),
    "commit": Scene("resolvers die after a commit", _resolvers_die_after_a_commit, {**SMALL, "resolver": 2}, CALM),
    "rude": Scene("an application misbehaves", _an_application_misbehaves, SMALL, RUDE),
    "die": Scene("connectors die in mid-call", _connectors_die_in_mid_call, {**SMALL, "connector": 2}, SLUGGISH),
    "freeze": Scene("a connector freezes", _a_connector_freezes, {**SMALL, "connector": 2}, SLUGGISH),
    "join": Scene(
        "a connector joins",
        _a_connector_joins,
        {**SMALL, "connector": 2},
        LONG,
        session=PATIENT_SECONDS,
        timeout=LEASE_SECONDS * 2,
    ),
    "line": Scene("joiners stand in line", _joiners_stand_in_line, SMALL, BUSY, unique=True),
}

SCENE_OF = {
    "commit-first": "batch",
    "no-outbox": "commit",
    "skip-read-back": "rude",
    "repeat-post": "rude",
    "no-inbox": "rude",
    "ignore-retry-after": "rude",
    "ignore-intent": "die",
    "no-fence": "freeze",
    "no-drain": "join",
    "one-lane": "line",
}
"""By mutant, the scene that provokes it."""


def joiners(stage: Stage, count: int, *, first: int = 0, seconds: float = 0.0) -> list[Told]:
    """So many are hired, over so many seconds."""
    today = stage.clock.now().date()
    return [
        _told(
            stage,
            number,
            "joined",
            seconds * (number - first) / count,
            engagement_id=f"S{number:05}-1",
            kind="employee",
            start_date=today - timedelta(days=30),
            contract_end=None,
            attributes={
                "given_name": stage.canary,
                "family_name": f"{stage.canary}-{number}",
                "display_name": f"{stage.canary} {number}",
                "user_name": f"{stage.canary}.s{number:05}@example.com",
                "email": f"{stage.canary}.s{number:05}@example.com",
                "department": "eng",
                "title": "Title 0",
            },
        )
        for number in range(first, first + count)
    ]


def leavers(stage: Stage, count: int) -> list[Told]:
    """The first of them leave; their last day is over."""
    last = stage.clock.now().date() - timedelta(days=1)
    return [
        _told(stage, number, "left", 0.0, engagement_id=f"S{number:05}-1", last_day=last) for number in range(count)
    ]


def _told(stage: Stage, number: int, what: str, offset: float, **data: Any) -> Told:
    person = f"S{number:05}"
    return Told(f"of{person}/{what}", person, what, stage.clock.now() - STATED_AGO, data, offset)
