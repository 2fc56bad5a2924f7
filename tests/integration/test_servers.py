"""One contract for the three connected applications, driven from outside over loopback.

Where they may differ (200 or 204 on PATCH, whose body to expect) the test asks only what a client can rely on, and
reads the resource back. `KINDS` comes from the package, so a fourth server is held to the same.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.demo.servers.journal import Journal
from orchestrator.demo.servers.plain import Plain, Request, Response
from orchestrator.demo.servers.serve import KINDS, Kind, ServerProcess
from tests.integration.application import TOKEN, TOKEN_ENV, server_process

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


def user(name: str, **more: Any) -> dict[str, Any]:
    return {
        "schemas": [USER, ENTERPRISE],
        "userName": f"{name}@example.com",
        "externalId": f"E-{name}",
        "name": {"givenName": "Ada", "familyName": name.title()},
        "displayName": f"Ada {name.title()}",
        "emails": [{"value": f"{name}@example.com", "type": "work", "primary": True}],
        "active": True,
        ENTERPRISE: {"department": "Research", "employeeNumber": "42"},
        **more,
    }


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH_OP], "Operations": list(operations)}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture(scope="module")
def base_url(kind: Kind) -> Iterator[str]:
    """A server of that kind, which the tests use one after another."""
    with server_process(kind) as url:
        yield url


@pytest.fixture
async def scim(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that holds nothing."""
    async with client_of(base_url) as client:
        yield client
        for endpoint in ("/Groups", "/Users"):
            while rows := (await client.get(endpoint)).json().get("Resources"):
                for row in rows:
                    assert (await client.delete(f"{endpoint}/{row['id']}")).status_code == 204


def client_of(base_url: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/scim+json"}
    return httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30)


async def created(scim: httpx.AsyncClient, endpoint: str, resource: dict[str, Any]) -> str:
    answer = await scim.post(endpoint, json=resource)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def patched(scim: httpx.AsyncClient, path: str, *operations: dict[str, Any]) -> dict[str, Any]:
    """PATCH, accept both answers the RFC allows, and return what the server holds afterwards."""
    answer = await scim.patch(path, json=patch(*operations))
    assert answer.status_code in (200, 204), answer.text
    assert (answer.status_code == 204) == (answer.content == b"")
    return await read(scim, path)


