"""Who may call, and when: leases, waits, and what is wanted by then, told as short stories that seeds found."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

import pytest
from aiokafka import TopicPartition

from orchestrator.domain.intent import LEASE_SECONDS
from orchestrator.errors import RateLimited
from orchestrator.flows.account_call import Fenced, all_asked
from orchestrator.flows.audit_writer import Entry
from orchestrator.flows.calling import Caller
from orchestrator.ports import ApplicationHealth, ScimRequest
from orchestrator.simulation.loop import Process, current_process
from orchestrator.testing.scim import Habits, Plan
from orchestrator.testing.tables import Calm
from schemas.envelope import Message
from tests.audit_log import problems_later
from tests.simulation.desk import WHO, Desk, at_the_desk
from tests.unit.flows.fakes import FakeRecord


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


def recorded(desk: Desk) -> list[bytes]:
    """What the connector records from now on, as it is stamped: here no transaction is lost."""
    writer, entries = desk.lanes._saver._writer, list[bytes]()
    stamp = writer.stamp

    def keep(some: Sequence[Entry]) -> list[Message]:
        messages = stamp(some)
        entries.extend(message.value for message in messages)
        return messages

    writer.stamp = keep  # type: ignore[method-assign,assignment]  # to listen
    return entries


def test_somebody_who_came_back_while_the_application_made_us_wait_is_not_put_out() -> None:
    """The deactivation stood before a closed gate when the return was decided, and went out all the same."""

    async def story(desk: Desk) -> None:
        entries = recorded(desk)
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
        assert problems_later(entries) == [], "an intent of which nothing came is explained by what overtook it"

    at_the_desk(story)


def test_somebody_who_came_back_while_the_store_was_down_is_not_put_out() -> None:
    async def story(desk: Desk) -> None:
        entries = recorded(desk)
        await desk.want("active")
        await desk.decide("inactive")
        desk.store.tables.weather = BackMeanwhile(desk)
        await desk.converge()
        assert desk.made("GET", "PATCH", "DELETE") == [], "nothing went out, so there is nothing to look after"
        assert desk.progress.applied_revision == 3
        assert desk.progress.intent is None
        assert problems_later(entries) == []

    at_the_desk(story)


def test_the_groups_of_an_account_do_not_fence_each_other_off() -> None:
    """Two of them stood before a closed gate, and both renewed the one lease at once."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        desk.lanes._caller.gate.hold_until(desk.clock.now() + timedelta(seconds=LEASE_SECONDS + 5))
        await desk.want("active", groups=["design", "staff"])
        assert [one.groups for one in desk.accounts] == [{"design", "staff"}]
        assert asyncio.get_running_loop().time() < LEASE_SECONDS + 6
        assert desk.progress.intent is None

    at_the_desk(story)


class Held:
    """The offsets of a subscription that nobody else wants."""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """See `Offsets`."""
        return bool(offsets)

    def partitions(self) -> int:
        """See `Offsets`."""
        return 2

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """See `Offsets`."""

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """See `Offsets`."""


@pytest.mark.parametrize("groups", [(), ("staff",)], ids=["account", "group"])
def test_a_leaver_whose_account_stands_in_the_line_of_joiners_goes_ahead(groups: tuple[str, ...]) -> None:
    """A change of the account had come in before, and waited behind forty joiners of a slow application: the leaver
    waited with it, for two minutes."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        queues = desk.lanes.queues
        queues.attach(Held())
        deprovision, provision = desk.lanes.topics
        await queues.on_partitions_assigned([TopicPartition(deprovision, 0), TopicPartition(provision, 0)])
        desk.when("POST /Users", *[Plan(answered=5.0)] * 100)
        people = [f"p{number}" for number in range(40)]
        for one in people:
            await desk.decide(who=one)
        await desk.decide(title="" if groups else "new", groups=groups)
        await queues([FakeRecord(provision, 0, at, one.encode()) for at, one in enumerate([*people, WHO])])
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await desk.decide("inactive")
        await queues([FakeRecord(deprovision, 0, 0, WHO.encode())])
        while desk.app.state("u1").active:  # type: ignore[union-attr]  # it is never deleted
            await asyncio.sleep(0.1)
        assert asyncio.get_running_loop().time() - began < 5.5, "four slots are taken for five seconds each"
        assert desk.made("PATCH") == [200], "the change that was overtaken did not go out"
        assert len(desk.accounts) < len(people), "most of them still wait"
        await queues.close()

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
