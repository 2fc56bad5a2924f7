"""Groups: merged across people, one culprit told apart, and nobody waits for ever."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.dialects.standard import STANDARD
from orchestrator.domain.retry import Backoff
from orchestrator.errors import Ambiguous, JmlError, Rejected, Unavailable
from orchestrator.flows import membership as membership_module
from orchestrator.flows.application import Application
from orchestrator.flows.calling import Caller
from orchestrator.flows.membership import Membership
from orchestrator.ports import ApplicationHealth, ScimRequest, ScimResponse
from orchestrator.simulation.loop import SimulationLoop
from tests.unit.flows.fakes import NOW, FakeConvergeStore, FakeTransport, rounds, until


class Groups:
    """An application with groups, down to what the flow sees of it. Members in `refused` are unknown to it."""

    def __init__(self) -> None:
        self.members: dict[str, set[str]] = {}
        self.names: dict[str, str] = {}
        self.refused: set[str] = set()
        self.strict = False
        self.answers: list[ScimResponse | Exception] = []
        self.patches: list[list[Mapping[str, Any]]] = []
        self.open = asyncio.Event()
        self.open.set()

    def add(self, name: str, *members: str) -> str:
        group_id = f"g{len(self.names) + 1}"
        self.names[group_id], self.members[group_id] = name, set(members)
        return group_id

    def of(self, name: str) -> set[str]:
        return next(self.members[group_id] for group_id, known in self.names.items() if known == name)

    async def __call__(self, request: ScimRequest) -> ScimResponse:
        await self.open.wait()
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        body = request.body or {}
        if request.method == "GET":
            found = [one for one, name in self.names.items() if f'"{name}"' in (request.query or {})["filter"]]
            resources = [{"id": one, "displayName": self.names[one]} for one in found]
            return ScimResponse(200, {"Resources": resources})
        if request.method == "POST":
            return ScimResponse(201, {"id": self.add(body["displayName"])})
        return self._patched(request.path.rpartition("/")[2], body["Operations"])

    def _patched(self, group_id: str, changes: list[Mapping[str, Any]]) -> ScimResponse:
        self.patches.append(changes)
        if group_id not in self.names:
            return ScimResponse(404, {})
        added = {one["value"] for change in changes if change["op"] == "add" for one in change["value"]}
        removed = {change["path"].split('"')[1] for change in changes if change["op"] == "remove"}
        if self.strict and not removed <= self.members[group_id]:
            return ScimResponse(400, {"scimType": "noTarget"})
        if added & self.refused:
            return ScimResponse(400, {"scimType": "invalidValue"})
        self.members[group_id] |= added
        self.members[group_id] -= removed
        return ScimResponse(204)


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership_module, "_BACKOFF", Backoff(base=0.001, most=0.01))


@pytest.fixture
def groups() -> Groups:
    return Groups()


@pytest.fixture
def transport(groups: Groups) -> FakeTransport:
    return FakeTransport(groups)


@pytest.fixture
def store() -> FakeConvergeStore:
    return FakeConvergeStore()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOW)


@pytest.fixture
async def caller(transport: FakeTransport, clock: SimulatedClock) -> AsyncIterator[Caller]:
    async def on_health(_: ApplicationHealth) -> None:
        return

    caller = Caller(transport, clock, 4, on_health)
    yield caller
    await caller.close()


@pytest.fixture
async def membership(caller: Caller, store: FakeConvergeStore, clock: SimulatedClock) -> AsyncIterator[Membership]:
    membership = Membership("crm", caller, store, clock, Application(STANDARD), chunk=3)
    yield membership
    await membership.close()


async def added(membership: Membership, member: str, *names: str) -> None:
    await membership.change(member, add=names, remove=(), urgent=False)


async def test_a_group_is_made_when_the_first_member_comes(
    membership: Membership, groups: Groups, store: FakeConvergeStore, transport: FakeTransport
) -> None:
    await added(membership, "ada", "staff")
    assert groups.of("staff") == {"ada"}
    assert store.groups == {"staff": "g1"}
    assert [call.method for call in transport.calls] == ["GET", "POST", "PATCH"]
    await added(membership, "bea", "staff")
    assert [call.method for call in transport.calls] == ["GET", "POST", "PATCH", "PATCH"], "its id is known now"


async def test_a_group_that_is_there_is_taken_over(membership: Membership, groups: Groups) -> None:
    groups.add("staff", "somebody")
    await added(membership, "ada", "staff")
    assert groups.of("staff") == {"ada", "somebody"}
    assert len(groups.names) == 1


async def test_nobody_leaves_a_group_that_does_not_exist(membership: Membership, groups: Groups) -> None:
    await membership.change("ada", add=(), remove=("staff",), urgent=True)
    assert not groups.names
    assert not groups.patches


async def test_changes_of_many_people_go_out_together_in_chunks(membership: Membership, groups: Groups) -> None:
    groups.add("staff", "old")
    await asyncio.gather(
        *(added(membership, f"p{number}", "staff") for number in range(5)),
        membership.change("old", add=(), remove=("staff",), urgent=False),
    )
    assert groups.of("staff") == {f"p{number}" for number in range(5)}
    assert len(groups.patches) == 2, "three changes at most in each"


async def test_what_comes_while_a_patch_is_under_way_goes_into_the_next(
    membership: Membership, groups: Groups, transport: FakeTransport
) -> None:
    groups.add("staff")
    await added(membership, "first", "staff")
    groups.open.clear()
    tasks = [asyncio.create_task(added(membership, "second", "staff"))]
    await until(lambda: transport.under_way)
    tasks += [asyncio.create_task(added(membership, member, "staff")) for member in ("third", "fourth")]
    await rounds()
    groups.open.set()
    await asyncio.gather(*tasks)
    assert len(groups.patches) == 3
    assert groups.of("staff") == {"first", "second", "third", "fourth"}


async def test_one_culprit_does_not_cost_the_others_their_membership(membership: Membership, groups: Groups) -> None:
    groups.add("staff")
    groups.refused.add("bad")
    outcomes = await asyncio.gather(
        *(added(membership, member, "staff") for member in ("ada", "bad", "bea")), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), Rejected, type(None)]
    assert groups.of("staff") == {"ada", "bea"}


async def test_whoever_is_no_member_is_out_of_a_group_that_refuses_to_remove_them(
    caller: Caller, store: FakeConvergeStore, clock: SimulatedClock, groups: Groups
) -> None:
    """400 noTarget, as strict servers answer (RFC 7644, table 9); whoever stands in line with them is removed too."""
    membership = Membership("crm", caller, store, clock, Application(STANDARD), chunk=500)
    here, gone = [f"m{number}" for number in range(40)], "m40"
    groups.add("staff", *here)
    groups.strict = True
    await asyncio.gather(
        *(membership.change(one, add=[], remove=["staff"], urgent=False) for one in [*here[:30], gone]),
    )
    assert groups.of("staff") == set(here[30:])
    assert len(groups.patches) < 15, "found by halves"
    await membership.change("new", add=["staff"], remove=[], urgent=False)
    assert "new" in groups.of("staff")
    await membership.close()


async def test_another_refusal_to_remove_somebody_is_one(membership: Membership, groups: Groups) -> None:
    groups.add("staff", "m1")
    groups.answers = [
        ScimResponse(200, {"Resources": [{"id": "g1", "displayName": "staff"}]}),
        ScimResponse(400, {"scimType": "invalidValue"}),
    ]
    with pytest.raises(Rejected):
        await membership.change("m1", add=[], remove=["staff"], urgent=False)


async def test_all_groups_are_tried_before_the_first_error_is_raised(membership: Membership, groups: Groups) -> None:
    groups.add("good")
    groups.refused.add("ada")
    groups.add("bad", "ada")
    with pytest.raises(Rejected):
        await membership.change("ada", add=("good",), remove=("bad",), urgent=False)
    assert groups.of("bad") == set()


async def test_a_group_that_has_gone_is_made_again(
    membership: Membership, groups: Groups, store: FakeConvergeStore
) -> None:
    await added(membership, "ada", "staff")
    groups.names.clear()
    store.claims.clear()
    await added(membership, "bea", "staff")
    assert groups.of("staff") == {"bea"}
    assert len(groups.names) == 1


async def test_a_group_that_a_page_says_is_gone_is_looked_for(membership: Membership, groups: Groups) -> None:
    """Some applications have nothing but pages for a 404; a proxy has nothing but pages for everything."""
    page = ScimResponse(404, None, {"content-type": "text/html"})
    groups.add("staff")
    await added(membership, "m1", "staff")
    groups.names.pop("g1")
    groups.answers = [page]
    await added(membership, "m2", "staff")
    assert groups.of("staff") == {"m2"}
    groups.answers = [page, page]
    with pytest.raises(Unavailable):
        await added(membership, "m3", "staff")
    groups.answers = [page]
    with pytest.raises(Unavailable):
        await added(membership, "m3", "id:g1")


async def test_a_member_that_the_application_keeps_missing_is_refused(membership: Membership, groups: Groups) -> None:
    groups.add("staff")
    await added(membership, "ada", "staff")
    found = ScimResponse(200, {"Resources": [{"id": "g1", "displayName": "staff"}]})
    groups.answers = [ScimResponse(404, {}), found, ScimResponse(404, {})]
    with pytest.raises(Rejected, match="404"):
        await added(membership, "bea", "staff")


async def test_a_group_that_somebody_else_is_making_is_waited_for(
    membership: Membership, groups: Groups, store: FakeConvergeStore, clock: SimulatedClock
) -> None:
    store.claims["staff"] = NOW + timedelta(seconds=30)
    with pytest.raises(Unavailable, match="another process"):
        await added(membership, "ada", "staff")
    assert not groups.names
    clock.advance_to(NOW + timedelta(seconds=31))
    await added(membership, "ada", "staff")
    assert groups.of("staff") == {"ada"}


async def test_a_create_of_unknown_outcome_is_looked_up_and_not_repeated(
    membership: Membership, groups: Groups, transport: FakeTransport
) -> None:
    made = groups.add("staff")
    nothing = ScimResponse(200, {"Resources": []})
    groups.answers = [nothing, Ambiguous("time-out")]
    await added(membership, "ada", "staff")
    assert groups.members[made] == {"ada"}
    assert [call.method for call in transport.calls] == ["GET", "POST", "GET", "PATCH"]


async def test_an_unreadable_listing_is_no_group(membership: Membership, groups: Groups) -> None:
    groups.answers = [ScimResponse(200, {"Resources": [None, {"displayName": "staff"}, "staff"]})]
    await added(membership, "ada", "staff")
    assert groups.of("staff") == {"ada"}


async def test_a_store_that_is_down_is_waited_for(
    membership: Membership, groups: Groups, store: FakeConvergeStore
) -> None:
    store.outages = 3
    async with asyncio.timeout(5):
        await added(membership, "ada", "staff")
    assert groups.of("staff") == {"ada"}


async def test_a_defect_reaches_everybody_who_waits(membership: Membership, store: FakeConvergeStore) -> None:
    store.defect = JmlError("the database refused a statement")
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(
            *(added(membership, member, "staff") for member in ("ada", "bea")), return_exceptions=True
        )
    assert [type(outcome) for outcome in outcomes] == [JmlError, JmlError]


async def test_whoever_was_cancelled_in_line_is_not_added_later(
    membership: Membership, groups: Groups, transport: FakeTransport
) -> None:
    """The account may have a new owner, who has put the leaver out of the group meanwhile."""
    groups.add("staff")
    await added(membership, "first", "staff")
    groups.open.clear()
    under_way = asyncio.create_task(added(membership, "second", "staff"))
    await until(lambda: transport.under_way)
    cancelled = asyncio.create_task(added(membership, "leaver", "staff"))
    await rounds()
    cancelled.cancel()
    groups.open.set()
    await under_way
    await added(membership, "third", "staff")
    assert groups.of("staff") == {"first", "second", "third"}


async def test_whoever_loses_the_account_before_a_slot_is_free_is_left_out(
    membership: Membership, groups: Groups, caller: Caller
) -> None:
    groups.add("staff")
    await added(membership, "first", "staff")
    caller.gate.pause("test")

    async def lost() -> None:
        raise LookupError("somebody else has it")

    tasks = [
        asyncio.create_task(membership.change("lost", add=("staff",), remove=(), urgent=False, may_send=lost)),
        asyncio.create_task(added(membership, "kept", "staff")),
    ]
    await rounds()
    caller.gate.resume()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LookupError, type(None)]
    assert groups.of("staff") == {"first", "kept"}


async def test_closing_leaves_nobody_waiting(membership: Membership, groups: Groups, transport: FakeTransport) -> None:
    groups.add("staff")
    groups.open.clear()
    tasks = [asyncio.create_task(added(membership, f"p{number}", "staff")) for number in range(5)]
    await until(lambda: transport.under_way)
    await membership.close()
    async with asyncio.timeout(2):
        await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


def test_ten_thousand_people_into_ten_groups_cost_a_hundredth_of_one_call_each() -> None:
    """They come at the rate at which an application makes accounts; each waits for the group before it is done."""
    loop = SimulationLoop(random.Random(1))  # type: ignore[abstract]  # there is no outside
    sizes: list[int] = []

    async def story() -> None:
        groups = Groups()

        async def slowly(request: ScimRequest) -> ScimResponse:
            await asyncio.sleep(0.05)
            if request.method == "PATCH" and request.body is not None:
                sizes.append(sum(len(one["value"]) for one in request.body["Operations"]))
            return await groups(request)

        async def on_health(_: ApplicationHealth) -> None:
            return

        caller = Caller(FakeTransport(slowly), SimulatedClock(NOW), 16, on_health)
        room = asyncio.Event()
        membership = Membership(
            "crm",
            caller,
            FakeConvergeStore(),
            SimulatedClock(NOW),
            Application(STANDARD),
            chunk=500,
            on_waiting=lambda: room.set(),
        )
        under_way = 0

        async def join(number: int) -> None:
            nonlocal under_way
            under_way += 1
            await added(membership, f"p{number}", f"group {number % 10}")
            under_way -= 1
            room.set()

        joining = []
        for number in range(10_000):
            while under_way >= 16 * 12 + membership.waiting:  # as wide as a lane of 16 calls
                room.clear()
                await room.wait()
            joining.append(asyncio.ensure_future(join(number)))
            await asyncio.sleep(0.003)
        await asyncio.gather(*joining)
        await membership.close()

    loop.run(story())
    assert loop.defects == []
    assert sum(sizes) == 10_000
    assert len(sizes) <= 100


async def test_whoever_has_to_be_out_of_a_group_does_not_wait_for_company(
    membership: Membership, groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership_module, "LINGER_SECONDS", 60.0)
    async with asyncio.timeout(5):
        await membership.change("ada", add=(), remove=["staff"], urgent=True)
