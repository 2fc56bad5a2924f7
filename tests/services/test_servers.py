"""What the other tests rely on when they hurt a server: what was acknowledged survives, and a client finds it again."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from tests.services import KafkaServer, PostgresServer, Server, ServiceError


def needs(server: type[Server]) -> pytest.MarkDecorator:
    """These tests bring their own server, so what they need is the software, not the JML_TEST_ variables."""
    missing = server.missing()
    return pytest.mark.skipif(missing is not None, reason=missing or "")


@pytest.fixture(scope="module")
def the_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    with KafkaServer(tmp_path_factory.mktemp("servers") / "kafka") as server:
        yield server


@pytest.fixture
def kafka(the_kafka: KafkaServer) -> KafkaServer:
    """One broker for all these tests, running again whatever the test before did to it."""
    the_kafka.start()
    return the_kafka


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path / "postgres") as server:
        yield server


@needs(KafkaServer)
async def test_kafka_keeps_acknowledged_records_over_a_crash(kafka: KafkaServer) -> None:
    before = kafka.bootstrap
    await _create_topic(kafka, "kept")
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, enable_idempotence=True) as producer:
        await producer.send_and_wait("kept", b"acknowledged")

    kafka.kill()
    assert not kafka.running
    kafka.restart()

    assert kafka.bootstrap == before
    assert await _values(kafka, "kept") == [b"acknowledged"]


@needs(KafkaServer)
async def test_a_paused_kafka_answers_nobody_until_it_is_resumed(kafka: KafkaServer) -> None:
    await _create_topic(kafka, "hung")
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        await producer.send_and_wait("hung", b"before")
        kafka.pause()
        delivery = await producer.send("hung", b"late")
        _, waiting = await asyncio.wait([delivery], timeout=1.0)
        assert waiting
        kafka.resume()
        await delivery
    assert await _values(kafka, "hung") == [b"before", b"late"]


@needs(KafkaServer)
async def test_kafka_does_not_invent_topics(kafka: KafkaServer) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, request_timeout_ms=1000) as producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send_and_wait("nobody-made-this", b"?")


@needs(KafkaServer)
def test_a_paused_server_can_be_stopped(kafka: KafkaServer) -> None:
    kafka.pause()
    kafka.stop()
    assert not kafka.running


@needs(PostgresServer)
async def test_postgres_keeps_committed_rows_over_a_crash(postgres: PostgresServer) -> None:
    url = postgres.create_database("crash")
    connection = await _connect(url)
    await connection.execute("create table t (x int)")
    await connection.execute("insert into t values (42)")

    postgres.kill()
    connection.terminate()
    postgres.restart()

    again = await _connect(url)
    assert await again.fetchval("select x from t") == 42
    assert await again.fetchval("show fsync") == "on"
    await again.close()


@needs(PostgresServer)
async def test_a_paused_postgres_freezes_open_connections_too(postgres: PostgresServer) -> None:
    connection = await _connect(postgres.url)
    postgres.pause()
    with pytest.raises(TimeoutError):
        await connection.fetchval("select 1", timeout=0.5)
    connection.terminate()
    postgres.resume()
    again = await _connect(postgres.url)
    assert await again.fetchval("select 1") == 1
    await again.close()


@needs(PostgresServer)
def test_a_failed_tool_says_why(postgres: PostgresServer) -> None:
    postgres.create_database("twice")
    with pytest.raises(ServiceError, match="already exists"):
        postgres.create_database("twice")


@needs(KafkaServer)
@needs(PostgresServer)
def test_what_one_interpreter_started_another_stops(tmp_path: Path) -> None:
    printed = _services("up", tmp_path).stdout
    try:
        kafka, postgres = KafkaServer(tmp_path / "kafka"), PostgresServer(tmp_path / "postgres")
        assert printed.splitlines() == [
            f"export JML_TEST_KAFKA={kafka.bootstrap}",
            f"export JML_TEST_POSTGRES={postgres.url}",
        ]
        assert kafka.running
        assert postgres.running
        assert _services("up", tmp_path).stdout == printed
    finally:
        _services("down", tmp_path)
    assert not kafka.running
    assert not postgres.running


def test_a_machine_without_java_is_told_so_in_one_line(tmp_path: Path) -> None:
    bare = {key: value for key, value in os.environ.items() if key != "JAVA_HOME"} | {"PATH": str(tmp_path)}
    done = _services("up", tmp_path, environment=bare, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "Kafka needs Java 17 or newer, and there is no `java`: apt-get install default-jre-headless\n"
    )


def test_a_stale_process_id_is_not_taken_for_the_server(tmp_path: Path) -> None:
    (tmp_path / "kafka.pid").write_text(str(os.getpid()))
    server = KafkaServer(tmp_path)
    server.kill()
    assert not server.running


def _services(
    action: str, folder: Path, environment: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.services", action, "--folder", str(folder)]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=check)


async def _connect(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(url.replace("+asyncpg", ""))


async def _create_topic(kafka: KafkaServer, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    await admin.close()


async def _values(kafka: KafkaServer, topic: str) -> list[bytes | None]:
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        batches = await consumer.getmany(timeout_ms=5000)
        return [record.value for record in batches.get(partition, [])]
