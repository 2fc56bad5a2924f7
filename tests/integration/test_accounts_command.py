"""`jml accounts`: an ambiguous account is settled by a person, and the connector makes it what it should be."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.adapters.sql.reconciling import SqlReconcileStore
from orchestrator.domain import intent
from orchestrator.domain.account import AccountStatus
from orchestrator.errors import UserError
from orchestrator.flows import linking
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.ports import ParkedAccount, ProgressUpdate
from tests.integration.application import Application
from tests.integration.connector import Connector, Office, is_applied
from tests.integration.pipeline import event, eventually
from tests.integration.test_operator import NOW, House, house
from tests.integration.test_reconcile_command import HEADERS, settled
from tests.subjects import told


async def two_of_hers(application: Application) -> tuple[str, str]:
    """Two accounts with one externalId, which a server takes that compares user names only."""
    return (
        await application.put_in(userName="ada.one", externalId="ada"),
        await application.put_in(userName="ada.two", externalId="ada"),
    )


async def parked(here: House, person_id: str) -> ParkedAccount:
    store = SqlOperatorStore(here.runtime.database)

    async def look() -> list[ParkedAccount]:
        return await store.parked(person_id=person_id)

    found: list[ParkedAccount] = await eventually(look)
    return found[0]


async def test_an_ambiguous_account_is_linked_by_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intent, "LEASE_SECONDS", 1.0)  # so long a link waits for the connector
    async with house(tmp_path, monkeypatch) as here:
        one, two = await two_of_hers(here.application)
        body = {"worker_id": "ada", "start_date": "2026-01-05", "attributes": {"user_name": "ada.one"}}
        joined = event("worker.joined", body, event_id="join-ada", at=NOW - timedelta(hours=2))
        await here.runtime.publisher.publish([joined])
        waiting = await parked(here, "ada")
        assert (waiting.error_code, {*waiting.candidates}) == ("ambiguous_correlation", {one, two})
        shown = (await here.call("parked", "list", "--json")).json["parked"]
        assert {*shown[0]["candidates"]} == {one, two}

        link = ("accounts", "link", "crm", "--person", "ada")
        no_reason = await here.call(*link, "--account", two)
        assert (no_reason.code, "--reason is missing" in no_reason.err) == (2, True)
        unknown = await here.call(*link, "--account", "nothing", "--reason", "x")
        assert (unknown.code, "shows no account with that id" in unknown.err) == (2, True)

        async def linked() -> Any:
            done = await here.call(*link, "--account", two, "--reason", "her manager says so", "--json")
            return done.json if done.code == 0 else None

        assert (await eventually(linked))["state"] == "active"

        async with httpx.AsyncClient(base_url=here.application.base_url, headers=HEADERS) as client:
            (await client.delete(f"/Users/{one}")).raise_for_status()  # the user name is free

        async def right() -> bool:
            users = {user["id"]: user for user in await here.application.all("Users")}
            return bool(users[two]["userName"] == "ada.one")

        await here.call("parked", "retry", "--app", "crm")
        await eventually(right)
        await settled(here)
        await here.hires("bea", kind="employee")
        await settled(here)
        hers = await here.call("accounts", "link", "crm", "--person", "bea", "--account", two, "--reason", "x")
        assert (hers.code, "the account is ada's in crm" in hers.err) == (2, True)
        nobody = await here.call("accounts", "link", "crm", "--person", "cleo", "--account", two, "--reason", "x")
        assert (nobody.code, "should have no account" in nobody.err) == (2, True)


async def test_an_unlinked_account_stays_as_it_is_until_a_person_says_more(
    connector: Connector, application: Application, office: Office, clock: SimulatedClock
) -> None:
    await connector.converge("ada")
    before = await application.user("ada")
    assert before is not None
    store, writer = SqlReconcileStore(office.database), AuditWriter("operator", clock.now())
    said: dict[str, Any] = {"operator": "nina", "reason": "her namesake's", "now": clock.now()}
    clock.advance_to(clock.now() + timedelta(seconds=11))
    assert await linking.unlink("crm", "ada", store, writer, **said) == before["id"]
    progress = await office.progress("ada")
    assert (progress.status, progress.error_code, progress.remote_id) == (AccountStatus.PARKED, "unlinked", None)
    versions = [progress.version]
    await connector.wait(3600)
    assert await application.user("ada") == before
    with pytest.raises(UserError, match="no linked account"):
        await linking.unlink("crm", "ada", store, writer, **said)

    other = await application.put_in(userName="other@example.com")
    await linking.link("crm", "ada", other, store, writer, **said)
    versions.append((await office.progress("ada")).version)
    await application.take_out("ada")
    await connector.wait(30)
    assert is_applied(await office.progress("ada"), 1)
    assert (await office.progress("ada")).remote_id == other
    user = await application.user("ada")
    assert user is not None
    assert (user["id"], user["title"]) == (other, "Engineer")
    with pytest.raises(UserError, match="ada's in crm already"):
        await linking.link("crm", "ada", other, store, writer, **said)

    entries = await _told(office, connector)
    assert [(one["kind"], one["details"]["reason"], one["values"]["account"]) for one in entries] == [
        ("account_unlinked", "her namesake's", before["id"]),
        ("account_linked", "her namesake's", other),
    ]
    assert [one["details"]["fence"] for one in entries] == versions, "which is the newer one"


async def test_nobody_is_linked_while_the_connector_is_at_work(
    connector: Connector, application: Application, office: Office, clock: SimulatedClock
) -> None:
    await connector.converge("ada")
    store, writer = SqlReconcileStore(office.database), AuditWriter("operator", clock.now())
    progress = replace(await office.progress("ada"), intent=f"1@{clock.now().isoformat()}")
    async with store.look() as transaction:
        await transaction.lock("crm", ["ada"])
        await transaction.save("crm", [ProgressUpdate("ada", progress, None)], [], now=clock.now())
    other = await application.put_in(userName="other@example.com")
    said: dict[str, Any] = {"operator": "nina", "reason": "x", "now": clock.now()}
    for act in (
        linking.link("crm", "ada", other, store, writer, **said),
        linking.unlink("crm", "ada", store, writer, **said),
    ):
        with pytest.raises(UserError, match="at work"):
            await act


async def test_a_create_that_may_still_arrive_is_looked_for_after_somebody_was_linked(
    connector: Connector, application: Application, office: Office, clock: SimulatedClock
) -> None:
    await office.wants("ada")
    await office.leaves_open("ada")
    clock.advance_to(clock.now() + timedelta(seconds=intent.LEASE_SECONDS))
    store, writer = SqlReconcileStore(office.database), AuditWriter("operator", clock.now())
    other = await application.put_in(userName="other@example.com")
    await linking.link("crm", "ada", other, store, writer, operator="nina", reason="x", now=clock.now())
    linked = await office.progress("ada")
    assert intent.recheck_at(linked.intent, clock.now()) == clock.now() + intent.OPEN_INTENT
    assert intent.may_have_twins(linked)


async def _told(office: Office, connector: Connector) -> list[Mapping[str, Any]]:
    entries = await told(office.database, connector.audit)
    return [one for one in entries if str(one["kind"]).startswith("account_") and "linked" in one["kind"]]
