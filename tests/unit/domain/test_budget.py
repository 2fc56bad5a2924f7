"""The budget: never more than the limit in any window, nearly all of it, and a stock for leavers."""

import heapq
import random
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.domain.budget import (
    LEAST_PACE,
    Adaptive,
    Budget,
    CallKind,
    Limit,
    in_force,
    kind_of,
    per_second,
)

WRITE = CallKind.USER_WRITE


class Run(NamedTuple):
    """What an application counted."""

    counted: list[float]
    most: int
    used: float


class Process:
    """Somebody who always has something to send, over so many connections."""

    def __init__(self, limit: Limit, share: float, connections: int) -> None:
        self.budget = Budget([limit], now=0.0, share=share)
        self.under_way: list[tuple[float, float]] = []
        self.connections = connections

    def step(self, now: float, latency: float, jitter: float, leavers: float, chance: random.Random) -> list[float]:
        """Send what may go; returns when the application counts each call."""
        while self.under_way and self.under_way[0][0] <= now:
            ended, sent = heapq.heappop(self.under_way)
            self.budget.done(WRITE, sent, ended)
        counted = []
        while len(self.under_way) < self.connections:
            if self.budget.wait(WRITE, now, urgent=chance.random() < leavers) > 0:
                break
            self.budget.take(WRITE, now)
            late = chance.random() * jitter
            heapq.heappush(self.under_way, (now + latency + late, now))
            counted.append(now + latency / 2 + late)
        return counted


def run(
    limit: Limit,
    *,
    seconds: float,
    latency: float = 0.01,
    jitter: float = 0.0,
    shares: tuple[float, ...] = (1.0,),
    seed: int = 0,
) -> Run:
    """Processes that send as much as they may; the application looks at every window of the limit's length."""
    chance = random.Random(seed)
    processes = [Process(limit, share, 64) for share in shares]
    now, counted = 0.0, list[float]()
    while now < seconds:
        following = now + limit.seconds
        for process in processes:
            counted += process.step(now, latency, jitter, 0.0, chance)
            wait = process.budget.wait(WRITE, now, urgent=False)
            following = min(following, now + max(wait, limit.seconds / 10_000))
            if process.under_way:
                following = min(following, process.under_way[0][0])
        now = max(following, now + 1e-6)
    counted.sort()
    after_the_first = sum(moment > limit.seconds for moment in counted)
    whole = (seconds - limit.seconds) * limit.calls / limit.seconds
    return Run(counted, most_in_a_window(counted, limit.seconds), after_the_first / whole)


def most_in_a_window(counted: list[float], seconds: float) -> int:
    """The most calls in any half-open window of that length."""
    most = start = 0
    for end, moment in enumerate(counted):
        while counted[start] <= moment - seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


LIMITS = [
    Limit("any", 100, 1.0),
    Limit("any", 10, 1.0),
    Limit("any", 600, 60.0, 20),
    Limit("user_write", 180, 60.0, 20),
    Limit("any", 1000, 3600.0),
    Limit("any", 50, 10.0, 50),
    Limit("any", 1, 2.0),
]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda one: f"{one.calls} in {one.seconds:.0f}")
def test_uses_at_least_95_percent_and_never_passes_the_limit(limit: Limit) -> None:
    found = run(limit, seconds=limit.seconds * 12, latency=limit.seconds / 100)
    assert found.most <= limit.calls
    assert found.used >= 0.95


@settings(max_examples=60, deadline=None)
@example(limit=LIMITS[5], latency=0.04867022161797135, jitter=0.046875, leavers=0.9, seed=247)
@given(
    limit=st.sampled_from(LIMITS),
    latency=st.floats(0.0, 0.05),
    jitter=st.floats(0.0, 0.3),
    leavers=st.sampled_from([0.0, 0.1, 0.9]),
    seed=st.integers(0, 1000),
)
def test_no_jitter_and_no_leaver_makes_it_pass_the_limit(
    limit: Limit, latency: float, jitter: float, leavers: float, seed: int
) -> None:
    """Latency and jitter in windows. The application may count a call anywhere between its start and its answer; how
    long it takes at least is known from a quick one."""
    chance = random.Random(seed)
    process = Process(limit, 1.0, 64)
    process.budget.take(WRITE, 0.0)
    process.budget.done(WRITE, 0.0, latency * limit.seconds)
    now, counted = 1e-6, [latency * limit.seconds / 2]
    while now < limit.seconds * 4:
        counted += process.step(now, latency * limit.seconds, jitter * limit.seconds, leavers, chance)
        wait = process.budget.wait(WRITE, now, urgent=True)
        nearest = process.under_way[0][0] if process.under_way else now + limit.seconds
        now = max(min(now + max(wait, limit.seconds / 2000), nearest), now + 1e-6)
    counted.sort()
    assert most_in_a_window(counted, limit.seconds) <= limit.calls


def test_the_shares_of_all_processes_are_the_whole_and_no_more() -> None:
    found = run(Limit("any", 100, 1.0), seconds=20, shares=(0.5, 0.25, 0.25))
    assert found.most <= 100
    assert found.used >= 0.95


def test_what_is_gained_in_a_rebalance_comes_with_an_empty_bucket() -> None:
    """Whoever had it before may just have used it."""
    budget = Budget([Limit("any", 100, 10.0, 50)], now=0.0)
    budget.wait(WRITE, 100.0, urgent=False)
    budget.resize(0.5, 100.0)
    budget.resize(1.0, 100.0)
    at_once = 0
    while budget.wait(WRITE, 100.0, urgent=True) == 0.0:
        budget.take(WRITE, 100.0)
        at_once += 1
    assert at_once == 1


