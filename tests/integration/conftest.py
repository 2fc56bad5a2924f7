"""A broker of our own for the integration tests: the names of our topics are fixed, and the shared one has users."""

from collections.abc import Iterator

import pytest

from tests.conftest import KAFKA
from tests.services import KafkaServer


@pytest.fixture(scope="session")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. Started only where the shared one is: JML_TEST_KAFKA says that there is what it takes."""
    if not KAFKA:
        pytest.skip("needs a real Kafka: `make services-up` says what to export (JML_TEST_KAFKA)")
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server.bootstrap
