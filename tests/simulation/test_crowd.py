"""Many people, few calls, and Bulk requests that come to every end there is: no promise is broken."""

import pytest

from orchestrator.simulation.crowd import Crowd
from orchestrator.simulation.invariants import judge


@pytest.mark.parametrize("seed", [0, 1, 2, 9, 32, 40])
def test_no_seed_breaks_a_promise(seed: int) -> None:
    """In 9 and 32 a call that ended while its process held no partition was counted for ever."""
    world = Crowd(seed)
    world.run()
    assert world.violations == []
    assert list(judge(world)) == []
    assert max(world.operations) > 1, "there is something to judge"