def test_without_a_share_nothing_goes_and_without_limits_everything() -> None:
    limited, free = Budget([Limit("any", 100, 1.0)], now=0.0), Budget()
    limited.resize(0.0, 1.0)
    assert limited.wait(WRITE, 500.0, urgent=True) == float("inf")
    free.resize(0.0, 1.0)
    assert free.wait(WRITE, 1.0, urgent=False) == 0.0


def test_a_stock_is_kept_for_leavers_and_costs_the_others_no_flow() -> None:
    limit = Limit("any", 1000, 3600.0, 100)
    budget = Budget([limit], leaver_share=0.2, now=0.0)
    now, joiners, leavers = 3600.0, 0, 0
    while budget.wait(WRITE, now, urgent=False) == 0.0:
        budget.take(WRITE, now)
        joiners += 1
    while budget.wait(WRITE, now, urgent=True) == 0.0:
        budget.take(WRITE, now)
        leavers += 1
    assert (joiners, leavers) == (80, 20)


def test_kinds_have_limits_of_their_own_and_share_the_one_over_all() -> None:
    budget = Budget([Limit("user_create", 1, 10.0), Limit("any", 2, 10.0, 2)], leaver_share=0.0, now=0.0)
    assert budget.wait(CallKind.USER_CREATE, 20.0, urgent=False) == 0.0
    budget.take(CallKind.USER_CREATE, 20.0)
    assert budget.wait(CallKind.USER_CREATE, 20.0, urgent=False) > 0.0
    assert budget.wait(CallKind.READ, 20.0, urgent=False) == 0.0
    budget.take(CallKind.READ, 20.0)
    assert budget.wait(CallKind.GROUP_WRITE, 20.0, urgent=False) > 0.0
    budget.forget(CallKind.READ)
    assert budget.wait(CallKind.GROUP_WRITE, 20.0, urgent=False) == 0.0


def test_half_the_pace_is_half_the_calls() -> None:
    budget = Budget([Limit("any", 100, 1.0)], now=0.0)
    budget.adapt(0.5, 0.0)
    now, sent = 0.0, 0
    while now < 10.0:
        if budget.wait(WRITE, now, urgent=False) == 0.0:
            budget.take(WRITE, now)
            budget.done(WRITE, now, now)
            sent += 1
        now += 0.001
    assert 0.46 < sent / 1000 < 0.5


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/Users", "user_create"),
        ("PATCH", "/Users/1", "user_write"),
        ("DELETE", "/Users/1", "user_write"),
        ("PATCH", "/Groups/1", "group_write"),
        ("POST", "/Groups", "group_write"),
        ("GET", "/Groups", "read"),
        ("POST", "/Users/.search", "read"),
        ("POST", "/Bulk", "user_write"),
    ],
)
def test_what_a_call_counts_as(method: str, path: str, kind: str) -> None:
    assert kind_of(method, path) == kind


def test_what_is_configured_replaces_what_the_dialect_says() -> None:
    told = [Limit("user_create", 180, 60.0, 20), Limit("user_write", 600, 60.0)]
    assert in_force(told, [Limit("user_write", 60, 60.0)]) == (told[0], Limit("user_write", 60, 60.0))


@pytest.mark.parametrize(
    ("rate", "calls", "seconds"), [(10, 10, 1.0), (0.5, 1, 2.0), (2.5, 5, 2.0), (0.00001, 1, 3600)]
)
def test_a_rate_may_be_a_fraction(rate: float, calls: int, seconds: float) -> None:
    assert per_second(rate)[:3] == ("any", calls, seconds)


# --- adaptive --------------------------------------------------------------------------------------------------------


def test_a_refusal_halves_and_success_brings_it_back() -> None:
    adaptive = Adaptive(0.0)
    adaptive.refused(10.0)
    adaptive.refused(10.1)  # under way together with the first
    assert (adaptive.pace, adaptive.width) == (0.5, 0.5)
    for second in range(11, 15):
        adaptive.answered(0.05, float(second))
    assert adaptive.pace == 1.0
    assert adaptive.width == 1.0


def test_refusals_in_a_row_slow_down_to_a_least_pace_and_wait_ever_longer() -> None:
    adaptive, waits = Adaptive(0.0), []
    for second in range(0, 40, 2):
        adaptive.refused(float(second))
        waits.append(adaptive.own_wait)
    assert adaptive.pace == LEAST_PACE
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == 60.0


def test_rising_latency_narrows_the_lane_and_leaves_the_pace() -> None:
    adaptive = Adaptive(0.0)
    for call in range(100):
        adaptive.answered(0.02, call * 0.1)
    for call in range(200):
        adaptive.answered(1.0, 10 + call * 0.1)
    assert adaptive.width < 0.5
    assert adaptive.pace == 1.0
    for call in range(400):
        adaptive.answered(0.02, 30 + call * 0.1)
    assert adaptive.width == 1.0


def test_an_application_that_is_always_slow_is_not_in_trouble() -> None:
    adaptive = Adaptive(0.0)
    for call in range(200):
        adaptive.answered(2.0, call * 0.5)
    assert adaptive.width == 1.0


def test_a_call_that_ends_while_the_process_has_no_share_is_not_counted_for_ever() -> None:
    """Its partitions were taken away in the middle of it, and came back."""
    budget = Budget([Limit("any", 1, 1.0)])
    budget.take(CallKind.READ, 0.0)
    budget.resize(0.0, 0.5)
    budget.done(CallKind.READ, 0.0, 0.6)
    assert budget.wait(CallKind.READ, 0.7, urgent=True) == float("inf")
    budget.resize(1.0, 5.0)
    assert budget.wait(CallKind.READ, 10.0, urgent=False) == 0.0