async def read(scim: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await scim.get(path)
    assert answer.status_code == 200, answer.text
    resource: dict[str, Any] = answer.json()
    return resource


async def found(scim: httpx.AsyncClient, endpoint: str, condition: str) -> list[str]:
    answer = await scim.get(endpoint, params={"filter": condition})
    assert answer.status_code == 200, answer.text
    listed = answer.json()
    ids = [str(resource["id"]) for resource in listed.get("Resources", [])]
    assert listed["totalResults"] == len(ids)
    return ids


async def members(scim: httpx.AsyncClient, group: str) -> set[str]:
    return {member["value"] for member in (await read(scim, f"/Groups/{group}")).get("members") or []}


async def test_create_returns_the_resource_and_get_reads_it_back(scim: httpx.AsyncClient) -> None:
    answer = await scim.post("/Users", json=user("byron"))
    assert answer.status_code == 201
    assert answer.headers["content-type"].startswith("application/scim+json")
    assert answer.headers["location"] == f"{scim.base_url}Users/{answer.json()['id']}"
    stored = await read(scim, f"/Users/{answer.json()['id']}")
    for resource in (answer.json(), stored):
        assert resource["userName"] == "byron@example.com"
        assert resource["externalId"] == "E-byron"
        assert resource["name"]["familyName"] == "Byron"
        assert resource["displayName"] == "Ada Byron"
        assert resource["emails"][0]["value"] == "byron@example.com"
        assert resource["active"] is True
        assert resource[ENTERPRISE]["department"] == "Research"
        assert resource["meta"]["resourceType"] == "User"


async def test_a_user_name_is_taken_once_whatever_its_case(scim: httpx.AsyncClient) -> None:
    await created(scim, "/Users", user("byron"))
    other = await created(scim, "/Users", user("lovelace"))
    for attempt in (
        await scim.post("/Users", json=user("byron", userName="Byron@Example.com")),
        await scim.patch(
            f"/Users/{other}", json=patch({"op": "replace", "path": "userName", "value": "byron@example.com"})
        ),
    ):
        assert attempt.status_code == 409
        assert attempt.json()["scimType"] == "uniqueness"
        assert int(attempt.json()["status"]) == 409
    assert (await read(scim, f"/Users/{other}"))["userName"] == "lovelace@example.com"


async def test_filters_find_by_name_and_by_external_id(scim: httpx.AsyncClient) -> None:
    byron = await created(scim, "/Users", user("byron"))
    await created(scim, "/Users", user("lovelace"))
    team = await created(scim, "/Groups", {"schemas": [GROUP], "displayName": "Analysts"})
    assert await found(scim, "/Users", 'userName eq "BYRON@example.com"') == [byron]
    assert await found(scim, "/Users", 'externalId eq "E-byron"') == [byron]
    assert await found(scim, "/Users", 'externalId eq "E-byron" and userName eq "byron@example.com"') == [byron]
    assert await found(scim, "/Users", 'externalId eq "E-byron" and userName eq "lovelace@example.com"') == []
    assert await found(scim, "/Users", 'userName eq "nobody"') == []
    assert await found(scim, "/Groups", 'displayName eq "Analysts"') == [team]


async def test_a_filter_follows_the_change_of_its_attribute(scim: httpx.AsyncClient) -> None:
    byron = await created(scim, "/Users", user("byron"))
    assert await found(scim, "/Users", 'externalId eq "E-byron"') == [byron]
    await patched(scim, f"/Users/{byron}", {"op": "replace", "path": "externalId", "value": "E-2"})
    assert await found(scim, "/Users", 'externalId eq "E-byron"') == []
    assert await found(scim, "/Users", 'externalId eq "E-2"') == [byron]


async def test_a_name_given_up_can_be_taken(scim: httpx.AsyncClient) -> None:
    byron = await created(scim, "/Users", user("byron"))
    await patched(scim, f"/Users/{byron}", {"op": "replace", "path": "userName", "value": "king@example.com"})
    other = await created(scim, "/Users", user("byron"))
    assert await found(scim, "/Users", 'userName eq "byron@example.com"') == [other]


async def test_patch_switches_active_with_and_without_a_path(scim: httpx.AsyncClient) -> None:
    path = f"/Users/{await created(scim, '/Users', user('byron'))}"
    assert (await patched(scim, path, {"op": "replace", "path": "active", "value": False}))["active"] is False
    assert (await patched(scim, path, {"op": "replace", "path": "active", "value": True}))["active"] is True
    assert (await patched(scim, path, {"op": "Replace", "value": {"active": False}}))["active"] is False


async def test_patch_changes_names_addresses_and_the_enterprise_extension(scim: httpx.AsyncClient) -> None:
    path = f"/Users/{await created(scim, '/Users', user('byron'))}"
    changed = await patched(
        scim,
        path,
        {"op": "replace", "path": f"{ENTERPRISE}:department", "value": "Engines"},
        {"op": "replace", "path": "name.familyName", "value": "King"},
        {"op": "replace", "path": "emails", "value": [{"value": "king@example.com", "type": "work", "primary": True}]},
        {"op": "add", "path": "title", "value": "Countess"},
    )
    assert changed[ENTERPRISE]["department"] == "Engines"
    assert changed[ENTERPRISE]["employeeNumber"] == "42"
    assert changed["name"]["familyName"] == "King"
    assert changed["name"]["givenName"] == "Ada"
    assert [email["value"] for email in changed["emails"]] == ["king@example.com"]
    assert changed["title"] == "Countess"
    changed = await patched(
        scim,
        path,
        {
            "op": "replace",
            "value": {"displayName": "A. K.", "name": {"familyName": "Noel"}, ENTERPRISE: {"department": "Looms"}},
        },
    )
    assert changed["displayName"] == "A. K."
    assert changed["name"]["familyName"] == "Noel"
    assert changed["name"]["givenName"] == "Ada"
    assert changed[ENTERPRISE]["department"] == "Looms"
    assert changed[ENTERPRISE]["employeeNumber"] == "42"
    changed = await patched(
        scim, path, {"op": "remove", "path": "title"}, {"op": "remove", "path": f"{ENTERPRISE}:department"}
    )
    assert not changed.get("title")
    assert not changed[ENTERPRISE].get("department")


async def test_a_refused_patch_changes_nothing(scim: httpx.AsyncClient) -> None:
    path = f"/Users/{await created(scim, '/Users', user('byron'))}"
    answer = await scim.patch(
        path,
        json=patch(
            {"op": "replace", "path": "title", "value": "Countess"},
            {"op": "replace", "path": "active", "value": "never"},
        ),
    )
    assert answer.status_code == 400
    assert not (await read(scim, path)).get("title")


async def test_put_replaces_the_whole_user(scim: httpx.AsyncClient) -> None:
    id_ = await created(scim, "/Users", user("byron", title="Countess"))
    answer = await scim.put(f"/Users/{id_}", json=user("byron", active=False))
    assert answer.status_code == 200
    stored = await read(scim, f"/Users/{id_}")
    assert stored["id"] == id_
    assert stored["active"] is False
    assert not stored.get("title")


async def test_members_come_and_go(scim: httpx.AsyncClient) -> None:
    ada, bea, cyd = [await created(scim, "/Users", user(name)) for name in ("ada", "bea", "cyd")]
    team = await created(scim, "/Groups", {"schemas": [GROUP], "displayName": "Team", "members": [{"value": ada}]})
    path = f"/Groups/{team}"
    assert await members(scim, team) == {ada}
    await patched(scim, path, {"op": "add", "path": "members", "value": [{"value": bea}, {"value": cyd}]})
    assert await members(scim, team) == {ada, bea, cyd}
    await patched(scim, path, {"op": "add", "path": "members", "value": [{"value": bea}]})
    assert len((await read(scim, path))["members"]) == 3
    await patched(scim, path, {"op": "remove", "path": f'members[value eq "{bea}"]'})
    assert await members(scim, team) == {ada, cyd}
    await patched(scim, path, {"op": "replace", "path": "displayName", "value": "Crew"})
    assert (await read(scim, path))["displayName"] == "Crew"
    assert await members(scim, team) == {ada, cyd}


async def test_twenty_members_added_at_once_are_all_there(scim: httpx.AsyncClient) -> None:
    people = [await created(scim, "/Users", user(f"worker{number}")) for number in range(20)]
    team = await created(scim, "/Groups", {"schemas": [GROUP], "displayName": "Team"})
    answers = await asyncio.gather(
        *(
            scim.patch(f"/Groups/{team}", json=patch({"op": "add", "path": "members", "value": [{"value": person}]}))
            for person in people
        )
    )
    assert {answer.status_code for answer in answers} <= {200, 204}
    assert await members(scim, team) == set(people)


async def test_what_is_deleted_is_gone(scim: httpx.AsyncClient) -> None:
    byron = await created(scim, "/Users", user("byron"))
    assert (await scim.delete(f"/Users/{byron}")).status_code == 204
    assert (await scim.get(f"/Users/{byron}")).status_code == 404
    assert (await scim.delete(f"/Users/{byron}")).status_code == 404
    assert (
        await scim.patch(f"/Users/{byron}", json=patch({"op": "replace", "path": "active", "value": False}))
    ).status_code == 404
    assert await found(scim, "/Users", 'userName eq "byron@example.com"') == []
    await created(scim, "/Users", user("byron"))


async def test_paging_shows_every_user_once(scim: httpx.AsyncClient) -> None:
    ids = {await created(scim, "/Users", user(f"worker{number}")) for number in range(7)}
    seen: list[str] = []
    while len(seen) < 7:
        answer = (await scim.get("/Users", params={"startIndex": len(seen) + 1, "count": 3})).json()
        assert answer["totalResults"] == 7
        assert answer["Resources"], "an empty page before the end"
        seen += [resource["id"] for resource in answer["Resources"]]
    assert sorted(seen) == sorted(ids)


async def test_discovery_says_that_patch_is_supported(scim: httpx.AsyncClient) -> None:
    assert (await read(scim, "/ServiceProviderConfig"))["patch"]["supported"] is True
    types = (await read(scim, "/ResourceTypes"))["Resources"]
    assert {"User", "Group"} <= {resource["id"] for resource in types}
    assert USER in {schema["id"] for schema in (await read(scim, "/Schemas"))["Resources"]}


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
async def test_nobody_gets_in_without_the_token(base_url: str, header: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=base_url, headers=header, timeout=30) as stranger:
        answer = await stranger.post("/Users", json=user("byron"))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_the_journal_holds_exactly_the_calls_that_were_answered(kind: Kind, tmp_path: Path) -> None:
    journal, environ = tmp_path / f"{kind}.jsonl", {TOKEN_ENV: TOKEN}
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with (
        ServerProcess(kind, journal=journal, token_env=TOKEN_ENV, environ=environ) as server,
        client_of(server.base_url) as scim,
    ):
        byron = await created(scim, "/Users", user("byron"))
        await scim.post("/Users", json=user("byron"), headers={"traceparent": trace})
        await scim.get("/Users", params={"filter": 'externalId eq "E-byron"'})
        await scim.delete(f"/Users/{byron}")
        await scim.post("/Users", json=user("cyd"), headers={"Authorization": "Bearer wrong"})
        text = journal.read_text()  # no waiting: a line is written before its answer leaves the server

    assert TOKEN not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["seq"], line["method"], line["path"], line["status"]) for line in lines] == [
        (1, "POST", "/scim/v2/Users", 201),
        (2, "POST", "/scim/v2/Users", 409),
        (3, "GET", "/scim/v2/Users", 200),
        (4, "DELETE", f"/scim/v2/Users/{byron}", 204),
        (5, "POST", "/scim/v2/Users", 401),
    ]
    assert lines[0]["request"] == user("byron")
    assert lines[0]["response"]["id"] == byron
    assert lines[1]["headers"] == {"traceparent": trace}
    assert httpx.QueryParams(lines[2]["query"])["filter"] == 'externalId eq "E-byron"'
    assert lines[3]["request"] is None
    assert lines[3]["response"] is None
    assert lines[4]["request"]["userName"] == "cyd@example.com"
    for line in lines:
        assert line["received_at"] <= line["answered_at"]
        assert len(line["answered_at"]) == len("2026-01-01T00:00:00.000000Z")


