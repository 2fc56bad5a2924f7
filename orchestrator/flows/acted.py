"""What an operator's command saved goes out at once: the audit log has it within seconds, not within half a minute."""

from datetime import datetime, timedelta

from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.ports import OutboxStore, Publisher

MOST_SEGMENTS = 100
"""With more in the outbox the broker is behind, and the relay publishes them in their order."""
_JUST_NOW = timedelta(seconds=1)


async def publish_acted(store: OutboxStore, publisher: Publisher, writer: AuditWriter, now: datetime) -> int:
    """Publish what this writer left in the outbox; returns how many segments.

    Nothing depends on it: what it does not get done, the relay does. Raises StoreUnavailable, BrokerUnavailable.
    """
    waiting = await store.leftover(older_than=now + _JUST_NOW, limit=MOST_SEGMENTS)
    own = [(segment, messages) for segment, messages in waiting if any(map(writer.wrote, messages))]
    await publisher.publish([message for _, messages in own for message in messages])
    await store.published([segment for segment, _ in own])
    return len(own)
