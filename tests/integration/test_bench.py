"""The benchmarks run: small, for what they say and not for how fast."""

from typing import Any

from orchestrator.bench.timing import bench_timers
from orchestrator.config import EMBEDDED


async def test_the_benchmark_of_timers_fires_each_once_and_reads_them_back() -> None:
    phases: list[tuple[Any, ...]] = []
    figures = await bench_timers(EMBEDDED, "sqlite", timers=4000, due=700, progress=lambda *one: phases.append(one))
    assert (figures["fired"], figures["read_back"]) == (700, 700)
    assert {phase for phase, *_ in phases} == {"load", "fire"}
    assert figures["floor_seconds"] > 0
