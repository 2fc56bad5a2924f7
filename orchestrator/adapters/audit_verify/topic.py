"""Reads all of `audit.entries` and `audit.checkpoints`, in no group, and holds them against the log."""

from collections.abc import Callable, Collection, Iterator, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.domain.audit_checks import CHECKS, Check, Findings
from orchestrator.domain.audit_topic import PublishedComparison, TopicComparison
from orchestrator.domain.signed_note import VerifierKey
from orchestrator.errors import Unreachable, UserError
from schemas.topics import AUDIT_CHECKPOINTS, AUDIT_ENTRIES

FETCH_MS = 2000
MAX_RECORDS = 5000


async def compare_topic(
    bootstrap: str, log: Callable[[], Iterator[tuple[int, bytes]]], checks: Collection[Check] = CHECKS
) -> tuple[Findings, int]:
    """What differs, and how many records the topic has. `log` gives the log's entries as often as it is called.

    Raises Unreachable; UserError where there is no such topic.
    """
    findings = Findings(checks)
    comparison = TopicComparison(findings, log)
    await _read(bootstrap, AUDIT_ENTRIES, comparison)
    comparison.finish()
    return findings, comparison.records


async def compare_checkpoints(
    bootstrap: str,
    history: Callable[[], Iterator[bytes]],
    origin: str,
    keys: Sequence[VerifierKey],
    checks: Collection[Check] = CHECKS,
) -> tuple[Findings, int]:
    """Which checkpoints of the log `origin` were published and not kept, and how many were published at all.

    Raises Unreachable; UserError where there is no such topic.
    """
    findings = Findings(checks)
    comparison = PublishedComparison(findings, history, origin, keys)
    await _read(bootstrap, AUDIT_CHECKPOINTS, comparison)
    comparison.finish()
    return findings, comparison.checkpoints


async def _read(bootstrap: str, topic: str, comparison: TopicComparison | PublishedComparison) -> None:
    """Show it all records that the topic has at this moment."""
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20
    )
    try:
        await consumer.start()
        if topic not in await consumer.topics():
            raise UserError(
                f"Kafka at {bootstrap} has no topic {topic}: correct [kafka] bootstrap; if it is the right one, all"
                " that was published is gone"
            )
        consumer.assign([partition])
        comparison.begins((await consumer.beginning_offsets([partition]))[partition])
        end = (await consumer.end_offsets([partition]))[partition]
        await consumer.seek_to_beginning(partition)
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=FETCH_MS, max_records=MAX_RECORDS)).values():
                for record in records:
                    comparison.see(record.offset, record.value or b"")
    except (KafkaError, OSError) as error:
        raise Unreachable(f"Kafka at {bootstrap} does not answer: {type(error).__name__}") from error
    finally:
        await consumer.stop()
