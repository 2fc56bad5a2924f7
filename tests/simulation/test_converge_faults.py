"""Calls that are lost, late or doubled, told as short stories: each once left somebody in, out, or twice."""

import asyncio

from orchestrator.domain.account import AccountStatus
from orchestrator.testing.scim import Habits, Plan
from tests.simulation.desk import DOWN, UNANSWERED, Desk, at_the_desk


def test_a_create_whose_answer_and_look_were_lost_is_not_forgotten() -> None:
    """The leaver's command came next, found nothing on record, and called an active account closed."""

    async def story(desk: Desk) -> None:
        desk.when("POST /Users", UNANSWERED)
        desk.when("GET /Users", DOWN)
        await desk.want("active")
        assert desk.progress.intent is not None
        await desk.want("inactive")
        assert [one.active for one in desk.accounts] == [False]

    at_the_desk(story)


def test_a_conflict_with_somebody_who_cannot_be_seen_yet_is_looked_at_again() -> None:
    async def story(desk: Desk) -> None:
        desk.when("POST /Users", Plan("twice"))
        desk.script.stale = [5.0, 5.0]
        await desk.want("active")
        assert desk.progress.status is AccountStatus.PARKED
        await desk.want("inactive")
        assert [one.active for one in desk.accounts] == [False]

    at_the_desk(story)


def test_a_change_that_arrives_after_the_one_that_followed_it_is_undone() -> None:
    """It timed out, a look showed nothing of it, the next one succeeded, the leaver left; then it arrived."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        await desk.want("inactive")
        desk.when("PATCH /Users", Plan("late", late=20))
        await desk.want("active", title="back")
        await desk.want("inactive")
        await asyncio.sleep(30)
        assert [one.active for one in desk.accounts] == [True], "it has arrived"
        await asyncio.sleep(90)
        await desk.converge()
        assert [one.active for one in desk.accounts] == [False]

    at_the_desk(story)


def test_a_group_change_that_arrives_late_is_undone() -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active", groups=["sales"])
        desk.when("PATCH /Groups", Plan("late", late=20))
        await desk.want("active", groups=["sales", "staff"])
        await desk.want("active", groups=["sales"])
        await asyncio.sleep(30)
        assert [one.groups for one in desk.accounts] == [{"sales", "staff"}], "it has arrived"
        await asyncio.sleep(90)
        await desk.converge()
        assert [one.groups for one in desk.accounts] == [{"sales"}]

    at_the_desk(story)


def test_groups_that_a_failed_run_dropped_from_its_record_are_still_taken_away() -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active", groups=["eng"])
        desk.when("PATCH /Users", Plan("lost"), Plan("lost"))
        await desk.want("active", title="a", groups=["eng"])
        desk.when("PATCH /Users", DOWN)
        await desk.want("active", title="b", groups=["eng"])  # looks, then fails
        await desk.want("active", title="c", groups=["sales"])
        assert [one.groups for one in desk.accounts] == [{"sales"}]

    at_the_desk(story)


def test_a_create_that_arrives_after_the_one_that_followed_it_is_noticed() -> None:
    """Names are not unique there: nobody can keep the second account from being made, but somebody has to be told."""

    async def story(desk: Desk) -> None:
        desk.when("POST /Users", Plan("late", late=20))
        await desk.want("active")
        await desk.converge()
        await asyncio.sleep(30)
        assert len(desk.accounts) == 2, "it has arrived"
        await asyncio.sleep(90)
        await desk.converge()
        assert desk.progress.error_code == "ambiguous_correlation"
        assert {*desk.progress.candidates} == {one.id for one in desk.accounts}
        await desk.want("inactive")
        assert [one.active for one in desk.accounts].count(True) == 1
        assert desk.progress.status is AccountStatus.PARKED, "the alarm stands as long as somebody else's is open"
        desk.remove(next(one.id for one in desk.accounts if one.active))
        await desk.converge()
        assert (desk.progress.applied_revision, desk.progress.error, desk.progress.intent) == (2, None, None)

    at_the_desk(story, Habits(unique=False))


def test_a_create_that_was_found_and_arrives_once_more_is_noticed() -> None:
    """A proxy repeated it when no answer came."""

    async def story(desk: Desk) -> None:
        desk.when("POST /Users", Plan("again", late=20))
        await desk.want("active")
        assert len(desk.accounts) == 1
        assert desk.progress.applied_revision == 1
        await asyncio.sleep(30)
        assert len(desk.accounts) == 2, "it has arrived"
        await asyncio.sleep(90)
        await desk.converge()
        assert desk.progress.error_code == "ambiguous_correlation"

    at_the_desk(story, Habits(unique=False))


def test_a_create_that_does_not_arrive_again_costs_one_look() -> None:
    async def story(desk: Desk) -> None:
        desk.when("POST /Users", UNANSWERED)
        await desk.want("active")
        await asyncio.sleep(100)
        before = len(desk.app.journal)
        await desk.converge()
        assert [one.path for one in desk.app.journal[before:]] == ["/Users/u1", "/Users"]
        assert desk.progress.intent is None
        assert desk.progress.status is AccountStatus.APPLIED

    at_the_desk(story, Habits(unique=False))
