"""A resolver on a store in memory, told events in batches; what it decided is read from the store and the outbox."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.domain.account import Account
from orchestrator.domain.breaker import BreakerPolicy, Held, Rule
from orchestrator.domain.policy import ApplicationPolicy, Policy, compile_policy
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.flows.breaking import Breaker
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.flows.resolve import ResolveFlow
from orchestrator.testing.rows import ACCOUNT, HELD, TIMER
from orchestrator.testing.store import MemoryStore
from schemas.envelope import Envelope, Message, read_envelope
from schemas.topics import AUDIT_ENTRIES, HR_EVENTS
from tests.unit.flows.fakes import NOW, FakeOutboxStore, FakePublisher, FakeRecord

WINDOW = timedelta(hours=1)
COMMON = {"userName": "person.id", "externalId": "person.id", "title": "person.title"}


def policy_of(*apps: str, delete_after: timedelta | None = None) -> Policy:
    """Applications that everybody gets, with a group for each department."""
    compiled, problems = compile_policy(
        [ApplicationPolicy(app, COMMON, groups="[person.department]", delete_after=delete_after) for app in apps], "UTC"
    )
    assert compiled is not None, problems
    return compiled


def breaker_policy(limit: int, total: int = 1000, *, share: float = 0.0) -> BreakerPolicy:
    """So many for each source, so many in all."""
    return BreakerPolicy(WINDOW, Rule(limit, share, total, share), {}, frozenset({"contract_end", "operator"}))


class Office:
    """A resolver and its store."""

    def __init__(
        self, breaker: BreakerPolicy | None, *, apps: Sequence[str] = ("crm",), policy: Policy | None = None
    ) -> None:
        self.clock = SimulatedClock(NOW)
        self.store = MemoryStore()
        self.publisher = FakePublisher()
        self.policy = policy or policy_of(*apps)
        self.outbox = OutboxPublisher(self.publisher, FakeOutboxStore())
        self.flow = ResolveFlow(
            self.store.resolve,
            self.outbox,
            AuditWriter("resolver", NOW),
            self.policy,
            self.clock,
            self.clock,
            breaker=Breaker(breaker, apps),
        )
        self._number = 0

    async def tell(self, *messages: Message) -> None:
        """One batch."""
        self.outbox.start()
        records = [
            FakeRecord(one.topic, 0, number, one.key, one.value, one.headers) for number, one in enumerate(messages)
        ]
        await self.flow(records)
        await self.outbox.idle()
        await self.outbox.drain()

    def event(self, kind: str, person_id: str, source: str = "hr/a", **data: Any) -> Message:
        """An event that no other is."""
        self._number += 1
        envelope = Envelope(
            id=f"e{self._number}", source=source, type=f"jml.{kind}.v1", time=self.clock.now(), subject=person_id
        )
        body = orjson.dumps({"worker_id": person_id, **data})
        return Message(HR_EVENTS, person_id.encode(), body, envelope.headers())

    def joins(self, person_id: str, department: str = "eng") -> Message:
        """A joiner of long ago."""
        return self.event(
            "worker.joined", person_id, start_date="2026-01-05", attributes={"title": "x", "department": department}
        )

    def leaves(self, person_id: str, *, source: str = "hr/a", at: datetime | None = None) -> Message:
        """A leaver, as of an instant."""
        return self.event("worker.left", person_id, source, ends_at=(at or self.clock.now()).isoformat())

    def stays(self, person_id: str, *, source: str = "hr/a") -> Message:
        """The leaving is taken back."""
        return self.event("worker.left", person_id, source, last_day=None)

    def moves(self, person_id: str, *, source: str = "hr/a", **attributes: str) -> Message:
        """A mover."""
        return self.event("worker.moved", person_id, source, attributes=attributes)

    def passes(self, length: timedelta) -> None:
        """Time goes by."""
        self.clock.advance_to(self.clock.now() + length)

    # --- what came of it ----------------------------------------------------------------------------------------------

    @property
    def accounts(self) -> dict[tuple[str, str], Account]:
        """What connectors are to make true."""
        return {key: row.account for key, row in self.store.tables.table(ACCOUNT).items()}

    @property
    def held(self) -> dict[tuple[str, str], Held]:
        """What waits for a person, or was rejected."""
        return dict(self.store.tables.table(HELD))

    @property
    def timers(self) -> list[str]:
        """The kinds of the timers that are set."""
        return [kind for _, kind, _ in self.store.tables.table(TIMER)]

    def states(self, app: str = "crm") -> dict[str, str]:
        """By person."""
        return {who: account.state for (who, where), account in sorted(self.accounts.items()) if where == app}

    def commands(self, *kinds: str) -> list[dict[str, Any]]:
        """The commands that went out."""
        found = [orjson.loads(one.value) for one in self.publisher.published if one.topic.startswith("scim.")]
        return [one for one in found if not kinds or one["kind"] in kinds]

    @property
    def records(self) -> list[bytes]:
        """What was published for the auditor."""
        return [one.value for one in self.publisher.published if one.topic == AUDIT_ENTRIES]

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """Audit entries of a kind."""
        return [one for one in map(orjson.loads, self.records) if one["kind"] == kind]


def people(number: int) -> Iterable[str]:
    """Their ids."""
    return [f"p{one:04}" for one in range(number)]


def source_of(message: Message) -> str:
    """Whose event it is."""
    return read_envelope(message.value, message.headers).source
