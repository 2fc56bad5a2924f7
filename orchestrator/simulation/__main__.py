"""`python -m orchestrator.simulation`: replay one seed, or run many, or a year of contractors.

Exits with 1 when a promise was broken.
"""

import argparse
import sys
import time
from collections.abc import Iterable

from orchestrator.simulation.backlog import Backlog
from orchestrator.simulation.crowd import Crowd
from orchestrator.simulation.handover import Handover
from orchestrator.simulation.invariants import judge
from orchestrator.simulation.mutants import FURTHER, MUTANTS, SHOWN_BY
from orchestrator.simulation.world import World
from orchestrator.simulation.year import END, ZONES, Year

WORLDS: dict[str, type[World]] = {"seeds": World, "backlog": Backlog, "handover": Handover, "crowd": Crowd}


def main(arguments: list[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds, from that one on")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--mutant", choices=sorted(MUTANTS | FURTHER), help="with one fault of our own switched on")
    parser.add_argument(
        "what",
        nargs="?",
        choices=[*WORLDS, "year"],
        help="worlds of chance (seeds), one leaver behind a line of joiners (backlog), a rebalance during long calls "
        "(handover), many people and Bulk requests (crowd), or a year of contractors; without it seeds, or what shows "
        "the mutant",
    )
    parser.add_argument("--people", type=int, default=1000, help="of the year")
    given = parser.parse_args(arguments)
    if given.what == "year":
        return live_through_a_year(given.people, given.seed)
    began = time.monotonic()
    broken = 0
    what = given.what or SHOWN_BY.get(given.mutant, "seeds")
    for seed in range(given.seed, given.seed + given.count):
        found = run(seed, what, mutant=given.mutant, trace=given.trace)
        broken += bool(found)
        _print([f"seed {seed}: {one}" for one in found])
    seconds = time.monotonic() - began
    _print([f"{broken} of {given.count} seeds broke a promise, {given.count / seconds:.1f} seeds a second"])
    return 1 if broken else 0


def live_through_a_year(people: int, seed: int) -> int:
    """A year of contractors in thirty zones; every broken promise is printed."""
    began = time.monotonic()
    year = Year(people, seed).run()
    _print(year.violations)
    out = sum(one.over is not None and one.over < END for one in year.contracts)
    _print(
        [
            f"{people} contractors in {len(ZONES)} zones, {out} of them left; {year.killed} schedulers killed; "
            f"{len(year.violations)} broken promises; {time.monotonic() - began:.0f} s"
        ]
    )
    return 1 if year.violations else 0


def run(seed: int, what: str = "seeds", *, mutant: str | None = None, trace: bool = False) -> list[str]:
    """What one seed breaks in one kind of world; see `WORLDS`."""
    world = WORLDS[what](seed, _show) if trace else WORLDS[what](seed)
    if mutant is None:
        return judge(world.run())
    with (MUTANTS | FURTHER)[mutant].switched_on():
        return judge(world.run())


def replay(seed: int, what: str = "seeds") -> str:
    """The command that runs a seed again."""
    return f"python -m orchestrator.simulation {what} --seed {seed} --trace"


def _show(line: str) -> None:
    _print([line])


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
