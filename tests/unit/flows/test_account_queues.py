"""Ordered concurrency per account: what is committed, what overtakes, and what a rebalance leaves behind."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping

import pytest
from aiokafka import TopicPartition

from orchestrator.flows import account_queues
from orchestrator.flows.account_queues import AccountQueues
from tests.unit.flows.fakes import FakeOffsets, FakeRecord, rounds, until

LEAVERS, JOINERS = "scim.crm.deprovision", "scim.crm.provision"
LEAVERS_0, JOINERS_0, JOINERS_1 = TopicPartition(LEAVERS, 0), TopicPartition(JOINERS, 0), TopicPartition(JOINERS, 1)


class Work:
    """What is done for each account. An account in `held` goes on when it is let go; one in `broken` raises."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.held: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.broken: set[str] = set()
        self.under_way: set[str] = set()
        self.most_under_way = 0
        self.free = False

    def let_go(self, *people: str) -> None:
        """Let these accounts end, now and from now on."""
        for person_id in people:
            self.held[person_id].set()

    async def __call__(self, person_id: str) -> None:
        assert person_id not in self.under_way, "one account twice at once"
        self.begun.append(person_id)
        self.under_way.add(person_id)
        self.most_under_way = max(self.most_under_way, len(self.under_way))
        try:
            if person_id in self.broken:
                raise RuntimeError(person_id)
            if not self.free:
                await self.held[person_id].wait()
            self.ended.append(person_id)
        finally:
            self.under_way.discard(person_id)


@pytest.fixture(autouse=True)
def quick_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_queues, "COMMIT_SECONDS", 0.01)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def offsets() -> FakeOffsets:
    return FakeOffsets()


@pytest.fixture
async def queues(work: Work, offsets: FakeOffsets) -> AsyncIterator[AccountQueues]:
    queues = AccountQueues(work, urgent=[LEAVERS], width=3, room=10)
    queues.attach(offsets)
    await queues.on_partitions_assigned([LEAVERS_0, JOINERS_0, JOINERS_1])
    yield queues
    work.free = True
    work.let_go(*work.held)
    await queues.close()


def joiner(offset: int, person_id: str, partition: int = 0) -> FakeRecord:
    return FakeRecord(JOINERS, partition, offset, person_id.encode())


def leaver(offset: int, person_id: str) -> FakeRecord:
    return FakeRecord(LEAVERS, 0, offset, person_id.encode())


async def test_offsets_are_committed_up_to_the_first_that_is_not_done(
    queues: AccountQueues, work: Work, offsets: FakeOffsets
) -> None:
    """Offsets have gaps: 7 follows 3, and what is committed is the one after the last that is done."""
    work.let_go("a", "c")
    await queues([joiner(3, "a"), joiner(7, "b"), joiner(8, "c")])
    await until(lambda: offsets.committed.get(JOINERS_0) == 4)
    assert work.ended == ["a", "c"]
    work.let_go("b")
    await until(lambda: offsets.committed[JOINERS_0] == 9)
    assert queues.pending == 0


async def test_a_refused_commit_is_tried_again(queues: AccountQueues, work: Work, offsets: FakeOffsets) -> None:
    offsets.accepts = False
    work.let_go("a")
    await queues([joiner(0, "a")])
    await until(lambda: offsets.refused)
    assert not offsets.committed
    offsets.accepts = True
    await until(lambda: offsets.committed == {JOINERS_0: 1})


async def test_whatever_waits_for_an_account_is_served_at_once(queues: AccountQueues, work: Work) -> None:
    await queues([joiner(0, "a")])
    await until(lambda: work.begun)
    await queues([joiner(offset, "a") for offset in range(1, 10)])
    work.let_go("a")
    await until(lambda: queues.pending == 0)
    assert work.begun == ["a", "a"]


async def test_accounts_run_side_by_side_within_the_width(queues: AccountQueues, work: Work) -> None:
    await queues([joiner(number, f"p{number}") for number in range(8)])
    await rounds()
    assert work.under_way == {"p0", "p1", "p2"}
    work.let_go(*(f"p{number}" for number in range(8)))
    await until(lambda: len(work.ended) == 8)
    assert work.most_under_way == 3


async def test_leavers_overtake_what_waits(queues: AccountQueues, work: Work, offsets: FakeOffsets) -> None:
    await queues([joiner(number, f"p{number}") for number in range(8)])
    await rounds()
    work.let_go("x", "p7")
    await queues([leaver(0, "x"), leaver(1, "p7")])
    await until(lambda: work.ended == ["x", "p7"])
    work.let_go(*(f"p{number}" for number in range(7)))
    await until(lambda: offsets.committed == {LEAVERS_0: 2, JOINERS_0: 8})
    assert work.begun.count("p7") == 1, "its waiting command was served with it"


