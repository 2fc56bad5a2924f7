"""auditor: every audit entry into the durable log, in the order of the one partition, under signed checkpoints."""

import asyncio
import contextlib
from functools import partial

from orchestrator.adapters.audit_log import read_entries
from orchestrator.adapters.audit_log.ownership import BATCH_SECONDS, Ownership
from orchestrator.adapters.kafka.consuming import Records, next_offsets
from orchestrator.adapters.sql.auditing import SqlAuditIndex
from orchestrator.bootstrap import Role, Runtime
from orchestrator.flows.audit import AuditFlow
from schemas.groups import AUDITOR
from schemas.topics import AUDIT_ENTRIES

COMPANY_SECONDS = 0.25  # making a batch durable costs as much as hundreds of entries


def auditor(runtime: Runtime) -> Role:
    """Append batches of audit.entries to the log, then commit. One auditor writes; another one stands by."""
    audit_log, checkpoints = runtime.audit_log()
    read = partial(read_entries, runtime.config.audit.dir)
    audit = AuditFlow(audit_log, SqlAuditIndex(runtime.database))
    idle = asyncio.Event()
    idle.set()
    ownership = Ownership(audit_log, idle)
    signing: list[asyncio.Task[None]] = []
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def handle(records: Records) -> None:
        if ownership.ended or subscription.assignment().isdisjoint(offsets := next_offsets(records)):
            return  # they are for the next owner, and to append them would take the log away from that one
        idle.clear()
        try:
            if not ownership.current:
                ownership.current = True
                await audit.take_over(read)
            await audit(records)
            if not await subscription.commit(offsets) or ownership.ended:
                await ownership.let_go()
        finally:
            idle.set()

    subscription = runtime.consumers.subscribe(
        (AUDIT_ENTRIES,), AUDITOR, handle, listener=ownership, max_records=2000, company=COMPANY_SECONDS
    )

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failed.set_result(error)

    async def start() -> None:
        """Index what a crash left out of the index, and begin to sign what is appended."""
        await audit.catch_up(read)
        signing.append(asyncio.create_task(checkpoints.run(), name="checkpoints"))
        signing[0].add_done_callback(ended)

    async def stop() -> None:
        """Let the batch under way become durable, then sign it; one that waits for the store comes again."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(idle.wait(), BATCH_SECONDS)
        if signing and signing[0].cancel():
            await asyncio.wait(signing)
        ownership.ended = True
        await checkpoints.finish()
        await ownership.let_go()

    return Role("auditor", start, stop, (failed,))
