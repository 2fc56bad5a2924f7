"""A broker of our own for the integration tests: the names of our topics are fixed, and the shared one has users."""

from collections.abc import AsyncIterator, Iterator

import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.flows import calling
from tests.conftest import KAFKA
from tests.integration.application import Application
from tests.integration.connector import NOW, Connector, Office
from tests.services import KafkaServer


@pytest.fixture(scope="session")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. Started only where the shared one is: JML_TEST_KAFKA says that there is what it takes."""
    if not KAFKA:
        pytest.skip("needs a real Kafka: `make services-up` says what to export (JML_TEST_KAFKA)")
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server.bootstrap


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOW)


@pytest.fixture
def office(database: Database) -> Office:
    return Office(database)


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    async with Application().served() as application:
        yield application


@pytest.fixture
async def connector(office: Office, application: Application, clock: SimulatedClock) -> AsyncIterator[Connector]:
    async with Connector(office, application.base_url, clock).running() as connector:
        yield connector


@pytest.fixture
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A paused application is asked again at once."""
    monkeypatch.setattr(calling, "FIRST_PROBE_SECONDS", 0.02)
