"""A backlog after downtime, many schedulers, clocks that were stepped: nothing is lost, doubled or decided wrongly."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from orchestrator.domain.resolve import MAX_SKEW
from orchestrator.flows import expire
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.flows.expire import ExpireFlow
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.testing.clock import ManualClock
from orchestrator.testing.rows import ACCOUNT, INBOX, TIMER
from schemas.envelope import Message
from tests.unit.flows.fakes import FakeRecord
from tests.unit.flows.test_time_oracle import Office, Told, message

NIGHT = datetime(2026, 3, 1, tzinfo=UTC)
PEOPLE = 120


class Backlog(Office):
    """Many people who go from one contract to the next in the same night, or leave in it, while nobody is running."""

    def __init__(self) -> None:
        super().__init__("UTC")

    async def hired(self) -> None:
        """The odd numbers have a further contract after a day between, which begins in the same downtime."""
        for number in range(PEOPLE):
            first = {"engagement_id": "e1", "start_date": "2026-01-05", "contract_end": "2026-02-28"}
            await self.arrives(self.told(number, "a", first))
            if number % 2:
                await self.arrives(self.told(number, "b", {"engagement_id": "e2", "start_date": "2026-03-02"}))

    def told(self, number: int, part: str, data: dict[str, str]) -> Message:
        """A contract of one of them."""
        one = message(Told(f"{number}{part}", NIGHT - timedelta(days=20), "joined", {**data, "kind": "contractor"}, {}))
        body = one.value.replace(b'"w1"', f'"p{number:03}"'.encode())
        return one._replace(key=f"p{number:03}".encode(), value=body)

    async def drained(self, *, shuffle: bool = False) -> list[Message]:
        """Every scheduler sweeps; what was fired reaches the resolver as it was published, or in any order."""
        await asyncio.gather(*(one.sweep() for one in self.schedulers))
        fired, self._waiting = self._waiting, []
        arriving = random.Random(4).sample(fired, len(fired)) if shuffle else fired
        for start in range(0, len(arriving), 50):
            batch = arriving[start : start + 50]
            await self.resolve([FakeRecord(one.topic, 0, 0, one.key, one.value, one.headers) for one in batch])
        return fired

    def states(self) -> dict[str, str]:
        """What each account is to be."""
        return {key[0]: row.account.state for key, row in self.store.tables.table(ACCOUNT).items()}


@pytest.fixture
async def backlog(monkeypatch: pytest.MonkeyPatch) -> Backlog:
    monkeypatch.setattr(expire, "SWEEP_LIMIT", 7)
    backlog = Backlog()
    await backlog.hired()
    return backlog


def fires(one: Message) -> tuple[str, str]:
    """Whom a timer is about and when it was due."""
    person, _, due = dict(one.headers)["ce_id"].decode().split("/")
    return person, due


EXPECTED = {f"p{number:03}": "active" if number % 2 else "inactive" for number in range(PEOPLE)}


async def test_one_scheduler_drains_a_backlog_of_many_batches_in_order_of_due_time(backlog: Backlog) -> None:
    backlog.schedulers = backlog.schedulers[:1]
    backlog.clock.advance_to(NIGHT + timedelta(days=5))
    fired = await backlog.drained()
    due = [fires(one)[1] for one in fired]
    assert due == sorted(due)
    assert len(fired) == len({dict(one.headers)["ce_id"] for one in fired}) > PEOPLE
    assert backlog.states() == EXPECTED


@pytest.mark.parametrize("shuffle", [False, True])
async def test_many_schedulers_drain_it_once_whatever_the_order_of_their_batches(
    backlog: Backlog, shuffle: bool
) -> None:
    """Batches of several schedulers cross on their way. A timer states nothing, so who ends and begins in the same
    backlog is decided right even when the beginning comes first."""
    backlog.clock.advance_to(NIGHT + timedelta(days=5))
    fired = await backlog.drained(shuffle=shuffle)
    assert len(fired) == len({dict(one.headers)["ce_id"] for one in fired})
    assert {row.fired_at is not None for row in backlog.store.tables.table(TIMER).values()} == {True}
    assert backlog.states() == EXPECTED


@pytest.mark.parametrize("minutes", [-5, 5])
async def test_a_scheduler_whose_clock_was_stepped_some_minutes_loses_and_doubles_nothing(
    backlog: Backlog, minutes: int
) -> None:
    stepped = ManualClock(NIGHT + timedelta(minutes=minutes))
    outbox = cast(OutboxPublisher, backlog)
    odd = ExpireFlow(backlog.store.timers, outbox, AuditWriter("odd", NIGHT), stepped, stepped)
    assert abs(timedelta(minutes=minutes)) < MAX_SKEW
    backlog.schedulers.append(odd)
    ids: list[bytes] = []
    for moment in (NIGHT - timedelta(minutes=3), NIGHT, NIGHT + timedelta(minutes=10), NIGHT + timedelta(days=5)):
        backlog.clock.advance_to(moment)
        stepped.advance_to(moment + timedelta(minutes=minutes))
        ids += [dict(one.headers)["ce_id"] for one in await backlog.drained()]
    # One that fired before its time may be set and fire again; it is one event under one id, and decided once.
    timers = [key for key in backlog.store.tables.table(INBOX) if key.startswith("jml/scheduler#")]
    assert sorted(key.removeprefix("jml/scheduler#").encode() for key in timers) == sorted(set(ids))
    decided = [one["event_id"] for one in backlog.entries if one["kind"] == "person_resolved"]
    assert len(decided) == len(set(decided))
    assert backlog.states() == EXPECTED
