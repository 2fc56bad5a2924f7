"""`jml held` and `jml apps`: what operators see, decide and leave behind in the audit log."""

import asyncio
from datetime import timedelta

import pytest

from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.domain.account import Account
from orchestrator.domain.breaker import Held
from orchestrator.ports import ApplicationHealth, ResolveChanges
from schemas.audit import AuditEntry
from tests.unit.cli.conftest import SUBJECTS
from tests.unit.cli.console import NOW, Jml
from tests.unit.cli.test_operating import outbox


@pytest.fixture
def breaking(world: str) -> str:
    """Three commands are held, by two sources."""
    held = [
        _held("4711", "crm", 3, "hr/workday", 2),
        _held("4711", "wiki", 2, "idp/okta", 1),
        _held("4712", "crm", 2, "hr/workday", 0),
    ]

    async def hold() -> None:
        database = Database(world)
        async with SqlResolveStore(database).transaction() as transaction:
            await transaction.load(["4711", "4712"])
            await transaction.save(ResolveChanges(held=held), now=NOW)
        await database.close()

    asyncio.run(hold())
    return world


def _held(person_id: str, app: str, revision: int, source: str, minutes: int) -> Held:
    account = Account(person_id, app, revision, "inactive", {"userName": "x"}, (), NOW, "hr#9", "case-9", "p1")
    return Held(account, "deactivate", "deactivate", source, NOW, NOW + timedelta(minutes=minutes))


@pytest.mark.usefixtures("breaking")
def test_what_is_held_is_listed_by_application_and_source(jml: Jml) -> None:
    assert [one["person_id"] for one in jml("held", "list", "--json").json["held"]] == ["4712", "4711", "4711"]
    assert jml("held", "list", "--app", "wiki", "--json").json["count"] == 1
    assert jml("held", "list", "--source", "hr/workday", "--json").json["count"] == 2
    assert "hr/workday" in jml("held", "list").out
    assert jml("held", "list", "--rejected", "--json").json["count"] == 0


@pytest.mark.usefixtures("breaking")
def test_status_raises_the_alarm(jml: Jml) -> None:
    assert "ALARM: the breaker holds 3 commands" in jml("status").out
    status = jml("status", "--json").json
    assert (status["held"], status["applications"]["crm"]["held"]) == (3, 2)


def test_a_release_changes_the_account_and_says_who_and_why(
    jml: Jml, breaking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JML_OPERATOR", "grace")
    answer = jml("held", "release", "--person", "4711", "--app", "crm", "--reason", "confirmed", "--json")
    assert [one["person_id"] for one in answer.json["released"]] == ["4711"]
    assert jml("held", "list", "--json").json["count"] == 2

    async def state() -> str:
        database = Database(breaking)
        rows = await SqlConvergeStore(database).load("crm", ["4711"])
        await database.close()
        return rows["4711"][0].state

    assert asyncio.run(state()) == "inactive"
    ((message, issued),) = outbox(breaking)
    entry = AuditEntry.model_validate_json(message.value)
    assert (entry.kind.value, entry.actor) == ("command_released", "operator:grace")
    assert (entry.subject, entry.app, entry.revision) == (SUBJECTS["4711"].id, "crm", 3)
    assert (entry.details["reason"], entry.details["source"]) == ("confirmed", "hr/workday")
    went_out = AuditEntry.model_validate_json(issued.value)
    assert (went_out.kind.value, went_out.subject, went_out.revision) == ("command_issued", entry.subject, 3)
    told = {name: went_out.details[name] for name in ("command", "state", "previous_state")}
    assert told == {"command": "deactivate", "state": "inactive", "previous_state": "active"}


@pytest.mark.usefixtures("breaking")
def test_many_are_confirmed_with_their_number(jml: Jml) -> None:
    jml("held", "reject", "--source", "hr/workday", "--reason", "mistake").refused("reject 2 commands", "--yes")
    assert jml("held", "reject", "--all", "--reason", "mistake", "--yes", "--json").json["count"] == 3
    assert jml("held", "list", "--json").json["count"] == 0
    assert jml("held", "list", "--rejected", "--json").json["count"] == 3
    jml("held", "reject", "--all", "--reason", "mistake", "--yes").refused("nothing of that kind is held")


@pytest.mark.usefixtures("breaking")
def test_a_rejected_command_can_still_be_released_by_name(jml: Jml) -> None:
    jml("held", "reject", "--person", "4712", "--reason", "mistake")
    assert jml("held", "release", "--app", "crm", "--reason", "meant", "--yes").err.endswith("\n1 command released\n")
    assert jml("held", "list", "--rejected", "--json").json["count"] == 1
    assert jml("held", "release", "--person", "4712", "--reason", "meant", "--json").json["count"] == 1


@pytest.mark.usefixtures("breaking")
def test_a_decision_needs_a_reason_and_an_object(jml: Jml) -> None:
    jml("held", "release", "--all").refused("--reason is missing")
    jml("held", "release", "--reason", "x").refused("say what to release")
    jml("held", "release", "--all", "--app", "crm", "--reason", "x").refused("say what to release")


@pytest.mark.usefixtures("breaking")
def test_an_application_that_is_not_configured_is_refused_and_not_taken_for_an_empty_one(jml: Jml) -> None:
    jml("held", "list", "--app", "nope").refused("there is no application 'nope'", "crm, wiki")
    for decision in ("release", "reject"):
        jml("held", decision, "--app", "nope", "--reason", "x").refused("there is no application 'nope'")


# --- applications ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("breaking")
def test_applications_are_listed_with_what_is_left_to_do(jml: Jml) -> None:
    crm, wiki = jml("apps", "list", "--json").json["applications"]
    assert (crm["app"], crm["state"], crm["parked"], crm["held"], crm["budget"]) == ("crm", "open", 2, 2, [])
    assert (wiki["state"], wiki["reason"], wiki["pending"]) == ("paused", "401 from the server", 1)
    assert "401 from the server" in jml("apps", "list").out


def test_an_operators_stop_stands_whatever_a_probe_finds(jml: Jml, world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JML_OPERATOR", "grace")
    assert jml("apps", "pause", "wiki", "--reason", "their maintenance").code == 0
    jml("apps", "pause", "wiki").refused("--reason is missing")

    async def probe() -> None:
        database = Database(world)
        await SqlConvergeStore(database).save_health("wiki", ApplicationHealth("open", since=NOW))
        await database.close()

    asyncio.run(probe())
    _, wiki = jml("apps", "list", "--json").json["applications"]
    assert (wiki["state"], wiki["found"], wiki["reason"]) == ("stopped", "open", "grace: their maintenance")
    assert "stopped" in jml("status").out
    assert jml("apps", "resume", "wiki").code == 0
    _, wiki = jml("apps", "list", "--json").json["applications"]
    assert (wiki["state"], wiki["reason"]) == ("open", "")
    kinds = [AuditEntry.model_validate_json(one.value) for (one,) in outbox(world)]
    assert [(one.kind.value, one.actor, one.app) for one in kinds] == [
        ("application_paused", "operator:grace", "wiki"),
        ("application_resumed", "operator:grace", "wiki"),
    ]


@pytest.mark.usefixtures("world")
def test_an_application_that_is_not_configured_cannot_be_stopped(jml: Jml) -> None:
    jml("apps", "pause", "nonsense", "--reason", "x").refused("'nonsense'", "crm, wiki")
