"""`python -m orchestrator.chaos.role ROLE`: what `jml run ROLE` does, on a clock that can be set wrong.

With `--mutant` one safeguard is taken out of this process first; see `mutants`. Nothing in production knows of either.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

from orchestrator.chaos.clock import SteppedClock
from orchestrator.cli.options import run_service
from orchestrator.cli.running import serve
from orchestrator.config import load_config
from orchestrator.log import configure
from orchestrator.roles import role


def main(arguments: list[str] | None = None) -> None:
    """Run the role until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.chaos.role", description=__doc__)
    parser.add_argument("role", help="which role")
    parser.add_argument("--config", type=Path, required=True, help="the run's jml.toml")
    parser.add_argument("--clock", type=Path, required=True, help="the file with the seconds by which its clock is off")
    parser.add_argument("--mutant", help="the safeguard to take out")
    given = parser.parse_args(arguments)
    configure("info")
    make = role(given.role)
    with ExitStack() as stack:
        if given.mutant:
            from orchestrator.chaos.mutants import MUTANTS

            stack.enter_context(MUTANTS[given.mutant].switched_on())
        run_service(serve(load_config(given.config), {given.role: make}, clock=SteppedClock(given.clock)))


if __name__ == "__main__":
    main()
