"""A thousand worlds, none of which breaks a promise. JML_SEEDS and JML_FIRST_SEED choose others."""

import hashlib
import logging
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
import structlog

from orchestrator.simulation.__main__ import replay, run
from orchestrator.simulation.world import World

FIRST = int(os.environ.get("JML_FIRST_SEED", "0"))
SEEDS = int(os.environ.get("JML_SEEDS", "1000"))
WORKERS = 2
CHUNK = 25


def broken(first: int) -> dict[int, list[str]]:
    """The seeds of one chunk that break something, and what."""
    seeds = range(first, min(first + CHUNK, FIRST + SEEDS))
    return {seed: found for seed in seeds if (found := run(seed))}


def test_no_seed_breaks_a_promise() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        found = {
            seed: why for some in pool.map(broken, range(FIRST, FIRST + SEEDS, CHUNK)) for seed, why in some.items()
        }
    told = "\n".join(f"{replay(seed)}\n    {why[0]}" for seed, why in list(found.items())[:10])
    assert not found, f"{len(found)} of {SEEDS} seeds broke a promise:\n{told}"


def digest(seed: int) -> str:
    """Everything that happened in one run, as one number."""
    happened = hashlib.sha256()
    World(seed, lambda line: happened.update(line.encode())).run()
    return happened.hexdigest()


@pytest.mark.parametrize("seed", [1, 9, 20])
def test_a_seed_runs_the_same_way_in_every_process(seed: int) -> None:
    """Also where strings hash differently; else the command that is printed would replay something else."""
    source = f"from tests.simulation.test_seeds import digest; print(digest({seed}))"
    elsewhere = [
        subprocess.run(
            [sys.executable, "-c", source],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hashes in ("1", "2")
    ]
    assert {digest(seed), digest(seed), *elsewhere} == {digest(seed)}


def test_a_seed_runs_the_same_way_where_logs_are_quiet() -> None:
    before, quiet = structlog.get_config(), structlog.make_filtering_bound_logger(logging.ERROR)
    told = digest(1)
    structlog.configure(wrapper_class=quiet)
    try:
        assert digest(1) == told
    finally:
        structlog.configure(**before)
