"""After a change that was not done the account is read; what that read may say, and what it must not decide alone."""

import asyncio

import pytest

from orchestrator.domain.discovery import Capabilities
from orchestrator.testing.scim import Plan
from schemas.commands import DesiredState
from tests.simulation.desk import MISSING, Desk, at_the_desk

WANTS_IF_MATCH, CHANGED, REFUSED = (Plan("error", status=status) for status in (428, 412, 400))
NOT_DONE = pytest.mark.parametrize("fate", [WANTS_IF_MATCH, CHANGED, REFUSED], ids=["428", "412", "400"])
NOT_DONE_OR_MISSED = pytest.mark.parametrize(
    "fate", [WANTS_IF_MATCH, CHANGED, REFUSED, MISSING], ids=["428", "412", "400", "404"]
)


async def later(desk: Desk) -> None:
    """Minutes go by, with whatever looks they bring."""
    for _ in range(5):
        await asyncio.sleep(100)
        await desk.converge()


@NOT_DONE
def test_a_replica_that_does_not_know_a_new_account_does_not_make_its_owner_a_leaver(fate: Plan) -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active")
        await asyncio.sleep(1)
        desk.when("PATCH /Users", fate)
        desk.script.stale = [5.0]
        await desk.want("inactive")
        await later(desk)
        assert [one.active for one in desk.accounts] == [False]

    at_the_desk(story)


@NOT_DONE_OR_MISSED
def test_a_replica_that_shows_a_reopened_account_closed_does_not_close_it(fate: Plan) -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active")
        await desk.want("inactive")
        await asyncio.sleep(10)
        await desk.want("active")
        await asyncio.sleep(1)
        desk.when("PATCH /Users", fate)
        desk.script.stale = [5.0, 5.0]
        await desk.want("inactive")
        await later(desk)
        assert [one.active for one in desk.accounts] == [False]

    at_the_desk(story)


@NOT_DONE_OR_MISSED
def test_a_replica_that_shows_a_closed_account_open_locks_nobody_out_who_returns(fate: Plan) -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active")
        await asyncio.sleep(10)
        await desk.want("inactive")
        await asyncio.sleep(1)
        desk.when("PATCH /Users", fate)
        desk.script.stale = [5.0]
        await desk.want("active")
        await later(desk)
        assert [one.active for one in desk.accounts] == [True]

    at_the_desk(story)


@NOT_DONE
def test_one_false_404_is_not_enough_for_a_leaver(fate: Plan) -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active")
        await asyncio.sleep(1000)
        desk.when("PATCH /Users", fate)
        desk.when("GET /Users", MISSING)
        await desk.want("inactive")
        await later(desk)
        assert [one.active for one in desk.accounts] == [False]

    at_the_desk(story)


@pytest.mark.parametrize("fate", [WANTS_IF_MATCH, CHANGED], ids=["428", "412"])
def test_a_replica_that_does_not_know_a_new_account_deletes_nothing(fate: Plan) -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active")
        await asyncio.sleep(1)
        desk.when("DELETE /Users", fate)
        desk.script.stale = [5.0]
        await desk.want("absent")
        await later(desk)
        assert desk.accounts == []

    at_the_desk(story)


@pytest.mark.parametrize("state", ["active", "inactive"])
def test_one_false_404_before_a_put_is_not_enough(state: DesiredState) -> None:
    """An application without PATCH: the account is read before it is changed, and searched for before it is given
    up."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        await asyncio.sleep(1000)
        desk.lanes.application.capabilities = Capabilities(patch=False, put=True, etag=False, filter=True)
        desk.when("GET /Users", MISSING)
        await desk.decide(state, title="new")
        await desk.converge()
        assert [(one.method, one.status) for one in desk.app.journal[1:3]] == [("GET", 404), ("GET", 200)]
        await later(desk)
        assert "PUT" in {one.method for one in desk.app.journal}, "it was found and is changed, not given up"
        assert desk.progress.applied_revision == 1, (
            "this application takes no PUT: nothing was done, and nothing is told"
        )

    at_the_desk(story)


def test_a_group_that_is_gone_is_made_anew_where_changes_want_if_match() -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active", groups=["staff"])
        desk.app.groups.clear()
        desk.when("PATCH /Groups", *[WANTS_IF_MATCH] * 100)
        await desk.want("inactive")
        await later(desk)
        assert desk.progress.applied_revision == 2, "and not asked for If-Match again and again"
        desk.script.fates.clear()
        await desk.want("active", groups=["staff"])
        assert [one.groups for one in desk.accounts] == [{"staff"}]

    at_the_desk(story)
