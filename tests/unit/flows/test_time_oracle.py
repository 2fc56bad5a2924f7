"""Whatever HR states, in whatever order it arrives and however often: everybody ends as ten lines say they should.

The flows are the real ones, resolver and scheduler over the store in memory. The oracle shares no code with them.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import orjson
from hypothesis import event, given, settings
from hypothesis import strategies as st

from orchestrator.domain.policy import ApplicationPolicy, TimeRules, compile_policy
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.flows.expire import ExpireFlow
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.flows.resolve import ResolveFlow
from orchestrator.testing.clock import ManualClock
from orchestrator.testing.rows import ACCOUNT, INBOX, TIMER
from orchestrator.testing.store import MemoryStore
from schemas.envelope import Envelope, Message
from schemas.notices import Notice
from schemas.topics import AUDIT_ENTRIES, HR_EVENTS, LIFECYCLE_NOTICES, LIFECYCLE_TIMERS
from tests.unit.flows.fakes import FakeRecord

FIRST = date(2026, 2, 20)
ZONES = ("Australia/Melbourne", "America/Los_Angeles", "Europe/Berlin", "Pacific/Kiritimati", "Africa/Casablanca")
"""All but one change their clocks in the weeks from `FIRST` on."""
ENGAGEMENTS, GROUPS = ("e1", "e2", "e3"), ("night shift", "admins")
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Told:
    """One event, and what it says by the oracle's reading: facts by name."""

    id: str
    stated: datetime
    type: str
    data: Mapping[str, Any]
    says: Mapping[tuple[str, str], Any]
    withdraws: str = ""


def oracle(told: Sequence[Told], zone: ZoneInfo, now: datetime) -> set[str] | None:
    """The groups that the person is to be in `now`; None for somebody without access."""
    gone = {one.withdraws for one in told}
    said: dict[tuple[str, str], Any] = {}
    for one in sorted(told, key=lambda one: one.stated):
        said.update(one.says if one.id not in gone else {})
    begin = {day: datetime.combine(day, time(), zone) for day in _days()}
    starts = {name: begin[day] for (fact, name), day in said.items() if fact == "start"}
    ends = {e: [said[f, e] for f in ("contract", "left") if said.get((f, e))] for e in starts}
    if not any(starts[e] <= now and all(now < begin[end + timedelta(1)] for end in ends[e]) for e in starts):
        return None
    windows = {name: window for (fact, name), window in said.items() if fact == "group" and window}
    return {"all"} | {
        name for name, (first, last) in windows.items() if begin[first] <= now < begin[last + timedelta(1)]
    }


def _days() -> Iterator[date]:
    yield from (FIRST + timedelta(days=number) for number in range(-10, 120))


days = st.integers(0, 60).map(lambda number: FIRST + timedelta(days=number))


@st.composite
def stories(draw: st.DrawFn) -> list[Told]:
    """What is stated of one person, at distinct instants within two months."""
    count = draw(st.integers(1, 10))
    hours = sorted(draw(st.lists(st.integers(0, 60 * 24), min_size=count, max_size=count, unique=True)))
    told: list[Told] = []
    for number, hour in enumerate(hours):
        stated = datetime.combine(FIRST, time(), UTC) + hour * HOUR
        told.append(draw(_telling(f"{number}", stated, [one.id for one in told])))
    return told


@st.composite
def _telling(draw: st.DrawFn, event_id: str, stated: datetime, before: list[str]) -> Told:
    kinds = ["hire", "hire", "extend or shorten", "convert", "leave", "rescind", "grant", "revoke", "withdraw"]
    kind, e, group = draw(st.sampled_from(kinds)), draw(st.sampled_from(ENGAGEMENTS)), draw(st.sampled_from(GROUPS))
    first, last = sorted((draw(days), draw(days)))
    end = draw(st.none() | st.just(last))
    iso = None if end is None else end.isoformat()
    if kind == "hire":
        data = {"engagement_id": e, "kind": "contractor", "start_date": first.isoformat(), "contract_end": iso}
        return Told(event_id, stated, "joined", data, {("start", e): first, ("contract", e): end})
    if kind == "extend or shorten":
        return Told(
            event_id, stated, "contract_changed", {"engagement_id": e, "contract_end": iso}, {("contract", e): end}
        )
    if kind == "convert":
        data = {"engagement_id": e, "kind": "employee", "contract_end": None}
        return Told(event_id, stated, "contract_changed", data, {("contract", e): None})
    if kind == "leave":
        return Told(event_id, stated, "left", {"engagement_id": e, "last_day": last.isoformat()}, {("left", e): last})
    if kind == "rescind":
        return Told(event_id, stated, "left", {"engagement_id": e}, {("left", e): None})
    if kind == "grant":
        data = {"app": "directory", "group": group, "starts": first.isoformat(), "ends": last.isoformat()}
        return Told(event_id, stated, "entitlement_granted", data, {("group", group): (first, last)})
    if kind == "revoke":
        return Told(
            event_id, stated, "entitlement_revoked", {"app": "directory", "group": group}, {("group", group): None}
        )
    target = draw(st.sampled_from([*before, str(int(event_id) + 1)]))
    return Told(event_id, stated, "change_withdrawn", {"source": "hr", "id": target}, {}, target)


