"""What seeds found, told as short stories: each of these once left somebody in, out, or twice."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

from orchestrator.domain.account import REPLICA_LAG, AccountStatus
from orchestrator.errors import RateLimited
from orchestrator.flows.account_call import Fenced, all_asked
from orchestrator.flows.calling import Caller
from orchestrator.flows.converge import LEASE_SECONDS
from orchestrator.ports import ApplicationHealth, ScimRequest
from orchestrator.simulation.loop import Process, current_process
from orchestrator.testing.scim import Habits, Plan
from orchestrator.testing.tables import Calm
from tests.simulation.desk import Desk, at_the_desk

UNANSWERED = Plan("unanswered")
DOWN = Plan("error", status=503)
MISSING = Plan("error", status=404)
WELL = Plan()


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


def test_a_probe_keeps_to_retry_after() -> None:
    """Both what was asked for before the application went away, and what the probe itself is told."""

    async def story(desk: Desk) -> None:
        gone = Plan("refused", status=0)
        desk.when("POST /Users", Plan("error", status=429, retry_after=20))
        await desk.want("active")
        await asyncio.sleep(20)
        desk.when("POST /Users", gone)
        desk.when("GET /Users", Plan("error", status=429, retry_after=30))
        began = asyncio.get_running_loop().time()
        await desk.converge()
        calls = [sent_at - began for sent_at, _ in desk.app.sent if sent_at >= began]
        assert [round(one) for one in calls] == [0, 1, 31]

    at_the_desk(story)


def test_a_process_that_wakes_up_lets_the_new_owner_finish() -> None:
    """It lost the race, looked, saw nothing yet, fenced the new owner off in the middle of its create, and created."""

    async def story(desk: Desk) -> None:
        sleeper = desk.loop.process("sleeper")
        desk.when("POST /Users", Plan("lost"), Plan(arrives=5.0))
        await desk.decide("active")
        desk.loop.spawn(sleeper, desk.converge())
        await asyncio.sleep(1)
        desk.loop.freeze(sleeper)
        await asyncio.sleep(20)
        owner = asyncio.create_task(desk.converge(desk.connector("owner")))
        await asyncio.sleep(1)
        desk.loop.wake(sleeper)
        await owner
        await asyncio.sleep(20)
        assert len(desk.accounts) == 1
        assert desk.progress.applied_revision == 1

    at_the_desk(story, Habits(unique=False))


class Nap(Calm):
    """One commit of a process after which it is frozen."""

    def __init__(self, sleeper: Process, commits: int) -> None:
        self._sleeper = sleeper
        self._commits = commits

    async def committed(self) -> None:
        """See `Weather`."""
        if current_process() is self._sleeper:
            self._commits -= 1
            if self._commits == 0:
                asyncio.get_running_loop().freeze(self._sleeper)  # type: ignore[attr-defined]


def test_a_process_that_is_frozen_while_it_renews_its_lease_looks_at_it_once_more() -> None:
    """The renewal was saved; it slept for long, and sent the older change over the new owner's."""

    async def story(desk: Desk) -> None:
        await desk.want("active", title="first")
        sleeper = desk.loop.process("sleeper")
        lanes = desk.connector("sleeper")
        lanes._caller.gate.hold_until(desk.clock.now() + timedelta(seconds=LEASE_SECONDS + 5))
        desk.store.tables.weather = Nap(sleeper, 2)
        await desk.decide("active", title="old")
        desk.loop.spawn(sleeper, desk.converge(lanes))
        await asyncio.sleep(40)
        await desk.want("active", title="new")
        desk.loop.wake(sleeper)
        await asyncio.sleep(20)
        assert [one.after.title for one in desk.app.journal if one.changed and one.after] == ["first", "new"]
        assert desk.progress.applied_revision == 3

    at_the_desk(story)


def test_somebody_who_came_back_while_the_application_made_us_wait_is_not_put_out() -> None:
    """The deactivation stood before a closed gate when the return was decided, and went out all the same."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        desk.lanes._caller.gate.hold_until(desk.clock.now() + timedelta(seconds=LEASE_SECONDS + 5))
        await desk.decide("inactive")
        leaving = asyncio.create_task(desk.converge())
        await asyncio.sleep(5)
        await desk.decide("active")
        await leaving
        assert desk.made("PATCH", "DELETE") == []
        assert desk.progress.applied_revision == 3
        assert asyncio.get_running_loop().time() < LEASE_SECONDS + 6, "it has waited for nobody but the application"

    at_the_desk(story)


def test_somebody_who_came_back_while_the_store_was_down_is_not_put_out() -> None:
    async def story(desk: Desk) -> None:
        await desk.want("active")
        await desk.decide("inactive")
        desk.store.tables.weather = BackMeanwhile(desk)
        await desk.converge()
        assert desk.made("PATCH", "DELETE") == []
        assert desk.progress.applied_revision == 3

    at_the_desk(story)


class BackMeanwhile(Calm):
    """Between the connector's load, which is one statement, and the next one the return is decided."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._statements = 0

    async def statement(self) -> None:
        """See `Weather`."""
        self._statements += 1
        if self._statements == 2:
            await self._desk.decide("active")


def test_whoever_was_asked_first_is_asked_again_when_the_last_answer_took_long() -> None:
    """Many go in one call; the first lease had run out when the last one was renewed."""

    async def story(_: Desk) -> None:
        asked: list[str] = []

        async def quick() -> None:
            asked.append("quick")

        async def slow() -> None:
            asked.append("slow")
            await asyncio.sleep(5.0 if asked.count("slow") == 1 else 0.0)

        async def fenced() -> None:
            asked.append("fenced")
            raise Fenced

        assert [type(one) for one in await all_asked([quick, slow, fenced])] == [type(None), type(None), Fenced]
        assert asked == ["quick", "slow", "fenced", "quick", "slow"]

    at_the_desk(story)


def test_who_was_thrown_out_of_the_group_may_finish_what_it_began() -> None:
    """It lived, its heartbeats were late; the new owner looked, saw nothing of its create yet, and created as well."""

    async def story(desk: Desk) -> None:
        desk.when("POST /Users", Plan(arrives=5.0))
        await desk.decide("active")
        before = asyncio.create_task(desk.converge())
        await asyncio.sleep(1)
        await desk.converge(desk.connector("owner"))
        await before
        await asyncio.sleep(20)
        assert len(desk.accounts) == 1
        assert desk.progress.applied_revision == 1

    at_the_desk(story, Habits(unique=False))


def test_a_wish_to_wait_is_heeded_before_anybody_is_told_of_it() -> None:
    """Telling means writing to the store, which may take its time; others called meanwhile."""

    async def story(desk: Desk) -> None:
        async def tell(_: ApplicationHealth) -> None:
            await asyncio.sleep(5)

        caller = Caller(desk.app.transport("connector"), desk.clock, 2, tell)

        async def call() -> None:
            with contextlib.suppress(RateLimited):
                await caller.call(ScimRequest("GET", "/Users"), urgent=False)

        desk.when("GET /Users", Plan("error", status=429, retry_after=1), Plan("error", status=429, retry_after=30))
        await call()
        await asyncio.gather(call(), _after(1, call))
        first, second, third = (sent_at for sent_at, _ in desk.app.sent)
        assert third - second >= 30
        assert second - first >= 1

    at_the_desk(story)


async def _after(seconds: float, call: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(seconds)
    await call()


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
