"""Calls to one application: who goes first, when nobody may call, and what opens it again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
import structlog

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.domain.outcome import LONGEST_WAIT
from orchestrator.domain.retry import Backoff
from orchestrator.errors import Ambiguous, ApplicationDown, RateLimited, Rejected, ScimError, Unavailable
from orchestrator.flows import calling, health_watch
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.flows.calling import Caller, Gate
from orchestrator.flows.lane import Lanes
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.ports import ApplicationHealth, OperatorStop, ScimRequest, ScimResponse
from tests.unit.flows.fakes import (
    NOW,
    FakeConvergeStore,
    FakeOutboxStore,
    FakePublisher,
    FakeTransport,
    rounds,
    until,
)

POST = ScimRequest("POST", "/Users", {"userName": "ada"})
GET = ScimRequest("GET", "/Users/1")
PAGE = {"content-type": "text/html; charset=utf-8"}


class Application:
    """Answers with what stands in `answers`, then with success."""

    def __init__(self) -> None:
        self.answers: list[ScimResponse | Exception] = []
        self.usual = ScimResponse(200, {"id": "1"})

    async def __call__(self, request: ScimRequest) -> ScimResponse:
        answer = self.answers.pop(0) if self.answers else self.usual
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOW)


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def transport(application: Application) -> FakeTransport:
    return FakeTransport(application)


@pytest.fixture
def told() -> list[ApplicationHealth]:
    return []


@pytest.fixture
async def caller(
    transport: FakeTransport,
    clock: SimulatedClock,
    told: list[ApplicationHealth],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Caller]:
    monkeypatch.setattr(calling, "FIRST_PROBE_SECONDS", 0.01)
    monkeypatch.setattr(calling, "LAST_PROBE_SECONDS", 0.02)

    async def on_health(health: ApplicationHealth) -> None:
        told.append(health)

    caller = Caller(transport, clock, 2, on_health, app="crm")
    yield caller
    await caller.close()


# --- gate ------------------------------------------------------------------------------------------------------------


async def test_nobody_passes_before_the_instant(clock: SimulatedClock) -> None:
    gate = Gate(clock)
    assert gate.hold_until(NOW + timedelta(seconds=30))
    assert not gate.hold_until(NOW + timedelta(seconds=10)), "the later instant counts"
    passing = asyncio.create_task(gate.passed())
    clock.advance_to(NOW + timedelta(seconds=29))
    await rounds()
    assert not passing.done()
    clock.advance_to(NOW + timedelta(seconds=30))
    await passing


# --- caller ----------------------------------------------------------------------------------------------------------


async def test_at_most_so_many_calls_at_once(caller: Caller, transport: FakeTransport) -> None:
    await asyncio.gather(*(caller.call(GET, urgent=False) for _ in range(10)))
    assert transport.most_under_way == 2


async def test_no_call_goes_out_before_retry_after(
    caller: Caller,
    application: Application,
    transport: FakeTransport,
    clock: SimulatedClock,
    told: list[ApplicationHealth],
) -> None:
    application.answers = [ScimResponse(429, None, {"retry-after": "30"})]
    with pytest.raises(RateLimited) as refused:
        await caller.call(POST, urgent=False)
    assert refused.value.not_before == NOW + timedelta(seconds=30)
    assert [(one.state, one.not_before) for one in told] == [("throttled", NOW + timedelta(seconds=30))]
    waiting = asyncio.create_task(caller.call(GET, urgent=True))
    clock.advance_to(NOW + timedelta(seconds=29))
    await rounds()
    assert len(transport.calls) == 1, "not even a leaver"
    clock.advance_to(NOW + timedelta(seconds=30))
    await waiting


async def test_a_refusal_closes_the_gate_before_anybody_is_told_that_the_wait_is_over(
    caller: Caller, application: Application, transport: FakeTransport, clock: SimulatedClock
) -> None:
    """Telling waits for the store; while it was down everybody called on."""
    application.answers = [ScimResponse(429, headers={"retry-after": "30"})]
    with pytest.raises(RateLimited):
        await caller.call(POST, urgent=False)
    clock.advance_to(NOW + timedelta(seconds=30))

    async def wait_for_ever(_: ApplicationHealth) -> None:
        await asyncio.Event().wait()

    caller.on_health = wait_for_ever
    application.usual = ScimResponse(401)
    refused = asyncio.create_task(caller.call(POST, urgent=False))
    await until(lambda: len(transport.calls) == 2)
    await rounds()
    assert caller.gate.paused
    refused.cancel()


async def test_a_question_that_is_told_to_wait_binds_every_call(
    caller: Caller, application: Application, clock: SimulatedClock
) -> None:
    application.answers = [ScimResponse(429, headers={"retry-after": "30"})]
    assert (await caller.look(GET)).status == 429
    calling_on = asyncio.create_task(caller.call(POST, urgent=True))
    clock.advance_to(NOW + timedelta(seconds=29))
    await rounds()
    assert not calling_on.done()
    clock.advance_to(NOW + timedelta(seconds=30))
    assert (await calling_on).status == 200


async def test_whoever_stood_in_line_when_the_gate_closed_waits_as_well(
    caller: Caller, application: Application, transport: FakeTransport, clock: SimulatedClock
) -> None:
    busy = ScimResponse(503, None, {"retry-after": "Mon, 02 Mar 2026 08:16:00 GMT"})
    application.answers = [busy, busy]
    tasks = [asyncio.create_task(caller.call(POST, urgent=False)) for _ in range(5)]
    await rounds()
    assert len(transport.calls) == 2
    assert sum(task.done() for task in tasks) == 2
    assert isinstance(tasks[0].exception(), Unavailable)
    clock.advance_to(NOW + timedelta(seconds=60))
    await asyncio.gather(*tasks[2:])


async def test_refused_credentials_pause_and_a_probe_resumes(
    caller: Caller, application: Application, transport: FakeTransport, told: list[ApplicationHealth]
) -> None:
    refusal = ScimResponse(401)
    application.answers = [refusal, refusal, ApplicationDown("no route"), Ambiguous("time-out"), ScimResponse(200, {})]
    answer = await caller.call(POST, urgent=False)
    assert answer.status == 200
    methods = [call.method for call in transport.calls]
    assert methods == ["POST", "GET", "GET", "GET", "GET", "POST"], "the call is sent again, after the probes"
    assert [one.state for one in told] == ["paused", "open"]
    assert "401" in told[0].reason


async def test_many_refused_calls_pause_once(
    caller: Caller, application: Application, transport: FakeTransport, told: list[ApplicationHealth]
) -> None:
    application.answers = [ScimResponse(401), ScimResponse(401)]
    await asyncio.gather(*(caller.call(POST, urgent=False) for _ in range(6)))
    assert [one.state for one in told] == ["paused", "open"]
    assert [call.method for call in transport.calls].count("GET") == 1


async def test_a_call_that_alone_stays_forbidden_is_refused(
    caller: Caller, application: Application, transport: FakeTransport
) -> None:
    application.answers = [ScimResponse(403), ScimResponse(200, {}), ScimResponse(403)]
    with pytest.raises(Rejected, match="403"):
        await caller.call(POST, urgent=False)
    assert [call.method for call in transport.calls] == ["POST", "GET", "POST"]
    assert (await caller.call(GET, urgent=False)).status == 200


async def test_an_application_that_only_lets_us_read_is_asked_less_and_less(
    caller: Caller, application: Application, transport: FakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that may read and not write: the probe succeeds, the next change pauses again."""
    monkeypatch.setattr(calling, "LAST_PROBE_SECONDS", 60.0)

    async def read_only(request: ScimRequest) -> ScimResponse:
        return ScimResponse(200, {}) if request.method == "GET" else ScimResponse(401)

    transport.answer = read_only
    calling_on = asyncio.create_task(caller.call(POST, urgent=False))
    await until(lambda: len(transport.calls) >= 7)  # 3 probes: 10, 20 and 40 ms
    began, before = asyncio.get_running_loop().time(), len(transport.calls)
    await until(lambda: len(transport.calls) > before)
    assert asyncio.get_running_loop().time() - began > 0.05
    calling_on.cancel()


