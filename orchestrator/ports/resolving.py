"""What the resolver needs of the store."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from orchestrator.domain.account import Account
from orchestrator.domain.breaker import Held, Window
from orchestrator.domain.person import Person
from orchestrator.domain.sealing import Subject
from schemas.envelope import Message


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record that nobody could read, with its original bytes."""

    topic: str
    partition: int
    offset: int
    code: str
    reason: str
    key: bytes | None
    value: bytes | None
    event_id: str | None
    received_at: datetime


class Timer(NamedTuple):
    """Something due for a person. `event_id` is the event it came from, `rule` what computed it."""

    person_id: str
    kind: str
    due: datetime
    event_id: str
    rule: str


class InboxRow(NamedTuple):
    """An accepted event and the terminal state it reached: resolved, no_change, superseded or quarantined."""

    key: str
    outcome: str


class Passed(NamedTuple):
    """So many commands that take access away passed the breaker in one part of its window."""

    app: str
    source: str
    bucket: datetime
    number: int


@dataclass(slots=True)
class ResolveChanges:
    """Everything one batch of the resolver writes, in one transaction."""

    inbox: list[InboxRow] = field(default_factory=list)
    persons: list[Person] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    timers_set: list[Timer] = field(default_factory=list)
    timers_cancelled: list[Timer] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    unheld: list[tuple[str, str]] = field(default_factory=list)
    """Person and application of what is held no more."""
    passed: list["Passed"] = field(default_factory=list)
    tripped: dict[str, datetime] = field(default_factory=dict)
    """Applications for which the breaker has just tripped, and when."""
    outbox: list[Message] = field(default_factory=list)


class SubjectStore(Protocol):
    """Who the audit log speaks of. All methods raise StoreUnavailable.

    A key is for the moment: whoever keeps one for longer reads, and writes, about somebody who was erased meanwhile.
    """

    async def of_people(self, person_ids: Sequence[str]) -> Mapping[str, Subject]:
        """The subjects of these people, by person id; an erased or unknown person has none."""
        ...

    async def called(self, subject_ids: Sequence[str]) -> Mapping[str, Subject]:
        """Those of these subjects that were not erased, by subject id."""
        ...


Place = tuple[str, int, int]
"""Where a record lies: topic, partition, offset."""


class ResolveTransaction(Protocol):
    """One transaction of the resolver. Persons are locked from `load` to the end."""

    async def subjects(self, person_ids: Sequence[str]) -> Mapping[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent. Ask after `load`, which waits
        for an erasure under way."""
        ...

    async def add_subjects(self, new: Sequence[Subject], *, now: datetime) -> Mapping[str, Subject]:
        """Give these people their first subjects; returns those that count from now on, by person id."""
        ...

    async def seen(self, keys: Sequence[str]) -> set[str]:
        """Which of these events are in the inbox already."""
        ...

    async def quarantined(self, records: Sequence[Place]) -> Mapping[Place, bytes | None]:
        """The bytes of those of these records that are in quarantine already.

        Should somebody else save one of the others before this transaction does, `save` raises StoreUnavailable: the
        next try sees it.
        """
        ...

    async def correlate_emails(self, emails: Sequence[str]) -> Mapping[str, list[str]]:
        """The persons that hold each of these e-mail addresses (lower case)."""
        ...

    async def load(
        self, person_ids: Sequence[str]
    ) -> tuple[dict[str, Person], dict[str, dict[str, Account]], dict[str, list[Timer]]]:
        """Lock and load persons, their accounts by application, and their open timers."""
        ...

    async def held(self, person_ids: Sequence[str]) -> dict[tuple[str, str], Held]:
        """What the breaker holds of these persons' accounts, or an operator rejected; after `load`."""
        ...

    async def windows(self, apps: Sequence[str], *, since: datetime, now: datetime) -> dict[str, Window]:
        """What passed the breaker since then. Until the end nobody else passes anything for these applications."""
        ...

    async def managers(self, person_ids: Sequence[str]) -> Mapping[str, str | None]:
        """The manager of each of these persons, as stored."""
        ...

    async def save(self, changes: ResolveChanges, *, now: datetime) -> int | None:
        """Write everything in bulk; returns the id of the outbox segment, if anything is to be published."""
        ...


class ResolveStore(Protocol):
    """What the resolve flow needs of the store. All methods raise StoreUnavailable."""

    def transaction(self) -> AbstractAsyncContextManager[ResolveTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...


class OutboxStore(Protocol):
    """Messages saved with the change they belong to, until the broker has confirmed them."""

    async def published(self, segments: Sequence[int]) -> None:
        """Forget these segments."""
        ...

    async def leftover(self, *, older_than: datetime, limit: int) -> list[tuple[int, list[Message]]]:
        """Segments that nobody published for a while, oldest first."""
        ...
