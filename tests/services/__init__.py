"""A real Kafka and a real PostgreSQL for the tests, without containers.

Rebalances, crashes and durability cannot be tested against a stand-in, so the suite starts the servers themselves:
Kafka from Maven's jars, PostgreSQL from Debian's package, both on loopback and in a folder of their own.

In a test that hurts its server, start one that nobody else uses::

    with KafkaServer(tmp_path / "kafka") as kafka:
        kafka.kill()
        kafka.restart()

For the rest of a suite, `python -m tests.services up --folder DIR` starts both once and prints the two variables that
the shared fixtures read, JML_TEST_KAFKA and JML_TEST_POSTGRES.
"""

from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer
from tests.services.server import Server, ServiceError

__all__ = ["KafkaServer", "PostgresServer", "Server", "ServiceError"]
