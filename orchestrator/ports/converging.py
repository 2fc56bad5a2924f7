"""What the connector needs of the store."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestrator.domain.account import Account, Progress
from orchestrator.domain.health import ApplicationHealth
from orchestrator.domain.person import Person
from schemas.envelope import Message


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """What the connector learned about one account, to be saved only if nothing newer was saved before.

    `progress.version` is the one the connector started from: the fence. `attention_at` is when the relay should have
    the account looked at again; None when nothing is open.
    """

    person_id: str
    progress: Progress
    attention_at: datetime | None
    appeared: bool = False
    """Whether the account has an id in the application that it did not have before: others may refer to it."""
    linked: str | None = None
    """The id by which the account was linked to the one of `progress.refers_to`; None when that had none yet."""


class ConvergeTransaction(Protocol):
    """One group commit of a connector."""

    async def lock(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Lock these accounts, in id order; returns each one's fence (version) and desired revision."""
        ...

    async def save(
        self, app: str, updates: Sequence[ProgressUpdate], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Write the updates, raising each version by one; returns the id of the outbox segment."""
        ...

    async def remote_ids(self, app: str, person_ids: Sequence[str]) -> dict[str, str | None]:
        """The ids in the application of these accounts, which `lock` has locked."""
        ...

    async def look_again(self, app: str, referred: Sequence[str], *, now: datetime) -> None:
        """Have those accounts looked at that are done and refer to one of `referred`, whose id is new."""
        ...


class ConvergeStore(Protocol):
    """What the connector needs of the store. All methods raise StoreUnavailable."""

    async def load(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[Account, Progress]]:
        """These accounts, desired and known side; those without a row are absent."""
        ...

    async def holders(self, app: str, remote_ids: Sequence[str]) -> dict[str, str]:
        """Who has these accounts of the application on record, by their ids."""
        ...

    async def person(self, person_id: str) -> Person | None:
        """Everything stated of a person; None for one that no event ever named."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[ConvergeTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...

    async def group_ids(self, app: str, names: Sequence[str]) -> dict[str, str]:
        """The ids of groups that are known in the application."""
        ...

    async def save_group_id(self, app: str, name: str, remote_id: str | None) -> None:
        """Remember a group's id; None forgets it, because the application no longer has it."""
        ...

    async def claim_group(self, app: str, name: str, *, now: datetime, until: datetime) -> bool:
        """Whether this process may create the group now; somebody else's claim holds until it runs out."""
        ...

    async def save_health(self, app: str, health: ApplicationHealth) -> None:
        """Remember how the application as a whole is doing, for operators and for the next start."""
        ...

    async def load_health(self, apps: Sequence[str]) -> dict[str, ApplicationHealth]:
        """What was remembered last of these applications; one of which nothing is known is absent."""
        ...
