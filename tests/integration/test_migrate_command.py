"""`jml migrate` beside a pipeline that runs: accounts move with their names, and a killed run is gone on with."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.demo.servers.plain import Request, Response
from orchestrator.flows import reconcile
from tests.integration.application import Application
from tests.integration.pipeline import event, eventually
from tests.integration.test_operator import NOW, House, house

MANY = 210
"""More than one batch of `flows.reconcile.BATCH`."""


def connected(successor: Application) -> str:
    """Its table: it would name people otherwise, and takes no trainees."""
    return f"""
capabilities = {{ max_results = 41 }}
[apps.newcrm]
base_url = "{successor.base_url}"
auth = {{ token_env = "CRM_TOKEN" }}
allow_private = true
scope = 'person.title != "Trainee"'
[apps.newcrm.attributes]
userName = "person.user_name + '@new'"
externalId = "person.id"
title = "person.title"
"""


async def employs(here: House, *person_ids: str, **attributes: Any) -> None:
    """They join."""
    told = []
    for one in person_ids:
        stated = {"user_name": one, "email": f"{one}@example.com", **attributes}
        body = {"worker_id": one, "start_date": "2026-01-05", "attributes": stated}
        told.append(event("worker.joined", body, event_id=f"join-{one}", at=NOW - timedelta(hours=2)))
    await here.runtime.publisher.publish(told)


async def applied(here: House, app: str, number: int) -> None:
    """At least so many accounts of an application are as they should be, and none is not."""

    async def look() -> bool:
        accounts = (await SqlOperatorStore(here.runtime.database).status()).accounts.get(app, {})
        return set(accounts) == {"applied"} and accounts["applied"] >= number

    await eventually(look)


async def test_accounts_move_with_their_names_and_a_killed_run_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [f"p{number:03}" for number in range(MANY)]
    async with Application().served() as old, Application().served() as successor:
        async with house(tmp_path, monkeypatch, application=old) as here:
            await employs(here, *people)
            await employs(here, "young", title="Trainee")
            await applied(here, "crm", MANY + 1)
        names = {one["externalId"]: one["userName"] for one in await old.all("Users")}
        assert len(names) == MANY + 1
        stray = await old.put_in(userName="stray")
        mail = await old.put_in(userName="x", emails=[{"value": "P001@example.com"}])
        migrate = ("migrate", "--from", "crm", "--to", "newcrm", "--json", "--limit", "1000")
        async with house(tmp_path, monkeypatch, connected(successor), old) as here:
            refused = await here.call(*migrate)
            assert (refused.code, "add --yes" in refused.err) == (2, True)
            shown = await here.call(*migrate, "--dry-run")
            assert shown.code == 0, shown.err
            assert shown.json["counts"] == {
                "carried": MANY,
                "under_way": 0,
                "there": 0,
                "orphan": 1,
                "ambiguous": 0,
                "refused": 2,
            }
            left = {one["account"]: one["fate"] for one in shown.json["accounts"] if one["fate"] != "carried"}
            assert (left[stray], left[mail]) == ("orphan", "refused")
            assert shown.json["keep"] == ["userName", "externalId"], "no e-mail address is mapped there"
            assert (shown.json["published"], await successor.all("Users")) == (None, [])

            async def never_ends(request: Request) -> Response | None:
                if request.method == "GET" and int(request.query.get("startIndex", 1)) > reconcile.BATCH:
                    await asyncio.sleep(60)
                return None

            old.behave = never_ends
            process = await here.start(*migrate, "--yes")
            await eventually(lambda: successor.all("Users"))
            process.kill()
            await process.wait()
            old.behave = None

            again = await here.call(*migrate, "--yes")
            assert again.code == 0, again.err
            assert MANY - reconcile.BATCH <= again.json["published"] < MANY
            await applied(here, "newcrm", MANY)
            assert {one["externalId"]: one["userName"] for one in await successor.all("Users")} == {
                one: names[one] for one in people
            }
            assert successor.made().count("POST /Users") == MANY, "nobody was made twice"
            done = await here.call(*migrate, "--yes")
            assert (done.json["published"], done.json["counts"]["there"]) == (0, MANY)
            acted = await here.acted("migrate")
            assert (acted["actor"], acted["details"]["from"], acted["details"]["step"]) == (
                "operator:nina",
                "crm",
                "began",
            )
