"""What a connector tells the audit log of a working life: calls, groups and times in the open, the rest sealed."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.demo.servers.plain import Response
from schemas.audit import AuditEntry
from schemas.envelope import instant
from tests.integration.application import Application
from tests.integration.connector import NOW, Connector, Office, resource

TIMES = ("effective_at", "received_at", "sent_at")


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
    # On a busy machine a short timeout is one more attempt, and rightly one more outcome.
    async with Connector(office, application.base_url, clock, timeout=30).running() as connector:
        yield connector


async def applied(connector: Connector, revision: int) -> Mapping[str, Any]:
    (entry,) = await connector.recorded("command_applied", person_id="ada", revision=revision)
    return entry


async def test_each_outcome_tells_calls_groups_times_and_what_changed(
    connector: Connector, office: Office, application: Application
) -> None:
    await connector.converge("ada", groups=["staff", "crew"])
    user = await application.user("ada")
    assert user is not None
    created = await applied(connector, 1)
    assert created["details"]["calls"] == [["POST", "/Users", 201]]
    assert created["details"]["groups_added"] == ["crew", "staff"]
    assert created["values"] == {"account": user["id"], "after": resource("ada")}

    await connector.converge("ada", groups=["staff"], title="Lead")
    patched = await applied(connector, 2)
    assert patched["details"]["calls"] == [["PATCH", "/Users/{account}", 200]]
    assert patched["details"]["groups_removed"] == ["crew"]
    assert "groups_added" not in patched["details"]
    assert patched["values"] == {
        "account": user["id"],
        "before": {"title": resource("ada")["title"]},
        "after": {"title": "Lead"},
    }

    await connector.converge("ada", state="inactive")
    closed = await applied(connector, 3)
    assert [call[:2] for call in closed["details"]["calls"]] == [
        ["PATCH", "/Users/{account}"],
        ["GET", "/Users/{account}"],
    ]
    assert closed["values"] == {"account": user["id"]}, "nothing else was changed"
    times = [instant(closed["details"][name]) for name in (*TIMES, "verified_at")]
    assert times == sorted(times)
    assert instant(closed["at"]) >= times[-1]

    await connector.known_everywhere()
    await connector.converge("ada", state="absent")
    deleted = await applied(connector, 4)
    assert deleted["details"]["calls"] == [["DELETE", "/Users/{account}", 204], ["GET", "/Users/{account}", 404]]
    assert deleted["values"]["account"] == user["id"]
    assert deleted["values"]["before"].keys() == resource("ada").keys()


async def test_the_actor_is_who_caused_it_and_every_outcome_has_its_intent(
    connector: Connector, office: Office, application: Application
) -> None:
    application.faults("POST", Response(503))
    await connector.converge("ada", "bea", groups=["staff"])
    await connector.wait(30)
    await connector.converge("ada", "bea", state="inactive")
    entries = await connector.recorded("call_intended")
    assert {one["actor"] for one in entries} == {"hr"}
    intents: set[tuple[Any, ...]] = set()
    outcomes = []
    for one in connector.audit:
        place = (one.get("subject"), one.get("app"), one.get("revision"), one["writer"])
        details = one.get("details", {})
        if one["kind"] == "call_intended":
            intents.add(place)
        elif any(details.get(name) for name in ("calls", "groups_added", "groups_removed")):
            assert place in intents, one
            outcomes.append((one["kind"], one["revision"], details["state"]))
    done = "command_applied"
    assert outcomes == [(done, 1, "active"), (done, 1, "active"), (done, 2, "inactive"), (done, 2, "inactive")]
    (retried,) = await connector.recorded("command_retried")
    assert (retried["details"]["code"], retried["details"]["calls"]) == ("unavailable", [])


async def test_a_failure_is_told_like_a_success(connector: Connector, office: Office, application: Application) -> None:
    await connector.converge("ada")
    application.faults("PATCH", Response(503))
    await connector.converge("ada", title="Lead")
    (retried,) = await connector.recorded("command_retried")
    assert (retried["details"]["code"], retried["details"]["attempts"], retried["details"]["state"]) == (
        "unavailable",
        1,
        "active",
    )
    assert instant(retried["details"]["sent_at"]) <= instant(retried["details"]["next_attempt"])
    application.faults("PATCH", Response(400), Response(400), Response(400))
    await connector.wait(30)
    (parked,) = await connector.recorded("command_parked")
    assert (parked["details"]["code"], parked["details"]["leaver"], parked["details"]["attempts"]) == (
        "rejected",
        False,
        2,
    )
    assert "account" in parked["values"]


async def test_nothing_personal_stands_in_the_open(connector: Connector, application: Application) -> None:
    await connector.converge("zuzka", groups=["staff"], title="Countess of Lovelace", correlation_id="case/zuzka/7")
    await connector.converge("zuzka", state="inactive", correlation_id="case/zuzka/7")
    user = await application.user("zuzka")
    assert user is not None
    for one in connector.audit:
        AuditEntry.model_validate(one)
        rezuzkable = {name: value for name, value in one.items() if name != "sealed"}
        for canary in ("zuzka", "Lovelace", user["id"]):  # no random number in hexadecimal has a z
            assert canary not in str(rezuzkable), rezuzkable
    assert {datetime.fromisoformat(one["at"]) for one in connector.audit} != set()


async def test_each_entry_of_an_account_tells_the_version_of_the_row_that_was_saved_with_it(
    connector: Connector, office: Office
) -> None:
    """Which of two entries is the newer one no clock can say."""
    await connector.converge("ada")
    version = (await office.progress("ada")).version
    assert (await applied(connector, 1))["details"]["fence"] == version
    await connector.converge("ada", state="inactive")
    assert (await applied(connector, 2))["details"]["fence"] == (await office.progress("ada")).version
    (first, second) = await connector.recorded("call_intended")
    assert first["details"]["fence"] < version < second["details"]["fence"]
