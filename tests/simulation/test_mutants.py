"""The checker is proved by faults of our own: each of them has to be caught, and the table is printed."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import pytest

from orchestrator.simulation.__main__ import run
from orchestrator.simulation.mutants import FURTHER, MUTANTS, SHOWN_BY

SEEDS = 200


class Caught(NamedTuple):
    """The first seed that shows a mutant, and the promise that it broke."""

    mutant: str
    seed: int | None
    promise: str


def hunt(name: str) -> Caught:
    """Try seeds until one shows the mutant."""
    for seed in range(SEEDS):
        if found := run(seed, SHOWN_BY.get(name, "seeds"), mutant=name):
            return Caught(name, seed, found[0].split(":")[0])
    return Caught(name, None, "")


@pytest.fixture(scope="module")
def hunted() -> Iterator[list[Caught]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        yield list(pool.map(hunt, [*MUTANTS, *FURTHER]))


def test_every_mutant_is_caught(hunted: list[Caught], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{'mutant':24} {'seed':>5}  promise")  # noqa: T201 - the table is what the run is for
        for one in hunted:
            print(f"{one.mutant:24} {one.seed if one.seed is not None else '-':>5}  {one.promise}")  # noqa: T201
    assert [one.mutant for one in hunted if one.seed is None] == []


def test_an_entry_of_the_same_microsecond_is_after_the_change() -> None:
    """Entries have microseconds, the server's journal has more digits; here one was written as the answer came."""
    assert run(1924, "handover") == []


@pytest.mark.parametrize("what", sorted(set(SHOWN_BY.values())))
@pytest.mark.parametrize("seed", range(5))
def test_what_shows_a_mutant_breaks_nothing_without_it(what: str, seed: int) -> None:
    """Worlds of chance are run a thousand times elsewhere."""
    assert run(seed, what) == []
