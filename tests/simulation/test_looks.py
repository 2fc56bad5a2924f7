"""What a look proves and what it does not, told as short stories: each once left somebody in, out, or twice."""

import asyncio

from orchestrator.domain.account import REPLICA_LAG, AccountStatus
from orchestrator.testing.scim import Habits, Plan
from tests.simulation.desk import DOWN, MISSING, Desk, at_the_desk


def test_a_404_to_a_deactivation_is_not_believed() -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active")
        desk.when("PATCH /Users", MISSING)
        await desk.want("inactive")
        assert [one.active for one in desk.accounts] == [False]
        assert desk.progress.applied_revision == 2

    at_the_desk(story)


def test_a_leaver_whom_nothing_shows_is_looked_for_once_more() -> None:
    """A 404 of the route, and every read from a replica that did not know of the account yet."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        desk.when("PATCH /Users", MISSING)
        desk.script.stale = [5.0] * 4
        await desk.want("inactive")
        assert [one.active for one in desk.accounts] == [True], "nobody could know"
        await asyncio.sleep(100)
        await desk.converge()
        assert [one.active for one in desk.accounts] == [False]
        assert desk.progress.intent is None

    at_the_desk(story)


def test_a_404_to_a_deletion_is_not_believed() -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active")
        desk.when("DELETE /Users", MISSING)
        await desk.want("absent")
        assert desk.accounts == []

    at_the_desk(story)


def test_a_404_after_a_deletion_without_effect_is_looked_at_once_more() -> None:
    """Seed 20322: answered with success, still shown, and then the route's 404, which was taken for the deletion's."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        desk.when("DELETE /Users", Plan("ineffective"), MISSING)
        await desk.want("absent")
        for _ in range(3):
            await asyncio.sleep(100)
            await desk.converge()
        assert desk.accounts == []
        assert desk.progress.intent is None, "and looks come to an end"

    at_the_desk(story)


def test_a_deletion_without_effect_is_not_taken_for_one() -> None:
    """The end of retention was reached in our log alone."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        desk.when("DELETE /Users", Plan("ineffective"))
        await desk.want("absent")
        assert desk.accounts == []
        assert desk.progress.applied_revision == 2

    at_the_desk(story)


def test_deletions_that_never_have_an_effect_are_told() -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active")
        desk.when("DELETE /Users", *[Plan("ineffective")] * 9)
        await desk.want("absent")
        assert desk.progress.error_code == "not_effective"
        assert desk.progress.applied_revision == 1
        await desk.converge()
        await desk.converge()
        assert desk.progress.status is AccountStatus.PARKED

    at_the_desk(story)


def test_a_read_that_still_shows_a_deleted_account_is_no_denial() -> None:
    """A replica is behind: the second deletion finds nothing, so the first one has worked."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        await asyncio.sleep(10)
        desk.script.stale = [5.0]
        await desk.want("absent")
        assert desk.accounts == []
        assert desk.progress.applied_revision == 2

    at_the_desk(story)


def test_a_replica_that_does_not_know_of_the_account_yet_is_no_witness_of_its_deletion() -> None:
    """It was called deleted, and verified; nobody ever looked again."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        await asyncio.sleep(1)
        desk.when("DELETE /Users", Plan("ineffective"))
        desk.script.stale = [5.0]
        await desk.want("absent")
        assert desk.accounts == []
        assert desk.progress.applied_revision == 2
        assert desk.made("DELETE") == [204, 204, 404]

    at_the_desk(story)


def test_a_new_account_that_answers_every_deletion_with_success_is_looked_at_until_a_replica_would_know_it() -> None:
    """Some answer a deletion of what is gone with 204: then neither the answers nor the looks prove anything yet."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        await asyncio.sleep(1)
        desk.when("DELETE /Users", *[Plan("ineffective")] * 8)
        desk.script.stale = [5.0] * 3
        await desk.want("absent")
        assert (desk.progress.applied_revision, desk.progress.error_code) == (1, "unavailable")
        await asyncio.sleep(REPLICA_LAG.total_seconds())
        await desk.converge()
        assert desk.progress.error_code == "not_effective", "by now a look says more than a denial"
        desk.script.fates.clear()
        await desk.converge()
        assert desk.accounts == []
        assert desk.progress.applied_revision == 2

    at_the_desk(story)


def test_an_account_that_is_old_is_deleted_by_two_calls() -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active")
        await asyncio.sleep(REPLICA_LAG.total_seconds())
        before = len(desk.app.journal)
        await desk.want("absent")
        assert [(one.method, one.status) for one in desk.app.journal[before:]] == [("DELETE", 204), ("GET", 404)]

    at_the_desk(story)


def test_a_replica_from_before_the_return_is_no_witness_of_the_next_departure() -> None:
    """The leaver stayed in: the patch had no effect, and the account looked closed as it had been before."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        await desk.want("inactive")
        await asyncio.sleep(10)
        await desk.want("active")
        await asyncio.sleep(1)
        desk.when("PATCH /Users", Plan("ineffective"))
        desk.script.stale = [5.0, 5.0]
        await desk.want("inactive")
        assert (desk.progress.applied_revision, desk.progress.error_code) == (3, "unavailable")
        await desk.converge()  # the first look of it is behind as well
        assert [one.active for one in desk.accounts] == [False]
        await asyncio.sleep(REPLICA_LAG.total_seconds())
        await desk.converge()
        assert desk.progress.applied_revision == 4
        assert desk.progress.intent is None, "every call was answered, so no other look is due"

    at_the_desk(story)


def test_a_new_leaver_is_out_by_two_calls() -> None:
    """What an account that was just made would show of the time before is nothing, and not that it is closed."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        await desk.want("inactive")
        assert desk.made("PATCH", "GET") == [200, 200]
        assert desk.progress.applied_revision == 2

    at_the_desk(story)


def test_a_404_to_a_change_makes_no_second_account() -> None:
    """Where names are not unique, a POST that follows a mistaken 404 succeeds."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        desk.when("PATCH /Users", MISSING)
        await desk.want("active", title="new")
        assert [one.title for one in desk.accounts] == ["new"]

    at_the_desk(story, Habits(unique=False))


def test_a_deactivation_whose_look_failed_is_not_taken_for_active() -> None:
    """Who came back was called active without a call, and was locked out."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        desk.when("GET /Users", DOWN)
        await desk.want("inactive")
        await desk.want("active")
        assert [one.active for one in desk.accounts] == [True]

    at_the_desk(story)


def test_a_deactivation_that_a_stale_read_denied_is_not_taken_for_active() -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active")
        await asyncio.sleep(10)
        desk.script.stale = [5.0, 5.0, 5.0]
        await desk.want("inactive")
        assert desk.progress.error_code == "not_effective"
        await desk.want("active")
        assert [one.active for one in desk.accounts] == [True]

    at_the_desk(story)


def test_a_read_that_does_not_know_a_changed_account_is_asked_again() -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active", groups=["staff"])
        desk.script.stale = [5.0]  # from before it was made
        await desk.want("inactive")
        assert desk.progress.applied_revision == 1
        await desk.converge()
        assert [(one.active, one.groups) for one in desk.accounts] == [(False, frozenset())]

    at_the_desk(story)
