"""`jml import` beside a pipeline that runs: a filled application is adopted, and nobody who is known is overwritten."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.sql.operating import SqlOperatorStore
from tests.integration.pipeline import eventually
from tests.integration.test_operator import House, house
from tests.integration.test_reconcile_command import settled


async def filled(here: House) -> dict[str, str]:
    """Accounts that somebody else made; returns their ids."""

    async def put(name: str, **more: Any) -> str:
        return await here.application.put_in(userName=name, emails=[{"value": f"{name}@example.com"}], **more)

    return {
        "new": await put("new", externalId="w-new", title="Analyst"),
        "hers": await put("hers", externalId="w-known", title="Impostor"),
        "mail": await here.application.put_in(userName="x", emails=[{"value": "Known@example.com"}]),
        "gone": await put("gone", externalId="w-gone", active=False),
        "nobody": await put("nobody"),
    }


async def test_a_filled_application_is_adopted_and_nobody_who_is_known_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch) as here:
        attributes = {"user_name": "known", "email": "known@example.com", "title": "Director"}
        await here.hires("w-known", kind="employee", attributes=attributes)
        await settled(here)
        ids = await filled(here)

        shown = await here.call("import", "crm", "--json")
        assert shown.code == 0, shown.err
        assert shown.json["counts"] == {"new": 1, "linked": 1, "known": 2, "inactive": 1, "refused": 1}
        assert shown.json["refused"] == {"has no externalId to be the worker id": 1}
        assert {one["account"]: (one["fate"], one["person_id"]) for one in shown.json["accounts"]} == {
            ids["new"]: ("new", "w-new"),
            ids["hers"]: ("known", "w-known"),
            ids["mail"]: ("known", "w-known"),
            ids["gone"]: ("inactive", None),
            ids["nobody"]: ("refused", None),
        }
        store = SqlOperatorStore(here.runtime.database)
        assert await store.person("w-new") is None, "nothing is published yet"

        done = await here.call("import", "crm", "--publish", "--json")
        assert (done.code, done.json["published"]) == (0, 1), done.err

        async def adopted() -> Any:
            view = await store.person("w-new")
            return view and view.accounts and view.accounts[0].progress.remote_id

        assert await eventually(adopted) == ids["new"], "the account that was there is the person's"
        await settled(here)
        view = await store.person("w-known")
        assert view is not None
        assert view.person.history.at(here.runtime.clock.now())["title"] == "Director"
        again = await here.call("import", "crm", "--publish", "--json")
        assert (again.json["published"], again.json["counts"]["linked"]) == (0, 2)

        late = await here.call("import", "crm", "--publish", "--with-inactive", "--json")
        assert late.json["published"] == 1

        async def left() -> bool:
            found = await store.person("w-gone")
            return found is not None and found.person.decision is not None and found.person.decision.status == "left"

        await eventually(left)
        assert (await here.acted("import"))["details"]["events"] in (0, 1)
        refused = await here.call("import", "wiki")
        assert (refused.code, refused.out) == (2, "")
