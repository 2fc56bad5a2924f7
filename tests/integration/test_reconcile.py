"""Reconciliation against a real application: what is found, and that the connector puts it right."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.planning import SqlPlanStore
from orchestrator.adapters.sql.reconciling import SqlReconcileStore
from orchestrator.adapters.sql.subjects import SqlSubjectStore
from orchestrator.dialects import dialects
from orchestrator.domain.correlation import Candidate, RuleText, by_attributes, compile_rules
from orchestrator.domain.reconciliation import Finding, FindingKind
from orchestrator.flows.application import Application as Protocol
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.flows.group_drift import GroupDrift
from orchestrator.flows.reconcile import Reconciliation, look_again
from orchestrator.flows.reconcile_run import ReconcileRun
from tests.integration.application import TOKEN, Application
from tests.integration.connector import NOW, Connector, Office, resource


class Everything:
    """All users of an application, read in one go."""

    def __init__(self, application: Application, *, complete: bool = True) -> None:
        self._application = application
        self.complete = complete
        self.skipped = 0

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Its users."""
        for user in await self._application.all("Users"):
            yield user


async def change(application: Application, person_id: str, **attributes: Any) -> None:
    """Somebody changes an account behind our back."""
    user = await application.user(person_id)
    assert user is not None
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/scim+json"}
    async with httpx.AsyncClient(base_url=application.base_url, headers=headers) as client:
        (await client.put(f"/Users/{user['id']}", json={**user, **attributes})).raise_for_status()


async def findings(database: Database, listing: Everything, **more: Any) -> tuple[dict[str, Finding], Reconciliation]:
    """What is found, by the person or the id of the account."""
    run = Reconciliation("crm", SqlReconcileStore(database), SqlPlanStore(database), **more)
    found = {one.person_id or str(one.remote_id): one async for one in run.find(listing)}
    return found, run


@pytest.fixture
async def drifted(connector: Connector, application: Application) -> None:
    """Five accounts: well, changed, deleted, closed in the application, and opened again there."""
    await connector.converge("well", "changed", "deleted", "closed", "opened")
    await connector.converge("opened", state="inactive")
    await change(application, "changed", title="Impostor")
    await application.take_out("deleted")
    await change(application, "closed", active=False)
    await change(application, "opened", active=True)


@pytest.mark.usefixtures("drifted")
async def test_everything_that_differs_is_found_and_put_right_by_the_connector(
    connector: Connector, application: Application, office: Office, clock: SimulatedClock
) -> None:
    stray = await application.put_in(userName="stray@example.com")
    second = await application.put_in(userName="twin@example.com", emails=[{"value": "well@example.com"}])
    found, run = await findings(office.database, Everything(application))
    assert {name: one.kind.value for name, one in found.items()} == {
        "changed": "drifted",
        "deleted": "missing",
        "closed": "drifted",
        "opened": "drifted",
        stray: "orphan",
        second: "orphan",
    }
    assert dict(found["changed"].differences) == {"title": ("Impostor", "Engineer")}
    assert dict(found["opened"].differences) == {"active": (True, False)}
    assert run.counts[FindingKind.LINKED] == 1

    ids = sorted(str(one.person_id) for one in found.values() if one.fixable)
    writer = AuditWriter("operator", clock.now())
    store = SqlReconcileStore(office.database)
    wanted = {one: {"finding": "drifted"} for one in ids}
    assert await look_again("crm", wanted, store, writer, actor="operator:ada", now=clock.now()) == {*ids}
    await connector.wait(30)  # by then the relay publishes what an operator's command left in the outbox

    assert await application.active("opened") is False
    for person_id in ("well", "changed", "deleted", "closed"):
        user = await application.user(person_id)
        assert user is not None
        assert (user["active"], user["title"]) == (True, resource(person_id)["title"])
    again, _ = await findings(office.database, Everything(application))
    assert set(again) == {stray, second}, "nobody touches accounts that may be somebody else's"


@pytest.mark.usefixtures("drifted")
async def test_from_an_incomplete_list_nobody_concludes_that_something_is_missing(
    application: Application, office: Office
) -> None:
    found, run = await findings(office.database, Everything(application, complete=False))
    assert "deleted" not in found
    assert run.complete is False


@pytest.mark.usefixtures("drifted")
async def test_a_look_is_on_record_before_it_happens(
    application: Application, office: Office, clock: SimulatedClock
) -> None:
    writer = AuditWriter("operator", clock.now())
    store = SqlReconcileStore(office.database)
    await look_again("crm", {"changed": {"finding": "x"}}, store, writer, actor="operator:ada", now=NOW)
    later = SqlOutbox(office.database)
    saved = [
        one for _, messages in await later.leftover(older_than=NOW + timedelta(seconds=1), limit=10) for one in messages
    ]
    (entry,) = [one for one in map(orjson.loads, (one.value for one in saved)) if one["kind"] == "reconciled"]
    assert (entry["actor"], entry["details"]["fence"]) == ("operator:ada", (await office.progress("changed")).version)
    again = await look_again("crm", {"changed": {}}, store, writer, actor="operator:ada", now=NOW)
    assert again == set(), "the connector has to come first"


