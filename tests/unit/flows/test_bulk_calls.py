"""Changes that stand in line together go in one Bulk request, and each of them sees the answer to its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from typing import Any

import orjson
import pytest
import structlog

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.dialects import STANDARD, dialects
from orchestrator.domain.budget import Budget, CallKind, Limit
from orchestrator.domain.bulk import MOST_OPERATIONS
from orchestrator.domain.discovery import Capabilities, Found
from orchestrator.errors import Ambiguous, ApplicationDown, Changed, RateLimited, Rejected, Unavailable
from orchestrator.flows import calling
from orchestrator.flows.application import Application
from orchestrator.flows.bulk_calls import BulkCalls
from orchestrator.flows.calling import Caller
from orchestrator.flows.turns import Turn
from orchestrator.ports import ApplicationHealth, ScimRequest, ScimResponse
from tests.unit.flows.fakes import NOW, FakeTransport, rounds, until

BULK = Capabilities(bulk=True, bulk_operations=50)
GET = ScimRequest("GET", "/Users/1")


def post(name: str) -> ScimRequest:
    return ScimRequest("POST", "/Users", {"userName": name})


def patch(user_id: str, **more: Any) -> ScimRequest:
    return ScimRequest("PATCH", f"/Users/{user_id}", {"title": user_id, **more})


class Server:
    """Answers single calls and Bulk requests. `whole` are answers to the next Bulk requests, `single` says what becomes
    of an operation by its userName or path, `row` what is told of it. Bulk requests wait while `held` is clear."""

    def __init__(self) -> None:
        self.whole: list[ScimResponse | Exception] = []
        self.single: dict[str, ScimResponse] = {}
        self.row: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda row: row
        self.held = asyncio.Event()
        self.held.set()
        self.done: list[str] = []

    async def __call__(self, request: ScimRequest) -> ScimResponse:
        if request.path != "/Bulk":
            return self._carry_out(request.method, request.path, dict(request.body or {}))
        await self.held.wait()
        if self.whole:
            answer = self.whole.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        rows = []
        for one in (request.body or {})["Operations"]:
            answer = self._carry_out(one["method"], one["path"], one.get("data", {}))
            told = {"method": one["method"], "bulkId": one["bulkId"], "status": str(answer.status)}
            row = self.row(told if answer.body is None else {**told, "response": answer.body})
            rows += [] if row is None else [row]
        return ScimResponse(200, {"Operations": rows})

    def _carry_out(self, method: str, path: str, body: dict[str, Any]) -> ScimResponse:
        name = body.get("userName", path)
        self.done.append(name)
        return self.single.get(name, ScimResponse(201 if method == "POST" else 200, {"id": f"id-{name}"}))


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOW)


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
def transport(server: Server) -> FakeTransport:
    return FakeTransport(server)


@pytest.fixture
def application() -> Application:
    return Application(dialects()[STANDARD], BULK)


@pytest.fixture
async def caller(
    transport: FakeTransport, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Caller]:
    monkeypatch.setattr(calling, "FIRST_PROBE_SECONDS", 0.01)

    async def on_health(_: ApplicationHealth) -> None:
        return

    budget = Budget([Limit("any", 50, 1.0, 1)], leaver_share=0.0, now=asyncio.get_running_loop().time())
    caller = Caller(transport, clock, 4, on_health, app="crm", budget=budget)
    yield caller
    await caller.close()


@pytest.fixture
def calls(caller: Caller, application: Application) -> BulkCalls:
    return BulkCalls("crm", caller, application)


Told = list[ScimResponse | BaseException]


async def together(calls: BulkCalls, requests: Iterable[ScimRequest], **more: Any) -> Told:
    """What comes of calls that are made at once: the first one goes alone, the budget has the others wait."""
    await until(lambda: not calls._caller.turns.is_scarce(CallKind.USER_CREATE))
    return await asyncio.gather(
        *(calls.call(request, urgent=False, **more) for request in requests), return_exceptions=True
    )


def sent(transport: FakeTransport) -> list[int]:
    """The operations of each call; 1 is a call of its own."""
    return [len((call.body or {})["Operations"]) if call.path == "/Bulk" else 1 for call in transport.calls]


def statuses(told: Told) -> list[int]:
    return [one.status for one in told if isinstance(one, ScimResponse)]


NAMES = [f"p{number}" for number in range(12)]


# --- what goes together -----------------------------------------------------------------------------------------------


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
    assert caller.turns._taken == 0


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
    assert caller.turns._taken == 0


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


# --- operations that fail ---------------------------------------------------------------------------------------------


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


# --- requests that fail as a whole ------------------------------------------------------------------------------------


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
