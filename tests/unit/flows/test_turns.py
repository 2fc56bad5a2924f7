"""Whose turn it is: slots and budget together, leavers first."""

import asyncio
import random

import pytest

from orchestrator.domain.budget import Budget, CallKind, Limit
from orchestrator.flows.turns import Turn, Turns
from orchestrator.simulation.loop import SimulationLoop
from tests.unit.flows.fakes import rounds


async def in_line(turns: Turns, served: list[str], name: str) -> Turn:
    turn = await turns.take(CallKind.USER_WRITE, urgent=name.startswith("leaver"))
    served.append(name)
    return turn


async def test_whoever_takes_access_away_goes_first() -> None:
    turns, served = Turns(1), list[str]()
    first = await turns.take(urgent=False)
    waiting = [
        asyncio.create_task(in_line(turns, served, name)) for name in ("joiner 1", "joiner 2", "leaver 1", "leaver 2")
    ]
    await rounds()
    turns.end(first)
    await rounds()
    for index in (2, 3, 0):
        turns.end(waiting[index].result())
        await rounds()
    assert served == ["leaver 1", "leaver 2", "joiner 1", "joiner 2"]


async def test_whoever_is_cancelled_in_line_takes_no_slot_with_it() -> None:
    turns, served = Turns(1), list[str]()
    held = await turns.take(urgent=False)
    first, second = (asyncio.create_task(in_line(turns, served, name)) for name in "ab")
    await rounds()
    first.cancel()
    turns.end(held)
    await second
    assert served == ["b"]


async def test_a_turn_given_in_the_moment_of_cancellation_is_passed_on() -> None:
    turns, served = Turns(1), list[str]()
    held = await turns.take(urgent=False)
    first, second = (asyncio.create_task(in_line(turns, served, name)) for name in "ab")
    await rounds()
    turns.end(held)
    first.cancel()  # it holds the turn and has not noticed yet
    await second
    assert served == ["b"]


async def test_fewer_slots_while_the_application_struggles() -> None:
    turns = Turns(4)
    turns.widen(0.25)
    held = await turns.take(urgent=False)
    waiting = asyncio.create_task(turns.take(urgent=False))
    await rounds()
    assert not waiting.done()
    turns.widen(1.0)
    turns.end(await waiting)
    turns.end(held)


async def test_others_make_way_while_somebody_leaves() -> None:
    turns, served = Turns(8), list[str]()
    turns.make_way(True)
    first = [asyncio.create_task(in_line(turns, served, f"joiner {number}")) for number in range(4)]
    leavers = [asyncio.create_task(in_line(turns, served, f"leaver {number}")) for number in range(3)]
    await rounds()
    assert sorted(served) == ["joiner 0", "joiner 1", "leaver 0", "leaver 1", "leaver 2"]
    turns.end(leavers[0].result())
    await rounds()
    assert turns.under_way == 4, "two of eight slots, whoever else is under way"
    turns.end(first[0].result())
    await rounds()
    assert served[-1] == "joiner 2"
    turns.make_way(False)
    await rounds()
    assert served[-1] == "joiner 3"


async def test_whoever_came_first_goes_first_whatever_is_asked() -> None:
    turns, served = Turns(1), list[CallKind]()
    held = await turns.take(urgent=False)
    kinds = [CallKind.GROUP_WRITE, CallKind.READ, CallKind.GROUP_WRITE, CallKind.USER_CREATE]

    async def take(kind: CallKind) -> None:
        turn = await turns.take(kind, urgent=False)
        served.append(kind)
        turns.end(turn)

    waiting = [asyncio.create_task(take(kind)) for kind in kinds]
    await rounds()
    turns.end(held)
    await asyncio.gather(*waiting)
    assert served == kinds


async def test_whoever_has_to_hurry_goes_ahead_from_where_it_stands() -> None:
    turns, served = Turns(1), list[str]()
    held = await turns.take(urgent=False)

    async def take(*whom: str) -> None:
        turn = await turns.take(urgent=False, whom=whom)
        served.append(whom[0])
        turns.end(turn)

    waiting = [asyncio.create_task(take(*whom)) for whom in (("a",), ("b",), ("c", "d"), ("e",))]
    await rounds()
    turns.hurry({"d", "nobody"})
    turns.end(held)
    await asyncio.gather(*waiting)
    assert served == ["c", "a", "b", "e"]
    assert turns.under_way == 0


