"""One reading of an application that ends in events: what becomes of each of its accounts, judged a batch at a time.

The import and the migration differ in how they judge; that, and nothing else, is theirs.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from orchestrator.flows.reconcile import Listing, batches
from schemas.changes import Change
from schemas.envelope import Envelope


class Judged(NamedTuple):
    """One account. `event` and `change` are there where its person is to be decided because of it."""

    fate: StrEnum
    account: str
    person_id: str | None = None
    reason: str = ""
    event: Envelope | None = None
    change: Change | None = None


class AccountEvents(ABC):
    """One reading; `counts` are by fate."""

    def __init__(self) -> None:
        self.counts: Counter[StrEnum] = Counter()

    @abstractmethod
    async def judge(self, rows: Sequence[Mapping[str, Any]]) -> list[Judged]:
        """What becomes of these accounts, each as the application shows it. Raises StoreUnavailable."""

    async def find(self, listing: Listing) -> AsyncIterator[list[Judged]]:
        """What becomes of every account, in batches; memory holds the ids and one batch."""
        async for rows in batches(listing):
            found = await self.judge(rows)
            self.counts.update(one.fate for one in found)
            yield found