@pytest.mark.parametrize(
    ("request_", "status", "expected"),
    [
        (GET, 200, Unavailable),
        (GET, 404, Unavailable),
        (POST, 404, Unavailable),
        (POST, 409, Unavailable),
        (POST, 200, Ambiguous),
        (POST, 502, Unavailable),
    ],
)
async def test_a_page_is_no_answer(
    caller: Caller, application: Application, request_: ScimRequest, status: int, expected: type[ScimError]
) -> None:
    """A log-in page or a proxy's "not found" says nothing about the account."""
    application.answers = [ScimResponse(status, None, PAGE)]
    with pytest.raises(expected):
        await caller.call(request_, urgent=False)


async def test_what_is_asked_at_the_last_moment_holds_the_slot(caller: Caller, transport: FakeTransport) -> None:
    asked: list[int] = []

    async def may_send() -> None:
        asked.append(len(transport.calls))
        await rounds(3)

    await asyncio.gather(*(caller.call(POST, urgent=False, may_send=may_send) for _ in range(4)))
    assert len(asked) == 4

    async def may_not() -> None:
        raise KeyError("fenced")

    with pytest.raises(KeyError):
        await caller.call(POST, urgent=False, may_send=may_not)
    assert len(transport.calls) == 4
    await asyncio.gather(*(caller.call(POST, urgent=False) for _ in range(4)))