async def test_a_restarted_server_goes_on_with_its_journal(kind: Kind, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    for _ in range(2):
        async with ServerProcess(kind, journal=journal) as server, httpx.AsyncClient(timeout=30) as client:
            assert (await client.get(f"{server.base_url}/Users")).status_code == 200
    assert [json.loads(line)["seq"] for line in journal.read_text().splitlines()] == [1, 2]


async def test_latency_is_added_side_by_side(kind: Kind) -> None:
    async with ServerProcess(kind, latency=0.3) as server, httpx.AsyncClient(timeout=30) as client:
        await client.get(f"{server.base_url}/Users")  # the first request pays for what is built on demand
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(client.get(f"{server.base_url}/Users") for _ in range(5)))
        assert 0.3 <= loop.time() - began < 5 * 0.3


async def test_a_server_that_cannot_start_says_so() -> None:
    with pytest.raises(RuntimeError, match="ended before it listened"):
        await ServerProcess("plain", token_env="JML_TEST_NO_SUCH_VARIABLE").start()


async def test_a_fault_answers_in_place_of_the_server_and_is_witnessed(tmp_path: Path) -> None:
    """In this process, because the hook is a function: one fault answers, one breaks, and then health returns."""
    journal = tmp_path / "journal.jsonl"
    faults: list[Response | Exception] = [Response(429, b"busy", ((b"retry-after", b"7"),)), OSError("disk")]

    async def behave(_: Request) -> Response | None:
        if not faults:
            return None
        fault = faults.pop(0)
        if isinstance(fault, Exception):
            raise fault
        return fault

    transport = httpx.ASGITransport(Journal(Plain(behave=behave), journal), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://plain/scim/v2") as client:
        statuses = [(await client.post("/Users", json=user("byron"))).status_code for _ in range(3)]
    assert statuses == [429, 500, 201]
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["status"] for line in lines] == statuses
    assert lines[0]["headers"] == {"retry-after": "7"}
    assert lines[0]["response"] is None
