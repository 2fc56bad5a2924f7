"""Publishing a stream of messages from a command."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice

from orchestrator.cli import services
from orchestrator.config import Config
from schemas.envelope import Message

BATCH = 1000


async def publish(config: Config, messages: Iterable[Message]) -> dict[str, int]:
    """Publish all, in order per key; returns how many went to each topic. Raises BrokerUnavailable.

    In batches, so that memory does not grow with the input; each is confirmed before the next is read.
    """
    counts: Counter[str] = Counter()
    stream = iter(messages)
    async with services.publisher(config) as publisher:
        while batch := list(islice(stream, BATCH)):
            await publisher.publish(batch)
            counts.update(message.topic for message in batch)
    return dict(counts)