async def test_a_refusal_without_an_instant_is_waited_out_longer_each_time(
    caller: Caller, application: Application, clock: SimulatedClock
) -> None:
    waits = []
    for _ in range(3):
        application.answers = [ScimResponse(429)]
        with pytest.raises(RateLimited) as refused:
            await caller.call(POST, urgent=False)
        waits.append((refused.value.not_before - clock.now()).total_seconds())
        clock.advance_to(refused.value.not_before)
        await asyncio.sleep(1.01)  # calls that were refused within a second count as one refusal
    assert waits == [1.0, 2.0, 4.0]


async def test_an_absurd_retry_after_is_cut_and_told(
    caller: Caller, application: Application, clock: SimulatedClock
) -> None:
    application.answers = [ScimResponse(429, None, {"retry-after": "99999999999999999999"})]
    with structlog.testing.capture_logs() as logs, pytest.raises(RateLimited) as refused:
        await caller.call(POST, urgent=False)
    assert refused.value.not_before == NOW + LONGEST_WAIT
    assert [(one["event"], one["app"]) for one in logs] == [("retry_after_cut", "crm")]


async def test_what_an_operator_stops_no_probe_resumes(
    caller: Caller, application: Application, transport: FakeTransport
) -> None:
    application.answers = [ScimResponse(401)]
    calling_on = asyncio.create_task(caller.call(POST, urgent=True))
    await until(lambda: caller.gate.paused)
    caller.gate.stop(stopped=True)
    before = len(transport.calls)
    await asyncio.sleep(0.05)  # five probes, if there were any
    assert len(transport.calls) <= before + 1, "one may have been on its way"
    assert not calling_on.done()
    caller.gate.stop(stopped=False)
    assert (await calling_on).status == 200


async def test_the_log_says_which_application(caller: Caller, application: Application) -> None:
    application.answers = [ScimResponse(401)]
    with structlog.testing.capture_logs() as logs:
        await caller.call(POST, urgent=False)
    assert [(one["event"], one["app"]) for one in logs] == [
        ("application_paused", "crm"),
        ("application_resumed", "crm"),
    ]


# --- over a restart, and from other processes ------------------------------------------------------------------------


@pytest.fixture
async def lanes(
    transport: FakeTransport, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Lanes, FakeConvergeStore]]:
    monkeypatch.setattr(calling, "FIRST_PROBE_SECONDS", 0.01)
    store = FakeConvergeStore()
    outbox = OutboxPublisher(FakePublisher(), FakeOutboxStore())
    outbox.start()
    lanes = Lanes("crm", transport=transport, store=store, outbox=outbox, clock=clock, concurrency=1, backoff=Backoff())
    yield lanes, store
    await lanes.close()
    await outbox.drain()


