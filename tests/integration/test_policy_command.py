"""`jml policy apply` beside a pipeline that runs: a changed policy reaches people who have no event of their own."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import load_config
from tests.integration.application import Application
from tests.integration.pipeline import eventually
from tests.integration.test_operator import house

BEFORE = "groups = '[\"staff\"]'"
AFTER = """
scope = 'person.title != "Trainee"'
groups = '["staff", "team " + person.title]'
"""


async def test_a_changed_policy_reaches_everybody_and_the_accounts_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Application().served() as crm:
        async with house(tmp_path, monkeypatch, BEFORE, crm) as here:
            for person_id, title in (("ada", "Judge"), ("bea", "Trainee"), ("eve", "Judge")):
                attributes = {"user_name": person_id, "title": title}
                await here.hires(person_id, kind="employee", attributes=attributes)
            await eventually(lambda: _has_members(crm, "staff", {"ada", "bea", "eve"}))
        async with house(tmp_path, monkeypatch, AFTER, crm) as here:
            version = load_config(tmp_path / "jml.toml").policy().digest
            assert (await here.call("policy", "show", "--json")).json["undecided"] == 3
            crm.calls.clear()
            planned = await here.call("policy", "apply", "--dry-run", "--json")
            assert planned.json["commands"] == {"crm": {"deactivate": 1, "patch": 2}}, planned.err
            assert crm.calls == []

            applied = await here.call("policy", "apply", "--over", "1s", "--json")
            assert (applied.code, applied.json["scheduled"]) == (0, 3), applied.err
            await eventually(lambda: _has_members(crm, "team Judge", {"ada", "eve"}))

            async def bea_is_out() -> bool:
                return await crm.active("bea") is False

            await eventually(bea_is_out)
            await eventually(lambda: _has_members(crm, "staff", {"ada", "eve"}))
            assert (await crm.active("ada"), await crm.active("eve")) == (True, True)
            assert {call.method for call in crm.calls if call.path.startswith("/Users")} <= {"GET", "PATCH"}

            async def decided() -> Any:
                shown = (await here.call("policy", "show", "--json")).json
                return shown["undecided"] == shown["waiting"] == 0 and shown

            shown = await eventually(decided)
            assert shown["versions"] == [{"version": version, "persons": 3}]
            again = await here.call("policy", "apply", "--over", "1s", "--json")
            assert (again.json["scheduled"], again.json["touched"]) == (0, 0)
            assert (await here.acted("apply_policy"))["details"]["version"] == version


async def _has_members(application: Application, group: str, people: set[str]) -> bool:
    names = {one["displayName"] for one in await application.all("Groups")}
    return group in names and await application.members(group) == people
