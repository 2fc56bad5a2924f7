"""One run: a calm while, then load, blows and faults, then peace, quiet and the verdict."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from orchestrator.chaos.evidence import Blow
from orchestrator.chaos.judge import judge
from orchestrator.chaos.nemesis import Nemesis
from orchestrator.chaos.plan import make_plan, spoiled_records
from orchestrator.chaos.report import Outcome
from orchestrator.chaos.services import Services
from orchestrator.chaos.stage import SESSION_SECONDS, Progress, Setting, Stage, open_stage

SETTLE_SECONDS = 300.0
"""An intent that a killed process left open is looked at after 90 s, and once more 90 s later."""
SETTLE_PATIENTLY_SECONDS = 700.0
"""What a connector put off while its clock was five minutes ahead is due five minutes later."""
CALM_SHARE = 0.2
"""Of the people and the time: a while without blows and faults, to compare the times with."""
CALM = "C"
SPOILED_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is given."""

    kafka: str
    store: str
    seed: int = 1
    people: int = 2000
    seconds: float = 180.0
    apps: int = 8
    faults: bool = True
    rechecks: bool = True
    services: Services = Services()


async def run_chaos(settings: Settings, folder: Path, progress: Progress) -> Outcome:
    """Play it in `folder`, which keeps all evidence. Raises UserError where it would touch what is not its own."""
    setting = Setting(settings.kafka, settings.store, settings.seed, settings.apps, rechecks=settings.rechecks)
    async with open_stage(setting, folder) as stage:
        return await _play(settings, stage, progress)


async def _play(settings: Settings, stage: Stage, progress: Progress) -> Outcome:
    await stage.until_ready(progress)
    calm_at = stage.clock.now()
    await _calm(settings, stage, progress)
    started = stage.clock.now()
    nemesis = Nemesis(
        stage.workers,
        settings.seed,
        stage.clock,
        settings.services,
        session_timeout=SESSION_SECONDS,
        patient=settings.rechecks,
    )
    stage.faults(on=settings.faults)
    plan = make_plan(settings.seed, settings.people, settings.seconds, started, stage.canary)
    count = max(3, round(settings.people * SPOILED_SHARE))
    spoiled = spoiled_records(settings.seed, count, settings.seconds, stage.canary)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.publish(plan, progress, spoiled=spoiled))
        if settings.faults:
            tasks.create_task(nemesis.rage(settings.seconds))
        else:
            tasks.create_task(asyncio.sleep(settings.seconds))
    stage.exits += nemesis.exits
    stage.faults(on=False)
    healed = stage.clock.now()
    await stage.until_ready(progress, again=True)
    limit = SETTLE_PATIENTLY_SECONDS if settings.rechecks else SETTLE_SECONDS
    settled = await stage.until_quiet(limit, progress)
    settle_seconds = (stage.clock.now() - healed).total_seconds()
    blows: list[Blow] = nemesis.blows
    evidence = await stage.end(blows)
    violations = judge(evidence)
    if not settled:
        violations.insert(0, f"quiet: not within {limit:.0f} s after peace; what follows was judged early")
    return Outcome(
        settings.seed,
        evidence,
        violations,
        calm_at.timestamp(),
        started.timestamp(),
        healed.timestamp(),
        settle_seconds,
    )


async def _calm(settings: Settings, stage: Stage, progress: Progress) -> None:
    people, seconds = max(5, round(settings.people * CALM_SHARE)), settings.seconds * CALM_SHARE
    plan = make_plan(settings.seed, people, seconds, stage.clock.now(), stage.canary, prefix=CALM)
    await asyncio.gather(stage.publish(plan, progress, phase="calm"), asyncio.sleep(seconds))