async def test_a_restart_is_no_excuse_to_call_early(
    lanes: tuple[Lanes, FakeConvergeStore], clock: SimulatedClock
) -> None:
    lane, store = lanes
    store.health.append(ApplicationHealth("throttled", "429", NOW, NOW + timedelta(seconds=30)))
    await lane.start()
    assert lane.health.not_before == NOW + timedelta(seconds=30)


async def test_what_was_paused_stays_so_until_a_probe_succeeds(
    lanes: tuple[Lanes, FakeConvergeStore], application: Application, transport: FakeTransport
) -> None:
    """Else operators would read `paused` for ever: nobody would ever say that it is open."""
    lane, store = lanes
    store.health.append(ApplicationHealth("paused", "401", NOW))
    application.answers = [ScimResponse(401)]
    await lane.start()
    assert lane.health.state == "paused"
    await until(lambda: store.health[-1].state == "open")
    assert lane.health.state == "open"
    assert [call.method for call in transport.calls] == ["GET", "GET"]


async def test_what_another_process_was_told_binds_this_one(
    lanes: tuple[Lanes, FakeConvergeStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_watch, "WATCH_SECONDS", 0.01)
    lane, store = lanes
    await lane.start()
    store.health.append(ApplicationHealth("throttled", "429", NOW, NOW + timedelta(seconds=30)))
    await until(lambda: lane.health.not_before == NOW + timedelta(seconds=30))


async def test_an_operators_stop_is_obeyed_at_once_and_after_a_restart(
    lanes: tuple[Lanes, FakeConvergeStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_watch, "WATCH_SECONDS", 0.01)
    lane, store = lanes
    stopped = ApplicationHealth("open", stop=OperatorStop("ada", "maintenance", NOW))
    store.health.append(stopped)
    await lane.start()
    assert lane.health.state == "paused"
    store.health.append(ApplicationHealth("open"))
    await until(lambda: lane.health.state == "open")
    store.outages = 3  # nobody can say anything now: what was said stands
    store.health.append(stopped)
    await until(lambda: lane.health.state == "paused")


async def test_one_look_serves_all_applications_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_watch, "WATCH_SECONDS", 0.01)
    asked: list[list[str]] = []

    class Store(FakeConvergeStore):
        async def load_health(self, apps: Sequence[str]) -> dict[str, ApplicationHealth]:
            asked.append(list(apps))
            return await super().load_health(apps)

    store = Store()
    watch, told = health_watch.HealthWatch(store), list[str]()
    for app in ("crm", "wiki"):
        assert await watch.listen(app, lambda _, app=app: told.append(app)) is None  # type: ignore[misc]  # bound at once
    store.health.append(ApplicationHealth("open"))
    await until(lambda: len(told) >= 4)
    assert asked[:4] == [["crm"], ["wiki"], ["crm", "wiki"], ["crm", "wiki"]]
    assert told[:4] == ["crm", "wiki", "crm", "wiki"]
    await watch.leave("crm")
    told.clear()
    await until(lambda: len(told) >= 2)
    assert set(told) == {"wiki"}
    await watch.leave("wiki")
    seen = len(asked)
    await asyncio.sleep(0.05)
    assert len(asked) == seen, "nobody listens"


async def test_a_pause_is_in_the_log_before_others_are_told(
    lanes: tuple[Lanes, FakeConvergeStore], application: Application
) -> None:
    """Who dies in between leaves no application paused of which the log says nothing."""
    lane, store = lanes
    on_record: list[tuple[str, int]] = []
    save = store.save_health

    async def look(app: str, health: ApplicationHealth) -> None:
        on_record.append((health.state, len(store.segments)))
        await save(app, health)

    store.save_health = look  # type: ignore[method-assign]
    await lane.start()
    application.answers = [ScimResponse(401)]
    store.outages = 2
    await lane.ask(ScimRequest("GET", "/Users"))
    await until(lambda: len(on_record) == 2)
    assert on_record == [("paused", 1), ("open", 2)]


def test_the_names_of_writers_differ() -> None:
    assert AuditWriter("connector.crm", NOW).name != AuditWriter("connector.crm", NOW).name
