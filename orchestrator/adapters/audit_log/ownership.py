"""One auditor writes, and who that is follows the one partition of the entries."""

import asyncio
import contextlib
from collections.abc import Iterable

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition

from orchestrator.adapters.audit_log.writing import TiledLog
from orchestrator.errors import AuditLogTaken

log = structlog.get_logger()

BATCH_SECONDS = 10


class Ownership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Whether what we know of the log still holds. Whoever gets the partition may stand behind another writer."""

    def __init__(self, audit_log: TiledLog, idle: asyncio.Event) -> None:
        self._log = audit_log
        self._idle = idle
        self.current = True
        self.ended = False  # the role: its consumer ends after it, and may bring another batch

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """The batch under way first: after this another auditor writes."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), BATCH_SECONDS)
        await self.let_go()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The log is read again before the first entry is appended."""
        await self.let_go()

    async def let_go(self) -> None:
        """Leave the log to others. What could not be signed is in the journal, for whoever comes next."""
        self.current = False
        try:
            await self._log.close()
        except (AuditLogTaken, OSError) as error:
            log.warning("audit_log_left_unsigned", reason=type(error).__name__)
