"""A writer's numbers: gapless as long as the outcome of every transaction is known."""

from typing import Any

import orjson

from orchestrator.domain.sealing import known_as, new_subject, unseal
from orchestrator.flows.audit_writer import MAX_SEALED_BYTES, AuditWriter, Entry, actor_of
from schemas.audit import AuditEntry, AuditKind
from schemas.envelope import Message, read_envelope
from schemas.topics import AUDIT_ENTRIES
from tests.unit.flows.fakes import NOW

ADA = new_subject("w1")


def entries(number: int) -> list[Entry]:
    return [Entry(AuditKind.EVENT_RECEIVED, NOW, "hr", new_subject(f"w{count}")) for count in range(number)]


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
        ADA,
        app="crm",
        revision=3,
        event_id="hr#1",
        correlation_id="case",
        policy="p1",
        details={"calls": [["PATCH", "/Users/{account}", 200]]},
        sealed={"account": "ada"},
    )
    (message,) = writer.stamp([told])
    assert (message.topic, message.key) == (AUDIT_ENTRIES, ADA.id.encode())
    read = AuditEntry.model_validate_json(message.value)
    envelope = read_envelope(message.value, message.headers)
    assert envelope.id == read.id == f"{writer.name}/{read.epoch}/1"
    assert envelope.type == AuditEntry.TYPE
    assert envelope.time == read.at == NOW
    assert (read.kind, read.subject, read.revision) == (AuditKind.COMMAND_APPLIED, ADA.id, 3)
    assert read.details == {"calls": [["PATCH", "/Users/{account}", 200]]}
    assert unseal(ADA.key or b"", read.id, read.sealed or "") == {"account": "ada"}


def test_the_person_is_not_in_the_identifiers_that_others_made() -> None:
    told = Entry(
        AuditKind.TIMER_FIRED,
        NOW,
        "scheduler",
        ADA,
        event_id="employees#employees:w1:2026-03-02:left",
        correlation_id="ticket/w1-ada@example.com",
    )
    (message,) = AuditWriter("scheduler", NOW).stamp([told])
    assert body(message)["event_id"] == f"employees#employees:{ADA.id}:2026-03-02:left"
    assert body(message)["correlation_id"] == f"ticket/{ADA.id}"
    assert b"w1" not in message.value


def test_somebody_whom_the_log_does_not_know_has_no_name_in_it() -> None:
    nobody = known_as({}, "w1")
    told = Entry(AuditKind.EVENT_DUPLICATED, NOW, "hr", nobody, event_id="hr#w1/joined", sealed={"person_id": "w1"})
    (message,) = AuditWriter("resolver", NOW).stamp([told])
    assert message.key == b""
    assert body(message)["event_id"] == "hr#somebody/joined"
    assert {"subject", "sealed"}.isdisjoint(body(message))


def test_what_no_broker_would_take_is_left_out_and_its_size_told() -> None:
    huge = Entry(AuditKind.EVENT_RECEIVED, NOW, "hr", ADA, sealed={"stated": "x" * MAX_SEALED_BYTES})
    (message,) = AuditWriter("resolver", NOW).stamp([huge])
    assert len(message.value) < 1000
    read = AuditEntry.model_validate_json(message.value)
    assert unseal(ADA.key or b"", read.id, read.sealed or "") == {"left_out_bytes": MAX_SEALED_BYTES + 13}


def test_actors_are_sources_the_scheduler_and_operators_by_name() -> None:
    sources = ("hr/workday", "jml/scheduler", "jml/operator/grace", "jml/operatorless")
    assert [actor_of(source) for source in sources] == [
        "hr/workday",
        "scheduler",
        "operator:grace",
        "jml/operatorless",
    ]


def test_what_is_not_known_is_left_out() -> None:
    (message,) = AuditWriter("relay", NOW).stamp([Entry(AuditKind.APPLICATION_PAUSED, NOW, "connector", app="crm")])
    assert message.key == b""
    assert body(message).keys() == {"id", "writer", "epoch", "sequence", "at", "kind", "actor", "app"}
