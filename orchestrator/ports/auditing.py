"""The audit log and its index."""

from collections.abc import Iterable, Sequence
from typing import Protocol


class AuditLog(Protocol):
    """The durable log the auditor appends to."""

    async def append(self, records: Iterable[bytes]) -> list[tuple[int, bytes]]:
        """Append those entries that are not in the log yet; returns them with their positions once they are durable."""
        ...


class CheckpointedLog(Protocol):
    """The same log, as whoever signs it sees it."""

    async def checkpoint(self, *, now: bool = False) -> bytes | None:
        """Sign what no checkpoint covers yet, if that is due or wanted `now`.

        Returns the newest checkpoint, which is durable, unless it was returned before. Raises AuditLogTaken, OSError.
        """
        ...


class Witness(Protocol):
    """Somebody else who sees every checkpoint and signs it only if it continues the last one."""

    name: str

    async def cosign(self, note: bytes) -> None:
        """Have a checkpoint signed, and keep the signature. Raises WitnessUnavailable, WitnessRefused."""
        ...


class AuditIndex(Protocol):
    """The searchable copy of the log."""

    async def next_position(self) -> int:
        """The position after the last one that is indexed."""
        ...

    async def add(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """Index entries by their positions, each once. Raises StoreUnavailable."""
        ...
