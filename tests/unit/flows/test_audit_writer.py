"""A writer's numbers: gapless as long as the outcome of every transaction is known."""

from typing import Any

import orjson

from orchestrator.flows.audit_writer import AuditWriter, Entry
from schemas.audit import AuditEntry, AuditKind
from schemas.envelope import Message, read_envelope
from schemas.topics import AUDIT_ENTRIES
from tests.unit.flows.fakes import NOW


def entries(number: int) -> list[Entry]:
    return [Entry(AuditKind.EVENT_RECEIVED, NOW, "hr", person_id=f"w{count}") for count in range(number)]


def body(message: Message) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(message.value)
    return value


def place(message: Message) -> tuple[int, int]:
    return body(message)["epoch"], body(message)["sequence"]


def test_numbers_go_on_from_the_last_saved_entry() -> None:
    writer = AuditWriter("resolver", NOW)
    first = writer.stamp(entries(2))
    writer.saved(2)
    second = writer.stamp(entries(1))
    epoch = place(first[0])[0]
    assert [place(message) for message in (*first, *second)] == [(epoch, 1), (epoch, 2), (epoch, 3)]


def test_numbers_of_a_transaction_that_was_rolled_back_are_used_again() -> None:
    writer = AuditWriter("resolver", NOW)
    assert [place(message) for message in writer.stamp(entries(2))] == [
        place(message) for message in writer.stamp(entries(2))
    ]


def test_an_unknown_outcome_begins_a_new_epoch() -> None:
    writer = AuditWriter("resolver", NOW)
    writer.saved(len(writer.stamp(entries(2))))
    before = place(writer.stamp(entries(1))[0])
    writer.lost()
    after = place(writer.stamp(entries(1))[0])
    assert before[1] == 3
    assert after[0] > before[0]
    assert after[1] == 1


def test_two_writers_never_share_a_name() -> None:
    assert AuditWriter("resolver", NOW).name != AuditWriter("resolver", NOW).name


def test_the_message_is_an_event_that_says_the_same_as_its_body() -> None:
    writer = AuditWriter("connector.crm", NOW)
    told = Entry(
        AuditKind.COMMAND_APPLIED,
        NOW,
        "connector",
        person_id="w1",
        app="crm",
        revision=3,
        event_id="hr#1",
        correlation_id="case",
        policy="p1",
        details={"calls": [["PATCH", 200]]},
    )
    (message,) = writer.stamp([told])
    assert (message.topic, message.key) == (AUDIT_ENTRIES, b"w1")
    read = AuditEntry.model_validate_json(message.value)
    envelope = read_envelope(message.value, message.headers)
    assert envelope.id == read.id == f"{writer.name}/{read.epoch}/1"
    assert envelope.type == AuditEntry.TYPE
    assert envelope.time == read.at == NOW
    assert (read.kind, read.revision, read.details) == (AuditKind.COMMAND_APPLIED, 3, {"calls": [["PATCH", 200]]})


def test_what_is_not_known_is_left_out() -> None:
    (message,) = AuditWriter("relay", NOW).stamp([Entry(AuditKind.APPLICATION_PAUSED, NOW, "connector", app="crm")])
    assert message.key == b""
    assert body(message).keys() == {"id", "writer", "epoch", "sequence", "at", "kind", "actor", "app"}
