"""Members of managed groups, held against what should be: whose membership is judged, and what is left alone."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from orchestrator.dialects import dialects
from orchestrator.dialects.standard import STANDARD
from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.discovery import Capabilities
from orchestrator.errors import Rejected, ScimError, TooLarge
from orchestrator.flows import group_drift
from orchestrator.flows.application import Application
from orchestrator.flows.group_drift import GroupDrift
from orchestrator.ports import ReconcileStore, ScimRequest, ScimResponse
from tests.unit.flows.fakes import NOW

Row = tuple[Account, Progress]


def row(person_id: str, *groups: str, left: Sequence[str] = (), issued: int = -60, **progress: Any) -> Row:
    """An account that the connector is done with, known as `r-PERSON`, issued so many seconds from now."""
    account = Account(
        person_id, "crm", 1, "active", {}, groups, NOW, "e", "c", "p", issued_at=NOW + timedelta(seconds=issued)
    )
    known: dict[str, Any] = {"applied_revision": 1, "status": AccountStatus.APPLIED, "remote_id": f"r-{person_id}"}
    return account, Progress(**{**known, "groups": groups, "left_groups": tuple(left), **progress})


class Store:
    """Account rows in pages of two, and the ids of groups."""

    def __init__(self, *rows: Row, ids: Mapping[str, str] | None = None) -> None:
        self.rows = rows
        self.ids = dict(ids or {})
        self.passes = 0

    async def linked(self, app: str) -> AsyncIterator[list[Row]]:
        self.passes += 1
        for start in range(0, len(self.rows), 2):
            yield list(self.rows[start : start + 2])

    async def by_remote_id(self, app: str, remote_ids: Sequence[str]) -> dict[str, Row]:
        return {str(one[1].remote_id): one for one in self.rows if one[1].remote_id in remote_ids}

    async def group_ids(self, app: str, names: Sequence[str]) -> dict[str, str]:
        return {name: self.ids[name] for name in names if name in self.ids}


class Groups:
    """An application with groups, each a list of members."""

    def __init__(self, **groups: list[dict[str, Any]]) -> None:
        self.groups = groups
        self.calls: list[str] = []
        self.shown: dict[str, Any] = {}
        """What every user shows beside the id."""
        self.refused: dict[str, ScimError] = {}

    async def __call__(self, request: ScimRequest) -> ScimResponse:
        self.calls.append(request.path)
        if request.path in self.refused:
            raise self.refused[request.path]
        name = request.path.removeprefix("/Groups/")
        if name.startswith("/Users/"):
            return ScimResponse(200, {"id": name.removeprefix("/Users/"), **self.shown})
        if name == "/Groups":
            wanted = (request.query or {}).get("filter", "")
            rows = [{"id": one, "displayName": one} for one in self.groups if not wanted or f'"{one}"' in wanted]
            return ScimResponse(200, {"totalResults": len(rows), "Resources": rows})
        if name not in self.groups:
            return ScimResponse(404, {})
        return ScimResponse(200, {"id": name, "displayName": name, "members": self.groups[name]})


def members(*person_ids: str) -> list[dict[str, Any]]:
    return [{"value": f"r-{one}"} for one in person_ids]


async def found(store: Store, groups: Groups, application: Application | None = None) -> tuple[set[str], GroupDrift]:
    """What is found, as `PERSON KIND GROUP`."""
    drift = GroupDrift("crm", cast(ReconcileStore, store), groups, application or Application(STANDARD), began=NOW)
    return {f"{one.person_id} {one.kind} {one.group}" async for one in drift.find()}, drift


async def test_what_nobody_can_judge_is_left_alone() -> None:
    store = Store(
        row("well", "staff"),
        row("gone", "staff"),
        row("guest"),
        row("returned", left=["staff"]),
        row("working", "staff", intent="1@x"),
        row("parked", "staff", status=AccountStatus.PARKED),
        row("just_decided", "staff", issued=1),
    )
    nested = [{"value": "r-gone", "type": "Group"}, {"value": "r-inner", "$ref": "https://x/scim/v2/Groups/r-inner"}]
    shown, drift = await found(store, Groups(staff=[*members("well", "guest", "returned", "nobody"), *nested]))
    assert shown == {"gone member_missing staff", "guest member_foreign staff", "returned member_extra staff"}
    assert dict(drift.strangers) == {"staff": 1}


async def test_a_group_that_is_gone_misses_everybody_and_one_that_nobody_is_in_any_more_is_read_still() -> None:
    store = Store(row("ada", "gone"), row("bea", left=["former"]), row("eve", "id:fixed"))
    groups = Groups(former=members("bea"), fixed=[])
    shown, drift = await found(store, groups)
    assert shown == {"ada member_missing gone", "bea member_extra former", "eve member_missing id:fixed"}
    assert drift.groups == 3


async def test_memory_holds_some_groups_at_a_time_and_each_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_drift, "MOST_MEMBERSHIPS", 2)
    monkeypatch.setattr(group_drift, "BATCH", 2)
    rows = [row(f"p{number}", "a", "b", "c") for number in range(3)]
    store = Store(*rows, ids={"a": "a", "b": "b", "c": "c"})
    groups = Groups(a=[], b=members("p0", "p1", "p2"), c=members("p0"))
    shown, _ = await found(store, groups)
    missing = {f"p{number} member_missing a" for number in range(3)} | {f"p{one} member_missing c" for one in (1, 2)}
    assert shown == missing
    assert [call for call in groups.calls if call.startswith("/Groups")] == ["/Groups/a", "/Groups/b", "/Groups/c"]
    assert store.passes == 4, "one to count, and one for each part"


async def test_without_filters_the_groups_are_listed_once() -> None:
    store = Store(row("ada", "a", "b"))
    groups = Groups(a=members("ada"), b=members("ada"))
    shown, _ = await found(store, groups, Application(STANDARD, Capabilities(filter=False)))
    assert shown == set()
    assert groups.calls == ["/Groups", "/Groups/a", "/Groups/b"]


async def test_who_does_not_show_members_is_not_asked() -> None:
    groups = Groups(staff=[])
    shown, drift = await found(Store(row("ada", "staff")), groups, Application(dialects()["aws-identity-center"]))
    assert (shown, groups.calls, drift.readable) == (set(), [], False)


# --- lists of members that end early ----------------------------------------------------------------------------------


async def test_who_shows_the_group_is_in_it_whatever_the_group_shows() -> None:
    """FusionAuth before 1.52 showed the first hundred members, as others do with other numbers."""
    store = Store(*(row(f"p{number:02}", "staff") for number in range(8)))
    groups = Groups(staff=members("p00", "p01", "p02"))
    groups.shown = {"groups": [{"value": "staff"}]}
    shown, drift = await found(store, groups)
    assert (shown, drift.partial) == (set(), {"staff": 3})
    assert groups.calls.count("/Users/r-p03") == 1
    assert sum(call.startswith("/Users") for call in groups.calls) == 1, "one is asked about, and not all"


async def test_who_shows_other_groups_only_is_missing() -> None:
    store = Store(*(row(f"p{number:02}", "staff") for number in range(12)))
    groups = Groups(staff=members(*(f"p{number:02}" for number in range(10))))
    groups.shown = {"groups": [{"value": "others"}]}
    shown, drift = await found(store, groups)
    assert (shown, drift.partial) == ({"p10 member_missing staff", "p11 member_missing staff"}, {})


@pytest.mark.parametrize(("number", "kind"), [(9, "missing"), (10, "unknown"), (11, "missing"), (100, "unknown")])
async def test_where_users_show_no_groups_a_round_number_of_members_is_not_believed(number: int, kind: str) -> None:
    store = Store(*(row(f"p{one:03}", "staff") for one in range(number + 1)))
    groups = Groups(staff=members(*(f"p{one:03}" for one in range(number))))
    shown, drift = await found(store, groups)
    assert shown == ({f"p{number:03} member_missing staff"} if kind == "missing" else set())
    assert drift.partial == ({} if kind == "missing" else {"staff": number})


@pytest.mark.parametrize("error", [Rejected("the application refuses it (400)"), TooLarge("larger than 16 bytes")])
async def test_a_group_that_cannot_be_read_for_its_size_costs_only_its_own_comparison(error: ScimError) -> None:
    """Oracle identity domains refuse to show a group of more than 10,000 members."""
    groups = Groups(huge=[], staff=[])
    groups.refused["/Groups/huge"] = error
    shown, drift = await found(Store(row("ada", "huge", "staff")), groups)
    assert (shown, drift.partial) == ({"ada member_missing staff"}, {"huge": None})


async def test_members_who_should_not_be_there_are_found_in_a_list_that_ends_early() -> None:
    store = Store(*(row(f"p{number:02}", "staff") for number in range(4)), row("left", left=["staff"]))
    groups = Groups(staff=members("p00", "left"))
    groups.shown = {"groups": [{"value": "staff"}]}
    shown, _ = await found(store, groups)
    assert shown == {"left member_extra staff"}
