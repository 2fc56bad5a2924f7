"""auditor: every audit entry into the durable log, in the order of the one partition."""

import asyncio
from functools import partial

from orchestrator.adapters.audit_files import AuditFiles, read_entries
from orchestrator.adapters.kafka.consuming import Records, next_offsets
from orchestrator.adapters.sql.auditing import SqlAuditIndex
from orchestrator.bootstrap import Role, Runtime
from orchestrator.flows.audit import AuditFlow
from schemas.groups import AUDITOR
from schemas.topics import AUDIT_ENTRIES


def auditor(runtime: Runtime) -> Role:
    """Append batches of audit.entries to the log, then commit. One auditor writes; another one stands by."""
    folder = runtime.config.audit.dir
    files = AuditFiles(folder)
    audit = AuditFlow(files, SqlAuditIndex(runtime.database))
    idle = asyncio.Event()
    idle.set()

    async def handle(records: Records) -> None:
        idle.clear()
        try:
            await audit(records)
            await subscription.commit(next_offsets(records))
        finally:
            idle.set()

    subscription = runtime.consumers.subscribe((AUDIT_ENTRIES,), AUDITOR, handle, max_records=2000)

    async def start() -> None:
        """Read the log, and index what a crash left out of the index."""
        await asyncio.to_thread(files.open)
        await audit.catch_up(partial(read_entries, folder))

    async def stop() -> None:
        """Let the batch under way become durable."""
        await idle.wait()
        files.close()

    return Role("auditor", start, stop)
