"""Events from files: checked whole before the first is sent, routed by type, keyed by person."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from orchestrator.adapters.kafka.embedded import EmbeddedBroker
from orchestrator.cli import services
from orchestrator.cli.event_lines import BadEvent, check, message, unchecked
from schemas.envelope import Envelope, read_envelope
from tests.unit.cli.console import NOW, Jml

SAMPLES = Path(__file__).parents[2] / "samples"
FROM_OUTSIDE = sorted(path for path in (SAMPLES / "events").iterdir() if path.stem != "timer_fired")


def line(path: Path) -> bytes:
    return orjson.dumps(orjson.loads(path.read_bytes()))


@pytest.fixture
def events(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All good samples but the timer, one per line, with a blank line and a byte order mark as editors leave them; at
    a time when all of them have happened."""
    monkeypatch.setattr(services, "now", lambda: NOW + timedelta(days=366))
    path = folder / "events.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n\n".join(line(one) for one in FROM_OUTSIDE))
    return path


@pytest.fixture
def broker(configured: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A broker that the configuration names."""
    embedded = EmbeddedBroker()
    embedded.start()
    monkeypatch.setenv("JML_KAFKA__BOOTSTRAP", embedded.bootstrap)
    yield embedded.bootstrap
    embedded.stop()


@pytest.mark.parametrize("path", FROM_OUTSIDE, ids=lambda path: path.stem)
def test_an_event_goes_to_the_topic_of_its_type_keyed_by_person(path: Path) -> None:
    envelope, change = check(line(path))
    record = message(envelope, change)
    assert record.topic == ("idp.events" if path.stem.startswith("idp") else "hr.events")
    data = orjson.loads(line(path))["data"]
    assert record.key.decode() == (data.get("worker_id") or data["email"].lower())
    assert read_envelope(record.value, record.headers) == envelope


def test_timers_come_from_the_scheduler_alone() -> None:
    with pytest.raises(BadEvent, match="scheduler alone"):
        message(*check(line(SAMPLES / "events" / "timer_fired.json")))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing_id", "attribute id is missing"),
        ("time_without_zone", "has no time zone"),
        ("unknown_specversion", "CloudEvents 2.0"),
        ("unknown_type_version", "did you mean 'jml.worker.joined.v1'"),
        ("end_before_start", "data: contract_end 2026-03-15 is before"),
        ("ends_at_without_zone", "data.ends_at"),
        ("missing_worker_id", "data.worker_id: Field required"),
        ("nul_in_name", "data.attributes.given_name: holds a NUL"),
    ],
)
def test_a_bad_event_says_what_is_wrong_with_it(name: str, reason: str) -> None:
    with pytest.raises(BadEvent) as refused:
        check(line(SAMPLES / "bad" / f"{name}.json"))
    assert reason in str(refused.value)


def test_what_is_not_checked_goes_as_it_is_to_the_likely_topic() -> None:
    for text, topic, key in (
        (b"\xff\x00", "hr.events", b""),
        (b"[1]", "hr.events", b""),
        (b'{"type":"jml.idp.nonsense","data":{"email":"A@B.example"}}', "idp.events", b"a@b.example"),
        (b'{"data":{"worker_id":"4711"}}', "hr.events", b"4711"),
    ):
        record = unchecked(text)
        assert (record.topic, record.key, record.value) == (topic, key, text)


@pytest.mark.usefixtures("configured")
def test_bad_lines_are_named_by_number_and_nothing_is_sent(jml: Jml, events: Path) -> None:
    good = events.read_bytes()
    events.write_bytes(good + b"\n{nonsense\n")
    number = good.count(b"\n") + 2
    jml("events", "send", events).refused(f"{events}, line {number}: ", "nothing was sent", "one event per line")
    bad = b"\n".join(line(SAMPLES / "bad" / f"{name}.json") for name in ("missing_id", "nul_in_name"))
    answer = jml("events", "send", "-", stdin=bad)
    assert answer.code == 2
    first, second, last = answer.err.splitlines()
    assert first.startswith("jml: standard input, line 1: ")
    assert second.startswith("jml: standard input, line 2: ")
    assert last == "jml: 2 bad lines, nothing was sent"


def changed(day: datetime, attributes: dict[str, object]) -> bytes:
    data = {"worker_id": "4711", "attributes": attributes, "effective": "2026-03-01"}
    event = {"specversion": "1.0", "id": "1", "source": "hr/x", "type": "jml.worker.moved.v1", "time": day}
    return orjson.dumps({**event, "data": data})


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("command", [("events", "send"), ("schema", "check")], ids=" ".join)
def test_what_would_not_be_taken_as_it_was_meant_is_a_bad_line(
    jml: Jml, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "now", lambda: NOW)
    ahead = timedelta(days=1, seconds=1)
    answer = jml(
        *command,
        "-",
        stdin=b"\n".join(
            (
                changed(NOW + ahead, {"title": "Fellow"}),
                changed(NOW + timedelta(days=1), {"time_zone": "Australia/Melbourne"}),
                changed(NOW, {"time_zone": "Mars/Olympus"}),
                changed(NOW, {"time_zone": None}),
            )
        ),
    )
    assert (answer.code, answer.out) == (2, "")
    future, zone, last = answer.err.splitlines()
    assert future.startswith("jml: standard input, line 1: the CloudEvents attribute time, 2026-03-03T08:15:01")
    assert "more than a day ahead of our clock" in future
    assert zone.startswith("jml: standard input, line 3: data.attributes.time_zone: ")
    assert "'Mars/Olympus'" in zone
    assert last.startswith("jml: 2 bad lines, ")


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_a_file_without_events_is_refused(jml: Jml, folder: Path, content: bytes) -> None:
    (folder / "empty.jsonl").write_bytes(content)
    for command in (("events", "send"), ("events", "send", "--no-validate"), ("schema", "check")):
        jml(*command, "empty.jsonl").refused("empty.jsonl holds no events")
        jml(*command, "-", stdin=content).refused("standard input holds no events")


def test_events_arrive(jml: Jml, events: Path, broker: str) -> None:
    sent = jml("events", "send", events, "--json").json
    assert sent == {"published": len(FROM_OUTSIDE), "topics": {"hr.events": len(FROM_OUTSIDE) - 3, "idp.events": 3}}
    arrived = consume(broker, "hr.events", sent["topics"]["hr.events"])
    wanted = {check(line(path))[0].key for path in FROM_OUTSIDE if not path.stem.startswith("idp")}
    assert {one.key for one in arrived} == wanted


def test_standard_input_is_a_file_too(jml: Jml, events: Path, broker: str) -> None:
    answer = jml("events", "send", "-", stdin=events.read_bytes())
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"published {len(FROM_OUTSIDE)} events: ")


def test_an_export_is_imported(jml: Jml, folder: Path, broker: str) -> None:
    export = folder / "export"
    export.mkdir()
    for name, text in {
        "employee.csv": "emp_no,birth_date,first_name,last_name,gender,hire_date\n10001,1953-09-02,A,B,M,1986-06-26\n",
        "department.csv": "dept_no,dept_name\nd005,Development\n",
        "dept_emp.csv": "emp_no,dept_no,from_date,to_date\n10001,d005,1986-06-26,9999-01-01\n",
        "dept_manager.csv": "emp_no,dept_no,from_date,to_date\n",
        "title.csv": "emp_no,title,from_date,to_date\n10001,Engineer,1986-06-26,9999-01-01\n",
    }.items():
        (export / name).write_text(text)
    assert jml("hr", "import", export, "--json").json == {"published": 1, "topics": {"hr.events": 1}}
    (event,) = consume(broker, "hr.events", 1)
    assert event.type == "jml.worker.joined.v1"
    assert jml("hr", "import", export).out == f"published 1 event from {export}\n"
    (export / "employee.csv").write_text("emp_no\n")
    jml("hr", "import", export).refused("employee.csv, line 1")


def consume(bootstrap: str, topic: str, count: int) -> list[Envelope]:
    async def read() -> list[Envelope]:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=20)
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, one) for one in consumer.partitions_for_topic(topic) or range(4)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
            found: list[Envelope] = []
            async with asyncio.timeout(10):
                while len(found) < count:
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        found += [read_envelope(one.value, one.headers) for one in records]
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())
