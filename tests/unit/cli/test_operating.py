"""What operators see and do: status, person, parked, quarantine."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.cli import run
from orchestrator.cli.person import attributes_since
from orchestrator.domain.history import History, Statement
from schemas.audit import AuditEntry
from schemas.envelope import Message
from tests.unit.cli.console import NOW, Jml


@pytest.mark.usefixtures("world")
def test_status_is_one_json_document_with_every_application_and_status(jml: Jml) -> None:
    status = jml("status", "--json").json
    assert status["persons"] == {"active": 2, "left": 1}
    crm, wiki = status["applications"]["crm"], status["applications"]["wiki"]
    assert crm["accounts"] == {"pending": 0, "applied": 1, "retrying": 0, "parked": 2}
    assert (crm["parked_leavers"], crm["health"]["state"]) == (1, "open")
    assert (wiki["health"]["state"], wiki["health"]["reason"]) == ("paused", "401 from the server")
    assert status["parked_leavers"] == 1
    assert status["timers"] == {"open": 1, "next_due": "2026-09-18T08:15:00Z"}
    assert (status["outbox"]["segments"], status["quarantined"]) == (0, 1)


@pytest.mark.usefixtures("world")
def test_status_for_people_raises_the_alarm_for_parked_leavers(jml: Jml) -> None:
    answer = jml("status")
    assert answer.code == 0
    assert "ALARM: 1 parked leaver still has access" in answer.out
    assert "401 from the server" in answer.out
    assert answer.err == ""


@pytest.mark.usefixtures("world")
def test_an_application_that_left_the_configuration_is_still_shown(jml: Jml) -> None:
    config = Path("jml.toml")
    config.write_text(config.read_text().replace("apps.crm", "apps.other"))
    applications = jml("status", "--json").json["applications"]
    assert [(name, one["configured"]) for name, one in applications.items()] == [
        ("other", True),
        ("wiki", True),
        ("crm", False),
    ]


@pytest.mark.usefixtures("world")
def test_a_person_is_shown_over_all_applications(jml: Jml) -> None:
    shown = jml("person", "show", "4711", "--json").json
    assert (shown["id"], shown["standing"]["status"], shown["standing"]["kind"]) == ("4711", "active", "employee")
    assert shown["attributes"]["title"] == {"value": "Fellow", "since": "2026-02-21T08:15:00Z"}
    assert shown["attributes"]["department"] == {"value": "Research", "since": "2026-01-31T08:15:00Z"}
    (engagement,) = shown["engagements"]
    assert (engagement["id"], engagement["start"], engagement["end"]) == ("e1", "2026-01-31T00:00:00Z", None)
    crm, wiki = shown["accounts"]
    assert (crm["app"], crm["status"], crm["desired_revision"], crm["applied_revision"], crm["remote_id"]) == (
        "crm",
        "applied",
        2,
        2,
        "r-4711",
    )
    assert (wiki["app"], wiki["status"], wiki["applied_revision"]) == ("wiki", "pending", 0)
    assert [one["kind"] for one in shown["timers"]] == ["contract_end"]
    assert [(one["position"], one["kind"]) for one in shown["timeline"]] == [
        (0, "event_received"),
        (1, "command_issued"),
        (3, "command_applied"),
    ]


@pytest.mark.usefixtures("world")
def test_what_came_from_outside_cannot_repaint_the_terminal(jml: Jml) -> None:
    for command in (("person", "show", "4712"), ("parked", "list"), ("quarantine", "show", "hr.events", "3", "1042")):
        answer = jml(*command)
        assert answer.code == 0
        assert "\x1b" not in answer.out
        assert r"\x1b[" in answer.out


@pytest.mark.usefixtures("world")
def test_an_unknown_person_is_one_line(jml: Jml) -> None:
    jml("person", "show", "0815").refused("'0815'")


def test_since_is_the_beginning_of_the_present_value_and_the_future_is_left_out() -> None:
    day = timedelta(days=1)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    told = [
        Statement(start, NOW, "1", {"title": "A", "on_leave": False}),
        Statement(start + day, NOW, "2", {"title": "B"}),
        Statement(start + 2 * day, NOW, "3", {"title": "A"}),
        Statement(start + 3 * day, NOW, "4", {"title": "A"}),
        Statement(start + 9 * day, NOW, "5", {"title": "C"}),
    ]
    assert attributes_since(History(tuple(told)), start + 5 * day) == {
        "on_leave": {"value": False, "since": start},
        "title": {"value": "A", "since": start + 2 * day},
    }


@pytest.mark.usefixtures("world")
def test_parked_accounts_are_listed_with_leavers_first(jml: Jml) -> None:
    found = jml("parked", "list", "--json").json
    assert (found["count"], found["leavers"]) == (2, 1)
    assert [(one["person_id"], one["leaver"]) for one in found["parked"]] == [("4713", True), ("4712", False)]
    assert "inactive LEAVER" in jml("parked", "list", "--app", "crm").out
    assert jml("parked", "list", "--app", "wiki", "--json").json["count"] == 0
    jml("parked", "list", "--app", "nonsense").refused("'nonsense'", "crm, wiki")


def test_a_retry_makes_the_account_pending_and_says_who_did_it_and_why(
    jml: Jml, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JML_OPERATOR", "grace")
    done = jml("parked", "retry", "4713", "--reason", "their outage is over", "--json").json
    assert [(one["person_id"], one["app"], one["leaver"]) for one in done["retried"]] == [("4713", "crm", True)]
    assert [one["person_id"] for one in jml("parked", "list", "--json").json["parked"]] == ["4712"]

    ((message,),) = outbox(world)
    assert (message.topic, message.key) == ("audit.entries", b"d" * 32)
    entry = AuditEntry.model_validate_json(message.value)
    assert (entry.kind.value, entry.actor, entry.sequence) == ("operator_acted", "operator:grace", 1)
    assert (entry.subject, entry.app, entry.revision, entry.correlation_id) == ("d" * 32, "crm", 4, "case-3")
    assert entry.details == {
        "action": "retry_parked",
        "reason": "their outage is over",
        "error_code": "rejected",
        "attempts": 5,
        "fence": 2,
    }


def test_all_parked_accounts_can_be_retried_at_once_with_a_gapless_sequence(jml: Jml, world: str) -> None:
    assert jml("parked", "retry", "--all", "--json").json["count"] == 2
    again = jml("parked", "retry", "--all")
    assert (again.code, again.err) == (0, "nothing is parked\n")
    (messages,) = outbox(world)
    assert [orjson.loads(one.value)["sequence"] for one in messages] == [1, 2]


@pytest.mark.usefixtures("world")
def test_a_person_without_a_parked_account_is_a_mistake(jml: Jml) -> None:
    jml("parked", "retry", "4711").refused("'4711' has no parked account")
    jml("parked", "retry", "4712", "--app", "wiki").refused("in wiki")


def outbox(url: str) -> list[list[Message]]:
    async def read() -> list[list[Message]]:
        database = Database(url)
        try:
            leftover = await SqlOutbox(database).leftover(older_than=datetime.now(UTC) + timedelta(days=1), limit=10)
        finally:
            await database.close()
        return [messages for _, messages in leftover]

    return asyncio.run(read())


@pytest.mark.usefixtures("world")
def test_quarantine_lists_and_shows_records(jml: Jml) -> None:
    listed = jml("quarantine", "list", "--json").json
    assert listed["total"] == 1
    (one,) = listed["records"]
    assert (one["topic"], one["partition"], one["offset"], one["bytes"]) == ("hr.events", 3, 1042, 8)
    shown = jml("quarantine", "show", "hr.events", "3", "1042", "--json").json
    assert (shown["code"], shown["key"], shown["value"]) == ("undecodable", "4711", r"\xff\x1b[31m{\n")
    jml("quarantine", "show", "hr.events", "0", "1").refused("hr.events/0/1 is not in quarantine")


@pytest.mark.usefixtures("world")
def test_raw_is_the_record_and_nothing_else(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["quarantine", "show", "hr.events", "3", "1042", "--raw"]) == 0
    assert capsysbinary.readouterr() == (b"\xff\x1b[31m{\n", b"")
