"""Whom the chaos judge takes a subject for: whoever the event was told of, and nobody by our database."""

import random
from datetime import UTC, datetime

from orchestrator.chaos.evidence import with_people
from orchestrator.chaos.plan import Told, make_plan
from orchestrator.domain.sealing import anonymous

START = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)


def test_a_subject_is_whoever_its_events_were_told_of() -> None:
    told = [Told(f"ofW{number}/0", f"W{number}", "joined", START, {}, 0.0) for number in (1, 2)]
    entries = [
        {"kind": "event_received", "subject": "a" * 32, "event_id": "hr/chaos#ofW2/0"},
        {"kind": "event_received", "subject": "b" * 32, "event_id": "hr/chaos#ofW1/0"},
        {"kind": "event_received", "subject": "b" * 32, "event_id": "jml/scheduler#" + "b" * 32 + "/contract_end/x"},
        {"kind": "command_applied", "subject": "a" * 32, "app": "app0"},
        {"kind": "command_applied", "subject": "c" * 32, "app": "app0"},
        {"kind": "application_paused", "app": "app0"},
    ]
    named = with_people(entries, told, "hr/chaos")
    assert [one["person_id"] for one in named] == ["W2", "W1", "W1", "W2", "c" * 32, None]
    assert [{**one, "person_id": None} for one in named] == [{**one, "person_id": None} for one in entries]


def test_the_ids_of_the_load_stay_as_they_are_in_the_log() -> None:
    plan = make_plan(random.randrange(99), 30, 60.0, START, "canary")
    assert plan
    assert all(anonymous(one.id, one.person, "subject") == one.id for one in plan)