async def test_an_account_with_a_persons_worker_id_is_a_duplicate_of_the_linked_one(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("ada")
    twin = await application.put_in(userName="ada")
    found, _ = await findings(office.database, Everything(application))
    assert {name: (one.kind.value, one.remote_id) for name, one in found.items()} == {"ada": ("duplicate", twin)}


async def regroup(application: Application, name: str, operation: str, *values: str, path: str = "members") -> None:
    """Somebody changes a group behind our back."""
    group = next(one for one in await application.all("Groups") if one["displayName"] == name)
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/scim+json"}
    changes = [{"op": operation, "path": path, "value": [{"value": one}]} for one in values]
    if operation == "remove":
        changes = [{"op": "remove", "path": f'members[value eq "{one}"]'} for one in values]
    async with httpx.AsyncClient(base_url=application.base_url, headers=headers) as client:
        body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": changes}
        (await client.patch(f"/Groups/{group['id']}", json=body)).raise_for_status()


async def test_memberships_are_compared_and_put_right_and_what_others_granted_is_left(
    connector: Connector, application: Application, office: Office, clock: SimulatedClock
) -> None:
    await connector.converge("well", "dropped", groups=["staff"])
    await connector.converge("demoted", groups=["staff", "admins"])
    await connector.converge("demoted", groups=["staff"])
    await connector.converge("guest")
    ids = {one["externalId"]: one["id"] for one in await application.all("Users")}
    stray = await application.put_in(userName="stray@example.com", externalId="nobody")
    await regroup(application, "staff", "remove", ids["dropped"])
    await regroup(application, "admins", "add", ids["demoted"])
    await regroup(application, "staff", "add", ids["guest"], stray)

    async def run(dialect: str = "standard") -> tuple[ReconcileRun, GroupDrift, dict[str, str]]:
        store = SqlReconcileStore(office.database)
        groups = GroupDrift("crm", store, connector.lanes.ask, Protocol(dialects()[dialect]), began=clock.now())
        reconciliation = Reconciliation("crm", store, SqlPlanStore(office.database), groups=groups)
        writer = AuditWriter("operator", clock.now())
        run = ReconcileRun("crm", reconciliation, store, SqlSubjectStore(office.database), writer, actor="operator:ada")
        found = {}
        async for one in reconciliation.find(Everything(application)):
            run.take(one)
            if one.group is not None:
                found[str(one.person_id)] = f"{one.kind} {one.group}"
        return run, groups, found

    clock.advance_to(clock.now() + timedelta(seconds=1))
    first, groups, found = await run()
    assert found == {
        "dropped": "member_missing staff",
        "demoted": "member_extra admins",
        "guest": "member_foreign staff",
    }
    assert (groups.groups, dict(groups.strangers)) == (2, {"admins": 0, "staff": 1})
    assert sum(one.takes_access for one in first.fixable) == 1
    assert await first.fix(now=clock.now()) == 2
    await first.record(now=clock.now(), calls=1, skipped=0)
    await connector.wait(30)
    assert await application.members("staff") == {"well", "dropped", "demoted", "guest", "nobody"}
    assert await application.members("admins") == set()
    _, _, left = await run()
    assert left == {"guest": "member_foreign staff"}
    _, blind, none = await run("aws-identity-center")
    assert (blind.readable, blind.groups, none) == (False, 0, {}), "a group is shown without its members there"


async def test_an_orphan_is_recognized_by_the_rules_of_the_application(
    connector: Connector, application: Application, office: Office
) -> None:
    """The rules by which the connector finds an account name its owner here."""
    await connector.converge("ada", "bea")
    second = await application.put_in(userName="legacy", title="ada")
    closed = await application.put_in(userName="legacy-2", title="bea", active=False)
    correlation, problems = compile_rules(
        "crm", [RuleText("title", "person.id", "resource.active")], attributes=(), tables={}
    )
    assert problems == []
    found, _ = await findings(office.database, Everything(application), correlation=correlation)
    assert (found["ada"].kind, found["ada"].remote_id) == (FindingKind.DUPLICATE, second), "hers is another one"
    assert found["ada"].candidates == (Candidate("ada", "title"),)
    assert (found[closed].kind, found[closed].candidates) == (FindingKind.ORPHAN, ())


async def test_an_account_with_a_counted_name_has_not_drifted(
    office: Office, application: Application, clock: SimulatedClock
) -> None:
    named = by_attributes("externalId", "userName", unique=(("userName",),))
    await application.put_in(userName="ada@example.com", externalId="somebody")
    async with Connector(office, application.base_url, clock, correlation=named).running() as connector:
        await connector.converge("ada")
    found, run = await findings(office.database, Everything(application), correlation=named)
    assert run.counts[FindingKind.LINKED] == 1
    assert {one.kind for one in found.values()} == {FindingKind.ORPHAN}, "the namesake's"
