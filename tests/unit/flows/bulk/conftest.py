"""One application with Bulk, and whoever calls it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.dialects import STANDARD, dialects
from orchestrator.domain.budget import Budget, Limit
from orchestrator.flows import calling
from orchestrator.flows.application import Application
from orchestrator.flows.bulk_calls import BulkCalls
from orchestrator.flows.calling import Caller
from orchestrator.ports import ApplicationHealth
from tests.unit.flows.bulk.line import BULK, Server
from tests.unit.flows.fakes import NOW, FakeTransport


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
