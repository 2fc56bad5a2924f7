"""Changes that stand in line together go in one Bulk request, and each of them sees the answer to its own."""

import asyncio

import orjson
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.dialects import STANDARD, dialects
from orchestrator.domain.discovery import Capabilities, Found
from orchestrator.errors import Ambiguous
from orchestrator.flows.application import Application
from orchestrator.flows.bulk_calls import BulkCalls
from orchestrator.flows.calling import Caller
from orchestrator.flows.turns import Turn
from orchestrator.ports import ApplicationHealth, ScimRequest, ScimResponse
from tests.unit.flows.bulk.line import GET, NAMES, Server, patch, post, sent, together
from tests.unit.flows.fakes import FakeTransport, rounds, until


async def test_those_who_wait_go_together_and_each_gets_its_own_answer(
    calls: BulkCalls, transport: FakeTransport, server: Server
) -> None:
    server.single["p7"] = ScimResponse(409, {"scimType": "uniqueness"})
    told = await together(calls, map(post, NAMES))
    bodies = [one.body for one in told if isinstance(one, ScimResponse)]
    assert bodies == [{"scimType": "uniqueness"} if name == "p7" else {"id": f"id-{name}"} for name in NAMES]
    assert sent(transport) == [1, 11]
    assert sorted(server.done) == sorted(NAMES), "each once"
    assert [one.in_bulk for one in told if isinstance(one, ScimResponse)] == [False, *[True] * 11]


async def test_what_is_alone_goes_as_a_call_of_its_own(calls: BulkCalls, transport: FakeTransport) -> None:
    for name in NAMES[:3]:
        assert not (await calls.call(post(name), urgent=False)).in_bulk
    assert sent(transport) == [1, 1, 1]


async def test_a_call_that_takes_access_away_waits_for_nobody(
    calls: BulkCalls, transport: FakeTransport, server: Server
) -> None:
    """No Bulk request comes back, and as many are on their way as may be: there is still a slot, and it is next."""
    server.held.clear()
    joiners = [
        asyncio.create_task(together(calls, [post(f"{round_}{name}") for name in NAMES])) for round_ in range(40)
    ]
    await until(lambda: sum(call.path == "/Bulk" for call in transport.calls) == 3)
    before = len(transport.calls)
    await until(lambda: len(transport.calls) >= before + 5)
    before = len(transport.calls)
    out = asyncio.create_task(calls.call(patch("leaver", active=False), urgent=True))
    await until(lambda: any(call.path == "/Users/leaver" for call in transport.calls))
    assert max(sent(transport)) > 10, "they do wait"
    assert [call.path for call in transport.calls].index("/Users/leaver") <= before + 1
    assert transport.under_way <= 4
    server.held.set()
    assert (await out).status == 200
    await asyncio.gather(*joiners)
    assert len({name for name in server.done if name != "/Users/leaver"}) == 480


async def test_creates_and_changes_are_counted_apart_so_they_go_apart(
    calls: BulkCalls, transport: FakeTransport
) -> None:
    await together(calls, [post("a"), *(one for name in NAMES for one in (post(name), patch(name)))])
    kinds = [
        {one["method"] for one in (call.body or {})["Operations"]} for call in transport.calls if call.path == "/Bulk"
    ]
    assert sorted(kinds, key=str) == [{"PATCH"}, {"POST"}]


async def test_reads_and_groups_go_alone(calls: BulkCalls, transport: FakeTransport) -> None:
    group = ScimRequest("PATCH", "/Groups/1", {})
    await together(calls, [GET] * 6 + [group] * 6)
    assert sent(transport) == [1] * 12


async def test_one_resource_is_changed_once_in_a_request(
    calls: BulkCalls, transport: FakeTransport, server: Server
) -> None:
    await together(calls, [post("x"), *(patch(name) for name in ("a", "a", "b", "a", "c"))])
    for call in transport.calls:
        paths = [one["path"] for one in (call.body or {}).get("Operations", [])]
        assert len(paths) == len(set(paths))
    assert sorted(server.done) == sorted(["x", *(f"/Users/{name}" for name in "aaabc")])


async def test_a_version_goes_with_its_operation(calls: BulkCalls, transport: FakeTransport) -> None:
    tagged = ScimRequest("PUT", "/Users/a", {"title": "x"}, headers={"If-Match": 'W/"7"'})
    await together(calls, [patch("x"), tagged, patch("b")])
    (bulk,) = [call for call in transport.calls if call.path == "/Bulk"]
    assert [one.get("version") for one in (bulk.body or {})["Operations"]] == ['W/"7"', None]