async def test_a_leaver_follows_at_once_on_what_is_under_way_for_the_account(queues: AccountQueues, work: Work) -> None:
    await queues([joiner(0, "a"), joiner(1, "b"), joiner(2, "c"), joiner(3, "d")])
    await rounds()
    await queues([leaver(0, "a")])
    await rounds()
    assert work.begun == ["a", "b", "c"], "never two of one account"
    work.let_go("a")
    await until(lambda: work.ended == ["a", "a"])
    assert work.begun == ["a", "b", "c", "a", "d"]


async def test_only_the_lane_of_joiners_is_paused_when_intake_is_full(
    queues: AccountQueues, work: Work, offsets: FakeOffsets
) -> None:
    people = [f"p{number}" for number in range(11)]
    await queues([joiner(number, person_id) for number, person_id in enumerate(people)])
    assert offsets.paused == {JOINERS_0, JOINERS_1}
    work.let_go("x", *people[:7])
    await queues([leaver(0, "x")])
    await until(lambda: queues.pending == 4)
    assert not offsets.paused
    work.let_go(*people)
    await until(lambda: len(work.ended) == 12)


async def test_a_flood_of_leavers_is_held_back_as_well(queues: AccountQueues, work: Work, offsets: FakeOffsets) -> None:
    await queues([leaver(number, f"p{number}") for number in range(81)])
    assert offsets.paused == {LEAVERS_0, JOINERS_0, JOINERS_1}
    work.let_go(*(f"p{number}" for number in range(81)))
    await until(lambda: not offsets.paused)


async def test_what_is_under_way_is_finished_and_committed_before_partitions_go(
    queues: AccountQueues, work: Work, offsets: FakeOffsets
) -> None:
    await queues([joiner(number, f"p{number}") for number in range(5)])
    await rounds()
    going = asyncio.create_task(queues.on_partitions_revoked([LEAVERS_0, JOINERS_0, JOINERS_1]))
    await rounds()
    assert not going.done()
    work.let_go(*(f"p{number}" for number in range(5)))
    await going
    assert work.ended == ["p0", "p1", "p2"], "what had not begun is for the new owner"
    assert offsets.committed == {JOINERS_0: 3}
    await queues([joiner(5, "late")])
    await until(lambda: queues.pending == 0)
    assert "late" not in work.begun, "fetched before the rebalance, delivered after it"


async def test_a_partition_that_comes_back_begins_with_nothing_seen(
    queues: AccountQueues, work: Work, offsets: FakeOffsets
) -> None:
    await queues([joiner(number, f"p{number}") for number in range(5)])
    await rounds()
    work.let_go("p0", "p1", "p2")
    await queues.on_partitions_revoked([LEAVERS_0, JOINERS_0, JOINERS_1])
    await queues.on_partitions_assigned([JOINERS_0])
    work.let_go("p3", "p4")
    await queues([joiner(3, "p3"), joiner(4, "p4")])
    await until(lambda: offsets.committed == {JOINERS_0: 5})
    assert work.ended == ["p0", "p1", "p2", "p3", "p4"]
    assert queues.pending == 0


async def test_a_partition_is_not_paused_when_it_comes_back(
    queues: AccountQueues, work: Work, offsets: FakeOffsets
) -> None:
    work.free = True
    await queues([joiner(number, f"p{number}") for number in range(11)])
    assert offsets.paused
    await queues.on_partitions_revoked([LEAVERS_0, JOINERS_0, JOINERS_1])
    offsets.paused.clear()  # as a new assignment does
    await queues.on_partitions_assigned([JOINERS_0])
    await until(lambda: queues.pending == 0)
    await queues([joiner(20, "next")])
    await until(lambda: "next" in work.ended)
    assert not offsets.paused


async def test_a_drain_that_takes_too_long_is_cut_short(
    queues: AccountQueues, work: Work, offsets: FakeOffsets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_queues, "DRAIN_SECONDS", 0.1)
    await queues([joiner(0, "quick"), joiner(1, "stuck"), joiner(2, "after")])
    await rounds()
    work.let_go("quick", "after")
    await queues.on_partitions_revoked([LEAVERS_0, JOINERS_0, JOINERS_1])
    assert not work.under_way, "cancelled: its intent tells the next owner"
    assert offsets.committed == {JOINERS_0: 1}
    assert queues.pending == 0
    assert not queues.failed.done()


