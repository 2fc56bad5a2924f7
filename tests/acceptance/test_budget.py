"""The budget by the application's own journal: never more in any window, and few calls for groups.

How much of it is used is a figure of `jml bench converge --limit`.
"""

from datetime import datetime
from pathlib import Path

from orchestrator.bench.limiting import most_in_a_window
from tests.acceptance.company import company

RATE, SECONDS = 60, 2.0
"""Of a window of two seconds, so that a machine that is busy has room for its own delays."""


async def test_a_limit_is_kept_in_every_window(tmp_path: Path) -> None:
    budget = f"budget = {{ user_create = {{ calls = {RATE}, seconds = {SECONDS} }} }}"
    async with company(tmp_path, settings=budget) as one, one.at_work("resolver", "connector") as work:
        await work.tell(*(one.joins(f"p{number:03}") for number in range(3 * RATE)))
        await work.done()
        arrived = sorted(
            datetime.fromisoformat(call["received_at"]).timestamp()
            for call in one.journal()
            if call["method"] == "POST"
        )
    assert len(arrived) == 3 * RATE
    assert most_in_a_window(arrived, SECONDS) <= RATE


async def test_many_people_into_few_groups_cost_few_calls(tmp_path: Path) -> None:
    """One PATCH for each person and group would be 400; at scale it is below one in a hundred."""
    groups = '["staff", "site " + person.location]'
    async with company(tmp_path, groups=groups, latency=0.02) as one, one.at_work("resolver", "connector") as work:
        await work.tell(*(one.joins(f"p{number:03}", location=f"S{number % 4}") for number in range(200)))
        await work.done()
        patches = [call for call in one.journal() if call["method"] == "PATCH" and "/Groups" in call["path"]]
        members = sum(len(operation["value"]) for call in patches for operation in call["request"]["Operations"])
    assert members == 400
    assert len(patches) <= 400 / 4


async def test_ten_changes_of_a_person_during_an_outage_cost_one_call(tmp_path: Path) -> None:
    names = [f"p{number:02}" for number in range(20)]
    async with company(tmp_path) as one:
        async with one.at_work("resolver", "connector") as work:
            await work.tell(*(one.joins(name) for name in names))
            await work.done()
        async with one.at_work("resolver") as work:
            for title in range(10):
                await work.tell(*(one.event("worker.moved", name, attributes={"title": f"T{title}"}) for name in names))
        before = len(one.journal())
        async with one.at_work("connector") as work:
            await work.done()
        calls = [call for call in one.journal()[before:] if "/Users/" in call["path"]]  # beside what it asks once
    assert sorted(call["method"] for call in calls) == ["PATCH"] * len(names)
