"""auditor: every audit entry into the durable log, in the order of the one partition."""

import asyncio
import contextlib
from collections.abc import Iterable
from functools import partial

from aiokafka import ConsumerRebalanceListener, TopicPartition

from orchestrator.adapters.audit_files import AuditFiles, read_entries
from orchestrator.adapters.kafka.consuming import Records, next_offsets
from orchestrator.adapters.sql.auditing import SqlAuditIndex
from orchestrator.bootstrap import Role, Runtime
from orchestrator.flows.audit import AuditFlow
from schemas.groups import AUDITOR
from schemas.topics import AUDIT_ENTRIES

BATCH_SECONDS = 10


class _Ownership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Whether what we know of the log still holds. Whoever gets the partition may stand behind another writer."""

    def __init__(self, files: AuditFiles, idle: asyncio.Event) -> None:
        self._files = files
        self._idle = idle
        self.current = True

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """The batch under way first: after this another auditor writes."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), BATCH_SECONDS)
        self._forget()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The log is read again before the first entry is appended."""
        self._forget()

    def _forget(self) -> None:
        self._files.close()
        self.current = False


def auditor(runtime: Runtime) -> Role:
    """Append batches of audit.entries to the log, then commit. One auditor writes; another one stands by."""
    folder = runtime.config.audit.dir
    files = AuditFiles(folder)
    audit = AuditFlow(files, SqlAuditIndex(runtime.database))
    idle = asyncio.Event()
    idle.set()
    ownership = _Ownership(files, idle)

    async def handle(records: Records) -> None:
        idle.clear()
        try:
            if not ownership.current:
                ownership.current = True
                await audit.take_over(partial(read_entries, folder))
            await audit(records)
            await subscription.commit(next_offsets(records))
        finally:
            idle.set()

    subscription = runtime.consumers.subscribe((AUDIT_ENTRIES,), AUDITOR, handle, listener=ownership, max_records=2000)

    async def start() -> None:
        """Read the log, and index what a crash left out of the index."""
        await asyncio.to_thread(files.open)
        await audit.catch_up(partial(read_entries, folder))

    async def stop() -> None:
        """Let the batch under way become durable; one that waits for the store is given up and comes again."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(idle.wait(), BATCH_SECONDS)
        files.close()

    return Role("auditor", start, stop)
