"""PUT where there is no PATCH, ETags, discovery and groups: the connector over applications told how to be."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.demo.servers.habits import VENDORS, Habits
from orchestrator.demo.servers.plain import Behave, Request, Response
from orchestrator.demo.servers.vendor import Vendor
from orchestrator.domain.account import AccountStatus
from orchestrator.domain.discovery import Capabilities
from tests.integration.application import Application
from tests.integration.connector import ENTERPRISE, NOW, Connector, Office, is_applied

NO_PATCH = Habits("no-patch", "", user_patch=False, etags=True)


# One kind is enough here: what the stores do is tried elsewhere, on both.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Putting(Vendor):
    """An application without PATCH of anything."""

    def _route(self, request: Request) -> Response:
        return Response(405) if request.method == "PATCH" else super()._route(request)


def _make(kind: type[Vendor], habits: Habits, behave: Behave) -> Vendor:
    return kind(habits, behave=behave)


@asynccontextmanager
async def connected(
    database: Database, habits: Habits, kind: type[Vendor] = Vendor, **settings: Any
) -> AsyncIterator[tuple[Application, Connector]]:
    async with Application(partial(_make, kind, habits)).served() as application:
        settings = {"discover": True, "timeout": 5.0, **settings}
        connector = Connector(Office(database), application.base_url, SimulatedClock(NOW), **settings)
        async with connector.running():
            yield application, connector


# --- PUT and ETags ----------------------------------------------------------------------------------------------------


async def test_without_patch_the_account_is_replaced_and_keeps_what_nobody_maps(database: Database) -> None:
    async with connected(database, NO_PATCH, Putting) as (application, connector):
        await connector.converge("ada", groups=["staff"])
        row = next(iter(application.plain.directory.users.rows.values()))
        row["nickName"], row[ENTERPRISE]["costCenter"] = "Countess", "17"
        await connector.converge("ada", groups=["staff", "leads"], title="Manager", emails=[])
        user = await application.user("ada")
        assert user is not None
        assert (user["title"], user["nickName"]) == ("Manager", "Countess")
        assert user[ENTERPRISE] == {"department": "Research", "costCenter": "17"}
        assert await application.members("staff") == {"ada"}
        await connector.converge("bea", groups=["staff"])
        await connector.converge("ada", state="inactive")
        assert await application.active("ada") is False
        assert await application.members("staff") == {"bea"}
        assert not [call for call in application.calls if call.method == "PATCH"]
        puts = [call for call in application.calls if call.method == "PUT" and call.path.startswith("/Users")]
        assert all(any(name == b"if-match" for name, _ in call.headers) for call in puts)


async def test_a_change_of_somebody_elses_between_look_and_put_is_not_overwritten(database: Database) -> None:
    async with connected(database, NO_PATCH, Putting) as (application, connector):
        await connector.converge("ada")
        meddled = 0

        async def behave(request: Request) -> Response | None:
            nonlocal meddled
            if request.method == "PUT" and meddled < 2:
                meddled += 1
                next(iter(application.plain.directory.users.rows.values()))["nickName"] = f"N{meddled}"
            return None

        application.behave = behave
        application.calls.clear()
        await connector.converge("ada", title="Manager")
        user = await application.user("ada")
        assert user is not None
        assert (user["title"], user["nickName"]) == ("Manager", "N2")
        assert [call.method for call in application.calls] == ["GET", "PUT", "GET", "PUT", "GET", "PUT"]
        assert is_applied(await connector.office.progress("ada"), 2)


async def test_an_application_that_wants_if_match_with_every_change_gets_it(database: Database) -> None:
    """Also one that does not say so before it answers 428 (RFC 6585, section 3), for accounts and for groups."""
    insists = Habits("insists", "", etags=True, insists=True)
    async with connected(database, insists, discover=False) as (application, connector):
        await connector.converge("ada", groups=["staff"])
        assert is_applied(await connector.office.progress("ada"), 1), "the group's change was told it"
        await connector.converge("ada", groups=["staff", "leads"], title="Manager")
        user = await application.user("ada")
        assert user is not None
        assert user["title"] == "Manager"
        assert (await application.members("staff"), await application.members("leads")) == ({"ada"}, {"ada"})
        application.calls.clear()
        await connector.converge("bea", groups=["staff"])
        made = [call.method for call in application.calls]
        assert made[-3:] == ["POST", "GET", "PATCH"], "for a member of the group it need not be told twice"
        await connector.converge("ada", state="inactive")
        assert await application.active("ada") is False
        await connector.converge("bea", state="absent")
        assert await application.user("bea") is None


async def test_a_change_of_an_account_is_told_of_if_match_as_well(database: Database) -> None:
    insists = Habits("insists", "", etags=True, insists=True)
    async with connected(database, insists, discover=False) as (application, connector):
        await connector.converge("ada")
        await connector.converge("ada", title="Manager")
        assert [call.method for call in application.calls][-3:] == ["PATCH", "GET", "PATCH"]
        assert is_applied(await connector.office.progress("ada"), 2)


async def test_an_application_that_wants_if_match_and_shows_no_version_is_no_endless_loop(database: Database) -> None:
    async with connected(database, Habits("insists", "", insists=True)) as (application, connector):
        await connector.converge("ada")
        await connector.converge("ada", title="Manager")
        progress = await connector.office.progress("ada")
        assert progress.error is not None
        assert "only with If-Match (428), however often the account is read" in progress.error
        assert len([call for call in application.calls if call.method == "PATCH"]) <= 7


async def test_somebody_who_never_stops_changing_the_account_is_waited_for(database: Database) -> None:
    async with connected(database, NO_PATCH, Putting) as (application, connector):
        await connector.converge("ada")
        count = 0

        async def behave(request: Request) -> Response | None:
            nonlocal count
            if request.method == "PUT":
                count += 1
                next(iter(application.plain.directory.users.rows.values()))["nickName"] = f"N{count}"
            return None

        application.behave = behave
        await connector.converge("ada", state="inactive")
        progress = await connector.office.progress("ada")
        assert (progress.status, progress.error_code) == (AccountStatus.RETRYING, "unavailable")
        application.behave = None
        await connector.wait(60)
        assert await application.active("ada") is False


async def test_a_patch_after_a_look_carries_the_version_that_was_seen(database: Database) -> None:
    async with connected(database, VENDORS["standard"]) as (application, connector):
        await connector.converge("ada")
        await connector.office.leaves_open("ada")
        await connector.take(*await connector.office.wants("ada", title="Manager"))
        await connector.converged()
        [patch] = [call for call in application.calls if call.method == "PATCH"]
        assert any(name == b"if-match" for name, _ in patch.headers)


async def test_a_version_that_no_header_can_carry_is_none(database: Database) -> None:
    async with connected(database, VENDORS["standard"]) as (application, connector):
        await connector.converge("ada")

        async def odd(request: Request) -> Response | None:
            if request.method != "GET" or not request.path.startswith("/Users/"):
                return None
            answer = application.plain.handle(request)
            body = {**orjson.loads(answer.body), "meta": {"version": 'W/"1"\r\nx: y'}}
            return Response(200, orjson.dumps(body))

        application.behave = odd
        await connector.office.leaves_open("ada")
        await connector.take(*await connector.office.wants("ada", title="Manager"))
        await connector.converged()
        user = await application.user("ada")
        assert user is not None
        assert user["title"] == "Manager"


# --- discovery --------------------------------------------------------------------------------------------------------


async def test_discovery_is_asked_once_and_obeyed(database: Database) -> None:
    async with connected(database, NO_PATCH, Putting) as (application, connector):
        await connector.converge("ada", "bea", "eve")
        asked = [call.path for call in application.calls if not call.path.startswith("/Users")]
        assert asked == ["/ServiceProviderConfig", "/ResourceTypes"]
        capabilities = connector.lanes.application.capabilities
        assert (capabilities.patch, capabilities.etag, capabilities.max_results) == (False, True, 100)


@pytest.mark.parametrize("status", [401, 403, 404, 500, 501])
async def test_a_server_without_discovery_works(database: Database, status: int) -> None:
    async with connected(database, Habits("", "")) as (application, connector):

        async def behave(request: Request) -> Response | None:
            return None if request.path.startswith(("/Users", "/Groups")) else Response(status)

        application.behave = behave
        await connector.converge("ada", groups=["staff"])
        assert await application.members("staff") == {"ada"}
        assert connector.lanes.health.state == "open"


async def test_users_live_where_the_application_says(database: Database) -> None:
    async with connected(database, Habits("", "")) as (application, connector):

        async def behave(request: Request) -> Response | None:
            if request.path == "/ResourceTypes":
                types = [{"name": "User", "endpoint": "/People"}, {"name": "Group", "endpoint": "/Teams"}]
                return Response(200, orjson.dumps({"Resources": types}))
            moved = request.path.replace("/People", "/Users").replace("/Teams", "/Groups")
            return Response(404) if moved == request.path else application.plain.handle(request._replace(path=moved))

        application.behave = behave
        await connector.converge("ada", groups=["staff"])
        await connector.converge("ada", groups=["staff"], title="Manager")
        assert await application.members("staff") == {"ada"}


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_a_group_can_be_named_by_its_id(database: Database) -> None:
    async with connected(database, Habits("", "")) as (application, connector):
        group = application.plain.directory.groups.save({"displayName": "Whatever it is called", "members": {}}, "")
        await connector.converge("ada", groups=[f"id:{group['id']}"])
        assert await application.members("Whatever it is called") == {"ada"}
        groups = [f"{call.method} {call.path}" for call in application.calls if call.path.startswith("/Groups")]
        assert groups == [f"PATCH /Groups/{group['id']}"]
        await connector.converge("ada", state="inactive")
        assert await application.members("Whatever it is called") == set()


async def test_a_fixed_group_that_is_not_there_parks_only_those_who_need_it(database: Database) -> None:
    async with connected(database, Habits("", "")) as (application, connector):
        await connector.converge("ada", groups=["id:nowhere"])
        assert (await connector.office.progress("ada")).error_code == "rejected"
        await connector.converge("bea")
        assert await application.active("bea") is True


async def test_a_group_is_only_used_where_it_may_not_be_created(database: Database) -> None:
    async with connected(database, Habits("", ""), create_groups=False) as (application, connector):
        await connector.converge("ada", groups=["staff"])
        progress = await connector.office.progress("ada")
        assert progress.error_code == "rejected"
        assert "groups are not created there" in str(progress.error)
        application.plain.directory.groups.save({"displayName": "staff", "members": {}}, "")
        await connector.converge("ada", groups=["staff"], title="Manager")
        assert await application.members("staff") == {"ada"}


async def test_a_group_within_a_group_is_left_alone(database: Database) -> None:
    habits = replace(NO_PATCH, name="nested")
    async with connected(database, habits, Putting) as (application, connector):
        groups = application.plain.directory.groups
        inner = groups.save({"displayName": "inner", "members": {}}, "")
        members = {inner["id"]: {"value": inner["id"], "type": "Group"}}
        outer = groups.save({"displayName": "outer", "members": members}, "")
        await connector.converge("ada", groups=["outer"])
        assert set(groups.rows[outer["id"]]["members"]) == {inner["id"], *application.plain.directory.users.rows}


async def test_a_group_with_the_id_of_a_member_stays_when_that_member_leaves(database: Database) -> None:
    """Ids are unique among users and among groups, and not over both where they are numbers."""
    async with connected(database, replace(NO_PATCH, name="nested"), Putting) as (application, connector):
        await connector.converge("ada", groups=["outer"])
        groups, users = application.plain.directory.groups, application.plain.directory.users
        (ada,), (outer,) = users.rows, groups.rows
        shown: list[Any] = []

        async def numbered(request: Request) -> Response | None:
            if request.method == "GET" and request.path == f"/Groups/{outer}":
                members = [{"value": ada, "type": "User"}, {"value": ada, "type": "Group"}]
                body = {"id": outer, "displayName": "outer", "members": members}
                return Response(200, orjson.dumps(body))
            if request.method == "PUT" and request.path == f"/Groups/{outer}":
                shown.append(orjson.loads(request.body)["members"])
                return Response(200, request.body)
            return None

        application.behave = numbered
        await connector.converge("ada", groups=[])
        assert shown == [[{"value": ada, "type": "Group"}]]


async def test_somebody_elses_new_member_between_look_and_put_of_a_group_stays(database: Database) -> None:
    async with connected(database, replace(NO_PATCH, name="etags"), Putting) as (application, connector):
        others = [await application.put_in(userName=name, externalId=name) for name in ("one", "two")]
        await connector.converge("ada", groups=["staff"])
        groups = application.plain.directory.groups
        (staff,) = groups.rows
        meddled = 0

        async def behave(request: Request) -> Response | None:
            nonlocal meddled
            if request.method == "PUT" and request.path.startswith("/Groups") and meddled < 2:
                other = others[meddled]
                meddled += 1
                groups.rows[staff]["members"][other] = {"value": other}
            return None

        application.behave = behave
        application.calls.clear()
        await connector.converge("bea", groups=["staff"])
        assert set(groups.rows[staff]["members"]) == {*application.plain.directory.users.rows}
        made = [call.method for call in application.calls if call.path == f"/Groups/{staff}"]
        assert made == ["GET", "PUT", "GET", "PUT", "GET", "PUT"]
        assert is_applied(await connector.office.progress("bea"), 1)


async def test_a_group_of_fifty_thousand_is_never_sent_or_read_because_of_one_member(database: Database) -> None:
    async with connected(database, Habits("", "")) as (application, connector):
        crowd = {f"m{number}": {"value": f"m{number}"} for number in range(50_000)}
        group = application.plain.directory.groups.save({"displayName": "all", "members": crowd}, "")
        await connector.converge("ada", groups=["all"])
        await connector.converge("ada", groups=[])
        members = application.plain.directory.groups.rows[group["id"]]["members"]
        assert len(members) == 50_000
        calls = [call for call in application.calls if call.path.startswith("/Groups")]
        assert [call.method for call in calls] == ["GET", "PATCH", "PATCH"]
        assert calls[0].query["excludedAttributes"] == "members"
        assert sum(len(call.body) for call in calls) < 1_000


async def test_aws_takes_a_hundred_changes_of_members_at_once_and_shows_none(database: Database) -> None:
    aws = VENDORS["aws-identity-center"]
    async with connected(database, aws, dialect="aws-identity-center", concurrency=64) as (application, connector):
        people = [f"p{number:03}" for number in range(230)]
        await connector.converge(*people, groups=["staff"])
        (group,) = application.plain.directory.groups.rows.values()
        assert set(group["members"]) == {*application.plain.directory.users.rows}
        patches = [orjson.loads(call.body) for call in application.calls if call.path.startswith("/Groups/")]
        sizes = [sum(len(one["value"]) for one in body["Operations"]) for body in patches]
        assert max(sizes) <= 100
        assert (sum(sizes), len(sizes) < 60) == (230, True), "they are merged across people"


async def test_members_go_in_chunks_that_the_application_takes(database: Database) -> None:
    async with connected(database, VENDORS["entra-id"], dialect="entra-id", concurrency=50) as (application, connector):
        people = [f"p{number:02}" for number in range(50)]
        await connector.converge(*people, groups=["staff"])
        assert await application.members("staff") == set(people)
        patches = [orjson.loads(call.body) for call in application.calls if call.path.startswith("/Groups/")]
        assert all(len(body["Operations"][0]["value"]) <= 20 for body in patches)
        assert len(patches) < 50, "they are merged across people"


# --- correlation ------------------------------------------------------------------------------------------------------


async def test_where_several_share_an_external_id_the_name_decides(database: Database) -> None:
    async with connected(database, VENDORS["servicenow"], dialect="servicenow") as (application, connector):
        mine = await application.put_in(userName="ada@example.com", externalId="ada")
        await application.put_in(userName="ada.old@example.com", externalId="ada")
        await connector.converge("ada", title="Manager")
        assert application.plain.directory.users.rows[mine]["title"] == "Manager"
        assert len(application.plain.directory.users.rows) == 2


async def test_several_of_whom_none_has_the_name_are_left_to_a_person(database: Database) -> None:
    async with connected(database, VENDORS["servicenow"], dialect="servicenow") as (application, connector):
        for number in range(2):
            await application.put_in(userName=f"ada{number}@example.com", externalId="ada")
        await connector.office.wants("ada")
        await connector.office.leaves_open("ada")
        await connector.take(*await connector.office.wants("ada", title="Manager"))
        await connector.converged()
        assert (await connector.office.progress("ada")).error_code == "ambiguous_correlation"
        assert len(application.plain.directory.users.rows) == 2


async def test_a_search_that_is_answered_with_everybody_still_finds_the_one(database: Database) -> None:
    habits = Habits("deaf", "", filters=frozenset(), bad_filter="everybody")
    async with connected(database, habits) as (application, connector):
        for number in range(130):
            await application.put_in(userName=f"other{number}@example.com", externalId=f"other{number}")
        mine = await application.put_in(userName="ada@example.com", externalId="ada")
        await connector.converge("ada", title="Manager")
        user = await application.user("ada")
        assert user is not None
        assert (user["id"], user["title"]) == (mine, "Manager")


async def test_without_filters_everybody_is_read(database: Database) -> None:
    async with connected(database, Habits("", "")) as (application, connector):
        connector.lanes.application._overrides = Capabilities(filter=False)
        group = application.plain.directory.groups.save({"displayName": "staff", "members": {}}, "")
        for number in range(130):
            await application.put_in(userName=f"other{number}@example.com", externalId=f"other{number}")
        mine = await application.put_in(userName="ada@example.com", externalId="ada")
        await connector.converge("ada", groups=["staff"], title="Manager")
        assert application.plain.directory.users.rows[mine]["title"] == "Manager"
        assert set(group["members"]) | set(application.plain.directory.groups.rows[group["id"]]["members"]) == {mine}
        assert not [call for call in application.calls if "filter" in call.query]
