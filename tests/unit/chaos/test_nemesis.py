"""Who strikes in a chaos run, and what is certain of it: each kind of blow, at least once, whatever the time."""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.adapters.clock import SystemClock
from orchestrator.chaos.fleet import CREW, DATABASE, Ground, Worker, can_fill_disks
from orchestrator.chaos.nemesis import Nemesis
from orchestrator.chaos.proxy import Link
from orchestrator.chaos.services import Services
from orchestrator.simulation.loop import SimulationLoop

KINDS = {"kill", "pause", "cut", "clock", *(["disk"] if can_fill_disks() else [])}


class Patient(Worker):
    """A role without a process: what is done to it takes its time, and that is all."""

    alive = True

    @property
    def running(self) -> bool:
        return self.alive

    async def start(self) -> None:
        self.alive = True

    async def kill(self) -> None:
        self.alive = False

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def without_disk(self, seconds: float, room: int) -> None:
        await asyncio.sleep(seconds)

    async def with_wrong_clock(self, seconds: float, by: float) -> None:
        await asyncio.sleep(seconds)


class ItsClock(SystemClock):
    """Goes by the time of a loop."""

    def __init__(self, loop: SimulationLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._loop.time(), UTC)


def raged(folder: Path, seed: int, seconds: float) -> tuple[Nemesis, list[Patient], float]:
    """Who has raged, against whom, and for how long."""
    ground = Ground(folder, "token", "postgresql+asyncpg://nobody@127.0.0.1/jml", SystemClock())
    workers = [Patient(role, number, ground, 0) for role, count in CREW.items() for number in range(1, count + 1)]
    for one in workers:
        one.links = {
            DATABASE: Link("127.0.0.1", 9),
            **({"app0": Link("127.0.0.1", 9)} if one.role == "connector" else {}),
        }
    loop = SimulationLoop(random.Random(seed))  # type: ignore[abstract]  # there is no outside
    nemesis = Nemesis(workers, seed, ItsClock(loop), Services(), session_timeout=3)
    loop.run(nemesis.rage(seconds))
    return nemesis, workers, loop.time()


@pytest.mark.parametrize("seed", range(6))
def test_each_kind_of_blow_is_struck_however_short_the_run(tmp_path: Path, seed: int) -> None:
    nemesis, workers, _ = raged(tmp_path, seed, 0.0)
    struck = Counter(blow.what for blow in nemesis.blows)
    assert struck.keys() == KINDS
    assert (struck["kill"], struck["pause"], struck["cut"], struck["clock"]) == (3, 1, 2, 1)
    assert nemesis.exits == []
    assert all(one.running and all(link.whole for link in one.links.values()) for one in workers)


def test_a_longer_run_has_more_of_them_and_ends_when_it_is_time(tmp_path: Path) -> None:
    nemesis, _, took = raged(tmp_path, 1, 180.0)
    assert 180.0 <= took < 220.0
    struck = Counter(blow.what for blow in nemesis.blows)
    assert min(struck[kind] for kind in KINDS) > 1
    assert struck["kill"] > 2 * struck["pause"]


@pytest.mark.parametrize("seed", range(12))
def test_nobody_is_frozen_while_another_one_of_its_role_is_struck(tmp_path: Path, seed: int) -> None:
    nemesis, _, _ = raged(tmp_path, seed, 300.0)
    for pause in (blow for blow in nemesis.blows if blow.what == "pause"):
        role = pause.whom.partition("-")[0]
        beside = [
            one for one in nemesis.blows if one is not pause and one.whom.startswith(f"{role}-") and one.what != "cut"
        ]
        assert not [one for one in beside if one.begin < pause.begin < one.end]
