"""What becomes of a Bulk request of which one operation fails concerns the account that it is about."""

import asyncio

import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.errors import Ambiguous, Changed, RateLimited, Rejected, Unavailable
from orchestrator.flows.bulk_calls import BulkCalls
from orchestrator.flows.calling import Caller
from orchestrator.ports import ScimResponse
from tests.unit.flows.bulk.line import NAMES, Server, post, statuses, together
from tests.unit.flows.fakes import FakeTransport, rounds


async def test_the_error_of_an_operation_is_its_own(calls: BulkCalls, server: Server) -> None:
    server.single = {
        "p2": ScimResponse(400, {"scimType": "invalidValue"}),
        "p3": ScimResponse(404),
        "p4": ScimResponse(412),
        "p5": ScimResponse(500),
    }
    told = await together(calls, map(post, NAMES))
    assert isinstance(told[2], Rejected)
    assert isinstance(told[3], ScimResponse)
    assert told[3].status == 404
    assert isinstance(told[4], Changed)
    assert isinstance(told[5], Unavailable)
    assert statuses(told).count(201) == 8


async def test_an_operation_that_is_told_to_wait_binds_every_call(
    calls: BulkCalls, transport: FakeTransport, server: Server, clock: SimulatedClock
) -> None:
    server.single["p4"] = ScimResponse(429)
    told = await together(calls, map(post, NAMES))
    assert isinstance(told[4], RateLimited)
    before = len(transport.calls)
    waiting = asyncio.create_task(calls.call(post("later"), urgent=True))
    await rounds()
    assert len(transport.calls) == before
    clock.advance_to(told[4].not_before)
    assert (await waiting).status == 201


async def test_an_operation_that_is_forbidden_is_tried_alone_before_anybody_is_blamed(
    calls: BulkCalls, caller: Caller, transport: FakeTransport, server: Server
) -> None:
    server.single["p4"] = ScimResponse(403)
    told = await together(calls, map(post, NAMES))
    assert isinstance(told[4], Rejected)
    assert statuses(told) == [201] * 11
    assert not caller.gate.paused


@pytest.mark.parametrize("lost", [0, 3])
async def test_an_operation_that_is_left_out_may_have_been_done(calls: BulkCalls, server: Server, lost: int) -> None:
    server.row = lambda row: None if row["bulkId"] == str(lost + 1) else row
    told = await together(calls, map(post, NAMES))
    assert [type(one) for one in told].count(Ambiguous) == 1
    assert statuses(told) == [201] * 11


async def test_an_account_that_was_made_and_is_not_named_may_have_been_made(calls: BulkCalls, server: Server) -> None:
    server.row = lambda row: {name: value for name, value in row.items() if name != "response"}
    told = await together(calls, map(post, NAMES))
    assert [type(one) for one in told] == [ScimResponse, *[Ambiguous] * 11]
