"""The rows that the stores in memory share, and the names of their tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from orchestrator.domain.account import Account, Progress
from orchestrator.ports import Timer
from orchestrator.testing.tables import Tables, Transaction
from schemas.envelope import Message

PERSON, ACCOUNT, INBOX, OUTBOX, TIMER = "person", "account", "inbox", "outbox", "timer"
QUARANTINED, GROUP, HEALTH = "quarantined", "entitlement_group", "application"
HELD, BREAKER, BREAKER_COUNT = "held", "breaker", "breaker_count"


@dataclass(frozen=True, slots=True)
class AccountRow:
    """Both sides of an account, and when the relay should have a look."""

    account: Account
    progress: Progress = field(default_factory=Progress)
    attention_at: datetime | None = None


class TimerRow(NamedTuple):
    """A timer, and when it fired."""

    timer: Timer
    fired_at: datetime | None = None


class Segment(NamedTuple):
    """The messages of one transaction."""

    messages: Sequence[Message]
    created_at: datetime


class GroupRow(NamedTuple):
    """A group in an application, or the claim of a process to create it."""

    remote_id: str | None = None
    claimed_until: datetime | None = None


async def save_segment(
    transaction: Transaction, tables: Tables, messages: Sequence[Message], now: datetime
) -> int | None:
    """Put messages into the outbox."""
    if not messages:
        return None
    number = tables.next_number(OUTBOX)
    await transaction.insert(OUTBOX, number, Segment(list(messages), now))
    return number
