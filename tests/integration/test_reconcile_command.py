"""`jml reconcile` as a process beside a pipeline that runs: what differs is named, put right, and on record."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.adapters.audit_log import read_entries
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.demo.servers.plain import Request, Response
from tests.integration.application import TOKEN
from tests.integration.pipeline import eventually
from tests.integration.test_operator import House, house

HEADERS = {"authorization": f"Bearer {TOKEN}", "content-type": "application/scim+json"}


async def change(here: House, person_id: str, **attributes: Any) -> None:
    """Somebody changes an account behind our back."""
    user = await here.application.user(person_id)
    assert user is not None
    async with httpx.AsyncClient(base_url=here.application.base_url, headers=HEADERS) as client:
        (await client.put(f"/Users/{user['id']}", json={**user, **attributes})).raise_for_status()


async def settled(here: House) -> None:
    """Every account is applied."""

    async def look() -> bool:
        accounts = (await SqlOperatorStore(here.runtime.database).status()).accounts.get("crm", {})
        return bool(accounts) and set(accounts) == {"applied"}

    await eventually(look)


def reconciled(here: House) -> list[dict[str, Any]]:
    """The entries of reconciliations in the audit log."""
    entries = [json.loads(one) for _, one in read_entries(here.folder / "audit")]
    return [one for one in entries if one["kind"] == "reconciled"]


async def reported(here: House, name: str, *columns: str) -> list[tuple[Any, ...]]:
    """The rows of a report on the audit log."""
    made = await here.call("report", name, "--format", "json")
    assert made.code == 0, made.err
    return [tuple(row[column] for column in columns) for row in made.json["data"]]


async def test_what_differs_is_named_put_right_and_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as here:
        for person_id in ("well", "changed", "deleted"):
            await here.hires(person_id, kind="employee")
        await settled(here)
        assert (await here.call("reconcile", "crm")).code == 0

        await change(here, "changed", userName="impostor")
        await here.application.take_out("deleted")
        stray = await here.application.put_in(userName="stray@example.com")
        twin = await here.application.put_in(userName="well2", externalId="well")

        refused = await here.call("reconcile", "crm", "--fix")
        assert (refused.code, refused.out) == (2, "")
        assert "--yes" in refused.err
        found = await here.call("reconcile", "crm", "--json")
        assert found.code == 1, found.err
        assert (found.json["complete"], found.json["accounts"], found.json["fixable"]) == (True, 4, 2)
        assert {
            one["account"] if one["finding"] == "orphan" else one["person_id"]: one["finding"]
            for one in found.json["findings"]
        } == {
            "changed": "drifted",
            "deleted": "missing",
            stray: "orphan",
            "well": "duplicate",
        }
        (drift,) = [one for one in found.json["findings"] if one["finding"] == "drifted"]
        assert drift["differences"] == [{"attribute": "userName", "shows": "impostor", "wanted": "changed"}]

        fixed = await here.call("reconcile", "crm", "--fix", "--yes", "--limit", "1")
        assert fixed.code == 1
        assert "2 accounts once more" in fixed.out
        assert "and 3 more" in fixed.out

        async def right() -> bool:
            users = {one.get("externalId"): one["userName"] for one in await here.application.all("Users")}
            return "deleted" in users and bool(users["changed"] == "changed")

        await eventually(right)
        await settled(here)
        left = await here.call("reconcile", "crm", "--json", "--limit", "0")
        assert left.json["counts"] | {"linked": 0} == {
            "linked": 0,
            "unfinished": 0,
            "drifted": 0,
            "missing": 0,
            "orphan": 1,
            "duplicate": 1,
            "member_missing": 0,
            "member_extra": 0,
            "member_foreign": 0,
        }
        assert {one["id"] for one in await here.application.all("Users")} >= {stray, twin}, "nobody touched them"

        async def recorded() -> bool:
            return [one["details"]["finding"] for one in reconciled(here)].count("summary") == 4

        await eventually(recorded)
        entries = reconciled(here)
        assert {one["actor"] for one in entries} == {"operator:nina"}
        marked = [one for one in entries if one["details"].get("action") == "marked"]
        assert sorted((one["details"]["finding"], one["details"]["changed"]) for one in marked) == [
            ("drifted", ["userName"]),
            ("missing", []),
        ]
        assert all(one["subject"] and one["sealed"] for one in marked)

        async def signed() -> bool:
            return len(await reported(here, "orphans", "account")) == 3

        await eventually(signed)  # a report ends where the newest checkpoint does
        orphans = await reported(here, "orphans", "finding", "account", "person", "count", "action")
        assert orphans == [("orphan", stray, "", 1, "none")] * 3, "each run found it"
        drift = await reported(here, "drift", "finding", "account", "person", "attributes", "count", "action")
        assert sorted(drift) == sorted(
            [
                ("drifted", "", "changed", "userName", 1, "none"),
                ("missing", "", "deleted", "", 1, "none"),
                ("drifted", "", "changed", "userName", 1, "marked"),
                ("missing", "", "deleted", "", 1, "marked"),
                *[("duplicate", "", "well", "", 1, "none")] * 3,
            ]
        )


async def test_from_a_list_with_rows_that_nobody_can_read_nothing_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch, "reconcile_every_hours = 24") as here:
        await here.hires("well", kind="employee")
        await settled(here)

        async def scheduled() -> Any:
            (shown,) = (await here.call("apps", "list", "--json")).json["applications"]
            return shown["reconciled"]["ended_at"] and shown["reconciled"]

        assert (await eventually(scheduled))["outcome"] == "complete", "the scheduler has done it by itself"
        assert "complete: nothing differs" in " ".join((await here.call("apps", "list")).out.split())

        async def last() -> Any:
            (shown,) = (await here.call("apps", "list", "--json")).json["applications"]
            return shown["reconciled"]

        first = await last()
        await here.application.take_out("well")
        await here.call("apps", "pause", "crm", "--reason", "maintenance")
        stopped = await here.call("reconcile", "crm")
        assert (stopped.code, "is stopped by nina" in stopped.err) == (2, True)
        await here.call("apps", "resume", "crm")

        async def rubbish(request: Request) -> Response | None:
            if request.method == "GET" and request.path == "/Users":
                return Response(200, b'{"totalResults": 1, "Resources": [{"userName": "no id"}]}')
            return None

        here.application.behave = rubbish
        found = await here.call("reconcile", "crm", "--fix", "--yes", "--json")
        assert (found.code, found.json["complete"], found.json["unreadable"]) == (1, False, 1)
        assert (found.json["counts"]["missing"], found.json["marked"]) == (0, None)
        by_hand = await last()
        assert (by_hand["outcome"], by_hand["began_at"] > first["began_at"]) == ("incomplete", True), "it counts as one"
        here.application.behave = None
        assert (await here.call("reconcile", "crm", "--limit", "0")).code == 1
        assert (await last())["counts"]["missing"] == 1