async def test_whoever_has_to_hurry_takes_none_of_the_slots_of_the_others() -> None:
    turns, served = Turns(8), list[str]()
    turns.make_way(True)
    held = [await turns.take(urgent=False), await turns.take(urgent=False)]
    hurried = turns.line_up(CallKind.READ, urgent=False, whom=("a",))
    waiting = asyncio.create_task(in_line(turns, served, "joiner"))
    await rounds()
    turns.hurry({"a"})
    assert await turns.granted(hurried)
    turns.end(held.pop())
    await rounds()
    assert served == ["joiner"], "two of eight slots are theirs, whoever hurries"
    for turn in (*held, hurried, waiting.result()):
        turns.end(turn)
    assert turns.under_way == 0


async def test_one_slot_is_enough_to_go_on_while_somebody_leaves() -> None:
    turns = Turns(1)
    turns.make_way(True)
    turns.end(await turns.take(urgent=False))
    turns.end(await turns.take(urgent=True))
    assert turns.under_way == 0


async def test_only_what_was_sent_costs_budget() -> None:
    turns = Turns(4, Budget([Limit("any", 1, 3600.0)]))
    turns.end(await turns.take(urgent=False))
    assert not turns.is_scarce(CallKind.READ)
    turn = await turns.take(urgent=False)
    turns.sends(turn)
    turns.end(turn)
    assert turns.is_scarce(CallKind.READ)


async def test_whoever_gives_up_leaves_the_line_at_no_cost() -> None:
    turns = Turns(1)
    held = await turns.take(urgent=False)
    turn = turns.line_up(CallKind.READ, urgent=False)
    assert turns.give_up(turn)
    assert await turns.granted(turn) is False
    assert not turns.give_up(turn), "it is done"
    assert not turns.give_up(held), "it has its turn"
    last = turns.line_up(CallKind.READ, urgent=False)
    turns.end(held)
    assert await turns.granted(last), "nobody waits behind whoever is gone"
    turns.end(last)
    assert turns.under_way == 0


async def test_a_process_without_partitions_sends_nothing_until_it_gets_some() -> None:
    turns = Turns(4, Budget([Limit("any", 1000, 1.0)]))
    turns.resize(0.0)
    waiting = asyncio.create_task(turns.take(urgent=True))
    await rounds()
    assert not waiting.done()
    turns.resize(0.5)
    turns.end(await waiting)


def served_in_virtual_time(joiners: int, limit: Limit, latency: float, leaver_at: float) -> tuple[float, int]:
    """How long the three calls of a leaver took beside that many joiners, and how many joiners went meanwhile."""
    loop = SimulationLoop(random.Random(1))  # type: ignore[abstract]  # there is no outside
    took: list[float] = []
    joined: list[float] = []

    async def call(turns: Turns, kind: CallKind, *, urgent: bool) -> None:
        turn = await turns.take(kind, urgent=urgent)
        turns.sends(turn)
        await asyncio.sleep(latency)
        turns.end(turn)

    async def join(turns: Turns) -> None:
        await call(turns, CallKind.USER_CREATE, urgent=False)
        joined.append(loop.time())

    async def story() -> None:
        turns = Turns(16, Budget([limit], now=loop.time()))
        queue = [asyncio.ensure_future(join(turns)) for _ in range(joiners)]
        await asyncio.sleep(leaver_at)
        began, before = loop.time(), len(joined)
        for kind in (CallKind.USER_WRITE, CallKind.READ, CallKind.GROUP_WRITE):
            await call(turns, kind, urgent=True)
        took.extend((loop.time() - began, len(joined) - before))
        for task in queue:
            task.cancel()
        await asyncio.gather(*queue, return_exceptions=True)

    loop.run(story())
    assert loop.defects == []
    return took[0], int(took[1])


@pytest.mark.parametrize(
    ("limit", "latency"),
    [(Limit("any", 10, 1.0), 0.05), (Limit("any", 100, 1.0), 0.1), (Limit("any", 1000, 3600.0), 0.05)],
    ids=["10 a second", "100 a second", "1000 an hour"],
)
def test_one_leaver_among_ten_thousand_joiners_is_out_within_a_second(limit: Limit, latency: float) -> None:
    """The application's own latency comes on top."""
    took, _ = served_in_virtual_time(10_000, limit, latency, leaver_at=37.0)
    assert took - 3 * latency < 1.0