async def test_nobody_waits_for_an_application_that_is_stuck(
    work: Work, offsets: FakeOffsets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_queues, "STUCK_SECONDS", 0.01)
    queues = AccountQueues(work, urgent=[LEAVERS], width=3, is_stuck=lambda: True)
    queues.attach(offsets)
    await queues.on_partitions_assigned([JOINERS_0])
    await queues([joiner(0, "a")])
    await rounds()
    async with asyncio.timeout(account_queues.DRAIN_SECONDS / 5):
        await queues.close()
    assert not work.under_way
    assert not offsets.committed


async def test_closing_finishes_what_is_under_way_and_begins_nothing(
    queues: AccountQueues, work: Work, offsets: FakeOffsets
) -> None:
    await queues([joiner(number, f"p{number}") for number in range(5)])
    await rounds()
    closing = asyncio.create_task(queues.close())
    await rounds()
    work.let_go(*(f"p{number}" for number in range(5)))
    await closing
    assert work.ended == ["p0", "p1", "p2"]
    assert offsets.committed == {JOINERS_0: 3}
    await queues([joiner(5, "late")])
    await rounds()
    assert queues.pending == 0


async def test_a_defect_is_told_and_its_offset_is_never_committed(
    queues: AccountQueues, work: Work, offsets: FakeOffsets
) -> None:
    work.broken.add("b")
    work.let_go("a", "c")
    await queues([joiner(0, "a"), joiner(1, "b"), joiner(2, "c")])
    assert str(await queues.failed) == "b"
    await until(lambda: offsets.committed == {JOINERS_0: 1})
    assert work.ended == ["a", "c"]


async def test_a_record_without_key_is_served_like_any_other(queues: AccountQueues, work: Work) -> None:
    work.free = True
    await queues([FakeRecord(JOINERS, 0, 0, None), FakeRecord(JOINERS, 0, 1, b"\xff")])
    await until(lambda: queues.pending == 0)
    assert work.ended == ["", "�"]


async def test_the_share_is_told_when_partitions_come_and_when_they_are_given_up(work: Work) -> None:
    shares: list[float] = []
    queues = AccountQueues(work, urgent=[LEAVERS], width=3, on_share=shares.append)
    queues.attach(FakeOffsets(total=8))
    await queues.on_partitions_assigned([LEAVERS_0, JOINERS_0])
    await queues.on_partitions_revoked([LEAVERS_0, JOINERS_0])
    assert shares == [0.25, 0.0]


async def test_it_is_told_while_somebody_leaves(work: Work) -> None:
    told: list[bool] = []
    queues = AccountQueues(work, urgent=[LEAVERS], width=3, on_urgent=told.append)
    queues.attach(FakeOffsets())
    await queues.on_partitions_assigned([LEAVERS_0, JOINERS_0])
    await queues([joiner(0, "a"), leaver(0, "b"), leaver(1, "c")])
    await rounds()
    assert told == [True, True]
    for person_id in ("b", "a", "c"):
        work.let_go(person_id)
        await rounds()
    assert told == [True, True, True, False], "not before the last one, and joiners are no news"
    await queues.close()


async def test_a_leaver_whose_account_is_under_way_is_told_and_counts(work: Work) -> None:
    hurried: list[str] = []
    told: list[bool] = []
    queues = AccountQueues(work, urgent=[LEAVERS], width=3, on_urgent=told.append, on_hurry=hurried.append)
    queues.attach(FakeOffsets())
    await queues.on_partitions_assigned([LEAVERS_0, JOINERS_0])
    await queues([joiner(0, "a"), joiner(1, "b")])
    await rounds()
    await queues([leaver(0, "a"), leaver(1, "a"), joiner(2, "b")])
    assert (hurried, told) == (["a", "a"], [True])
    work.let_go("a", "b")
    await until(lambda: not work.under_way)
    await rounds()
    assert told == [True, False]
    await queues.close()


async def test_accounts_that_only_need_patience_make_room_for_others(work: Work) -> None:
    patient = 0
    queues = AccountQueues(work, urgent=[LEAVERS], width=1, beside=lambda: patient)
    queues.attach(FakeOffsets())
    await queues.on_partitions_assigned([JOINERS_0])
    await queues([joiner(0, "a"), joiner(1, "b"), joiner(2, "c")])
    await rounds()
    assert work.under_way == {"a"}
    patient = 1
    queues.go_on()
    await rounds()
    assert work.under_way == {"a", "b"}
    work.let_go("a", "b", "c")
    await queues.close()


async def test_commits_that_end_by_a_defect_are_told(
    queues: AccountQueues, work: Work, offsets: FakeOffsets, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Mapping[TopicPartition, int]) -> bool:
        raise RuntimeError("no such transport")

    monkeypatch.setattr(offsets, "commit", broken)
    work.let_go("a")
    await queues([joiner(0, "a")])
    assert str(await queues.failed) == "no such transport"
    monkeypatch.undo()