@dataclass
class Office:
    """A resolver and a scheduler over one store; what they publish is handed on at once, timers to the resolver."""

    zone: str
    store: MemoryStore = field(default_factory=MemoryStore)
    entries: list[dict[str, Any]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = ManualClock(datetime.combine(FIRST, time(), UTC) - timedelta(days=1))
        rules = [ApplicationPolicy("directory", {"userName": "person.id"}, groups='["all"]')]
        policy, _ = compile_policy(rules, self.zone, TimeRules(None, (7, 1), (1,)))
        assert policy is not None
        self._waiting: list[Message] = []
        outbox = cast(OutboxPublisher, self)
        self.resolve = ResolveFlow(
            self.store.resolve, outbox, AuditWriter("resolver", self.clock.now()), policy, self.clock, self.clock
        )
        self.schedulers = [
            ExpireFlow(self.store.timers, outbox, AuditWriter(f"s{n}", self.clock.now()), self.clock, self.clock)
            for n in range(3)
        ]

    async def submit(self, segment: int | None, messages: Sequence[Message]) -> None:
        """`OutboxPublisher.submit`."""
        self._waiting += [one for one in messages if one.topic == LIFECYCLE_TIMERS]
        self.notices += [Notice.model_validate_json(one.value) for one in messages if one.topic == LIFECYCLE_NOTICES]
        self.entries += [orjson.loads(one.value) for one in messages if one.topic == AUDIT_ENTRIES]

    async def arrives(self, *messages: Message) -> None:
        """A batch reaches the resolver."""
        await self.resolve([FakeRecord(one.topic, 0, 0, one.key, one.value, one.headers) for one in messages])

    async def time_passes(self, until: datetime) -> None:
        """To each due instant, where three schedulers sweep at once."""
        while (due := await self.store.timers.next_due()) is not None and due <= until:
            self.clock.advance_to(due)
            await asyncio.gather(*(one.sweep() for one in self.schedulers))
            fired, self._waiting = self._waiting, []
            await self.arrives(*fired)
        self.clock.advance_to(until)

    def groups(self) -> set[str] | None:
        """What the account is to hold; None when nobody may use it."""
        row = self.store.tables.table(ACCOUNT).get(("w1", "directory"))
        return set(row.account.groups) if row and row.account.state == "active" else None


def message(one: Told) -> Message:
    """The event as HR sends it."""
    body = orjson.dumps({"worker_id": "w1", **one.data})
    envelope = Envelope(id=one.id, source="hr", type=f"jml.worker.{one.type}.v1", time=one.stated, subject="w1")
    return Message(HR_EVENTS, b"w1", body, envelope.headers())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_everybody_ends_as_the_oracle_says(data: st.DataObject) -> None:
    told = data.draw(stories())
    zone = data.draw(st.sampled_from(ZONES))
    delays = st.sampled_from([0, 0, 1, 30, 24 * 9, 24 * 30])  # hours on the way: late ones overtake and are overtaken
    arrivals = [(one.stated + data.draw(delays) * HOUR, one) for one in told]
    arrivals += [(at + data.draw(delays) * HOUR, one) for at, one in arrivals if data.draw(st.booleans())]
    arrivals.sort(key=lambda arrival: arrival[0])
    asyncio.run(_live(told, arrivals, zone))


async def _live(told: list[Told], arrivals: list[tuple[datetime, Told]], zone: str) -> None:
    office, here = Office(zone), ZoneInfo(zone)
    arrived: dict[str, Told] = {}
    for at, one in arrivals:
        await office.time_passes(at)
        await office.arrives(message(one))
        arrived[one.id] = one
        assert office.groups() == oracle(list(arrived.values()), here, at), f"after {one.id}"
    for day in range(95):
        now = datetime.combine(FIRST + timedelta(days=day), time(), here).astimezone(UTC)
        for moment in (now - timedelta(seconds=1), now):
            if moment > arrivals[-1][0]:
                await office.time_passes(moment)
                assert office.groups() == oracle(told, here, moment), f"at {moment}"
    assert len([key for key in office.store.tables.table(INBOX) if key.startswith("hr#")]) == len(told)
    _nothing_fired_twice(office)
    outcomes = {one["details"].get("outcome") for one in office.entries if one["kind"] == "person_resolved"}
    event(f"superseded: {'superseded' in outcomes}")


def _nothing_fired_twice(office: Office) -> None:
    fired = [one["details"] | {"of": one.get("event_id")} for one in office.entries if one["kind"] == "timer_fired"]
    due = [(one["timer"], one["due"]) for one in fired]
    assert len(due) == len(set(due))
    left = [row.timer for row in office.store.tables.table(TIMER).values() if row.fired_at is None]
    assert [one for one in left if one.due <= office.clock.now()] == []