async def test_a_request_keeps_to_what_the_application_takes(
    caller: Caller, transport: FakeTransport, server: Server
) -> None:
    application = Application(dialects()[STANDARD])
    application.learn(Found(Capabilities(bulk=True, bulk_operations=5, bulk_bytes=700)))
    calls = BulkCalls("crm", caller, application)
    await together(calls, [post("a"), *(patch(name, note="x" * 150) for name in NAMES), *map(post, NAMES)])
    bulks = [call for call in transport.calls if call.path == "/Bulk"]
    assert max(sent(transport)) == 5
    assert max(len(orjson.dumps(call.body)) for call in bulks) <= 700
    assert len(server.done) == 25


async def test_where_only_slots_are_scarce_each_slot_gets_its_part(
    transport: FakeTransport, clock: SimulatedClock, application: Application
) -> None:
    async def on_health(_: ApplicationHealth) -> None:
        return

    calls = BulkCalls("crm", Caller(transport, clock, 4, on_health, app="crm"), application)
    await together(calls, (post(f"p{number}") for number in range(44)))
    assert sum(sent(transport)) == 44
    assert 5 < max(sent(transport)) <= 11, "a fourth of those in line"
    assert transport.most_under_way == 4


async def test_who_may_not_be_sent_any_more_leaves_the_others_alone(
    calls: BulkCalls, transport: FakeTransport, server: Server
) -> None:
    async def fenced() -> None:
        raise KeyError("fenced")

    async def slow() -> None:
        await rounds(5)

    told = await asyncio.gather(
        *(calls.call(post(name), urgent=False, may_send=fenced if name in ("p1", "p5") else slow) for name in NAMES),
        return_exceptions=True,
    )
    assert [index for index, one in enumerate(told) if isinstance(one, KeyError)] == [1, 5]
    assert sorted(server.done) == sorted(set(NAMES) - {"p1", "p5"})
    assert len(transport.calls) == 2


async def test_whoever_is_cancelled_in_line_is_not_sent(calls: BulkCalls, server: Server) -> None:
    tasks = [asyncio.create_task(calls.call(post(name), urgent=False)) for name in NAMES]
    await asyncio.sleep(0)
    tasks[6].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(server.done) == sorted(set(NAMES) - {"p6"})


async def test_when_the_one_in_front_is_cut_off_the_others_do_not_know(
    calls: BulkCalls, caller: Caller, transport: FakeTransport, server: Server
) -> None:
    server.held.clear()
    tasks = [asyncio.create_task(calls.call(post(name), urgent=False)) for name in NAMES]
    await until(lambda: len(transport.calls) == 2)
    first = next(
        task
        for task, name in zip(tasks, NAMES, strict=True)
        if name == (transport.calls[1].body or {})["Operations"][0]["data"]["userName"]
    )
    first.cancel()
    await until(lambda: all(task.done() for task in tasks[1:]))
    assert {type(task.exception()) for task in tasks[1:] if task is not first} == {Ambiguous}
    server.held.set()
    await tasks[0]
    assert caller.turns.under_way == 0


async def test_whoever_is_cancelled_in_the_moment_of_being_taken_along_is_not_sent(
    calls: BulkCalls, caller: Caller, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up = caller.turns.give_up
    tasks = [asyncio.create_task(calls.call(post(name), urgent=False)) for name in NAMES]

    given_up: list[Turn] = []

    def and_cancel(turn: Turn) -> bool:
        given_up.append(turn)
        given = give_up(turn)
        if len(given_up) == 6:
            tasks[6].cancel()  # it has not noticed yet
        return given

    monkeypatch.setattr(caller.turns, "give_up", and_cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(server.done) == sorted(set(NAMES) - {"p6"})
    assert caller.turns.under_way == 0


async def test_a_request_that_takes_as_long_as_its_operations_is_no_trouble(
    calls: BulkCalls, caller: Caller, transport: FakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    sends = caller.turns.sends

    def long_ago(turn: Turn) -> None:
        sends(turn)
        assert turn.sent is not None
        turn.sent -= 5.0 if len(transport.calls) > 1 else 0.0  # the first two go alone

    await calls.call(post("first"), urgent=False)
    assert caller.adaptive is not None
    caller.adaptive._slowed -= 10.0
    monkeypatch.setattr(caller.turns, "sends", long_ago)
    await together(calls, map(post, NAMES))
    assert sent(transport) == [1, 1, 11]
    assert caller.adaptive.width == 1.0
