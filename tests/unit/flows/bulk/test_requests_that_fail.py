"""What becomes of changes whose Bulk request fails as a whole."""

import asyncio
from datetime import timedelta

import pytest
import structlog

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.dialects import STANDARD, dialects
from orchestrator.domain.bulk import MOST_OPERATIONS
from orchestrator.domain.discovery import Capabilities, Found
from orchestrator.errors import Ambiguous, ApplicationDown, RateLimited, Unavailable
from orchestrator.flows.application import Application
from orchestrator.flows.bulk_calls import BulkCalls
from orchestrator.flows.calling import Caller
from orchestrator.ports import ScimResponse
from tests.unit.flows.bulk.line import NAMES, Server, post, sent, statuses, together
from tests.unit.flows.fakes import NOW, FakeTransport


async def test_each_sees_what_it_would_have_seen_of_its_own_call(
    calls: BulkCalls, server: Server, clock: SimulatedClock
) -> None:
    server.whole = [ScimResponse(429, headers={"retry-after": "30"})]
    told = await together(calls, map(post, NAMES))
    errors = [one for one in told if isinstance(one, RateLimited)]
    assert {one.not_before for one in errors} == {NOW + timedelta(seconds=30)}
    assert len(errors) == len({id(one) for one in errors}) == 11
    clock.advance_to(NOW + timedelta(seconds=30))
    for failure, expected in (
        (ScimResponse(503), Unavailable),
        (ScimResponse(500), Unavailable),
        (Unavailable("refused"), Unavailable),
        (Ambiguous("time-out"), Ambiguous),
        (ScimResponse(200, {"id": "no answer"}), Ambiguous),
        (ScimResponse(200, None, {"content-type": "text/html"}), Ambiguous),
    ):
        server.whole = [failure]
        await asyncio.sleep(0.1)
        told = await together(calls, map(post, NAMES[:4]))
        assert {type(one) for one in told if not isinstance(one, ScimResponse)} == {expected}, failure


@pytest.mark.parametrize("down", [ScimResponse(401), ApplicationDown("no route")])
async def test_an_application_that_is_down_is_paused_and_asked_again(
    calls: BulkCalls, transport: FakeTransport, server: Server, down: ScimResponse | Exception
) -> None:
    server.whole = [down]
    told = await together(calls, map(post, NAMES))
    assert statuses(told) == [201] * 12
    assert [call.method for call in transport.calls].count("GET") == 1, "the probe"
    assert sorted(server.done) == sorted([*NAMES, "/Users"])


async def test_what_is_too_large_is_split_and_the_size_remembered(
    calls: BulkCalls, transport: FakeTransport, server: Server
) -> None:
    server.whole = [ScimResponse(413)]
    with structlog.testing.capture_logs() as logs:
        told = await together(calls, map(post, NAMES))
    assert statuses(told) == [201] * 12
    assert sent(transport)[:4] == [1, 11, 5, 5]
    await together(calls, map(post, NAMES))
    assert max(sent(transport)[4:]) == 5
    assert [one["event"] for one in logs] == ["bulk_narrowed"]


async def test_a_request_that_is_not_answered_in_time_is_made_smaller_for_a_while(
    calls: BulkCalls, transport: FakeTransport, server: Server
) -> None:
    server.whole = [Ambiguous("time-out")]
    told = await together(calls, map(post, NAMES))
    assert [type(one) for one in told] == [ScimResponse, *[Ambiguous] * 11]
    await together(calls, (post(f"again{number}") for number in range(24)))
    assert sent(transport)[2:][:5] == [1, 5, 6, 7, 5], "a little more after each that succeeds"


@pytest.mark.parametrize("status", [403, 404, 405, 501, 308])
async def test_an_application_without_bulk_is_called_one_by_one_until_it_is_discovered_anew(
    calls: BulkCalls, application: Application, transport: FakeTransport, server: Server, status: int
) -> None:
    server.whole = [ScimResponse(status, None, {"content-type": "text/html"} if status == 404 else {})]
    with structlog.testing.capture_logs() as logs:
        told = await together(calls, map(post, NAMES))
        assert statuses(told) == [201] * 12
        assert sent(transport)[2:] == [1] * 11
        await together(calls, map(post, NAMES))
    assert [(one["event"], one["log_level"], one["app"]) for one in logs] == [("bulk_switched_off", "warning", "crm")]
    assert [call.path for call in transport.calls].count("/Bulk") == 1
    before = len(transport.calls)
    application.learn(Found(Capabilities(bulk=True)))
    await together(calls, map(post, NAMES))
    assert max(sent(transport)[before:]) == 11


@pytest.mark.parametrize(("status", "spared"), [(400, 12), (500, 1)])
async def test_bulk_that_never_works_is_given_up(
    calls: BulkCalls, transport: FakeTransport, server: Server, status: int, spared: int
) -> None:
    """400 means that nothing was done: each is sent alone at once. After 500 nobody knows."""
    server.whole = [ScimResponse(status)] * 9
    for number in range(5):
        told = await together(calls, (post(f"{number}{name}") for name in NAMES))
        assert len(statuses(told)) == (spared if number < 3 else 12)
        await asyncio.sleep(0.05)
    assert [call.path for call in transport.calls].count("/Bulk") == 3


async def test_failures_with_successes_in_between_are_no_reason_to_give_up(
    calls: BulkCalls, transport: FakeTransport, server: Server
) -> None:
    for number in range(8):
        server.whole = [ScimResponse(500)] if number % 2 else []
        await together(calls, (post(f"{number}{name}") for name in NAMES[:3]))
    assert [call.path for call in transport.calls].count("/Bulk") == 8


async def test_an_application_that_does_not_say_that_it_has_bulk_is_told_of_once(
    caller: Caller, transport: FakeTransport
) -> None:
    calls = BulkCalls("crm", caller, Application(dialects()[STANDARD]))
    with structlog.testing.capture_logs() as logs:
        await together(calls, map(post, NAMES))
    assert sent(transport) == [1] * 12
    assert [one["event"] for one in logs] == ["bulk_missing"]


async def test_no_more_than_a_lost_answer_may_cost(caller: Caller, transport: FakeTransport) -> None:
    generous = Application(dialects()[STANDARD], Capabilities(bulk=True, bulk_operations=10_000))
    await together(BulkCalls("crm", caller, generous), (post(f"p{number}") for number in range(250)))
    assert max(sent(transport)) == MOST_OPERATIONS


async def test_a_closed_gate_holds_a_request_that_has_its_turn(
    calls: BulkCalls, caller: Caller, transport: FakeTransport, clock: SimulatedClock
) -> None:
    async def may() -> None:
        if len(transport.calls) == 1 and clock.now() == NOW:
            caller.gate.hold_until(NOW + timedelta(seconds=30))

    tasks = [asyncio.create_task(calls.call(post(name), urgent=False, may_send=may)) for name in NAMES]
    await asyncio.sleep(0.1)
    assert len(transport.calls) == 1
    clock.advance_to(NOW + timedelta(seconds=30))
    assert statuses(list(await asyncio.gather(*tasks))) == [201] * 12
