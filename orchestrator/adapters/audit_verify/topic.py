"""Reads all of `audit.entries` and `audit.checkpoints`, in no group, and holds them against the log."""

from collections.abc import Callable, Collection, Iterator, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.domain.audit_checks import CHECKS, PUBLISHED, TOPIC, Check, Findings
from orchestrator.domain.audit_topic import PublishedComparison, TopicComparison
from orchestrator.domain.signed_note import VerifierKey
from orchestrator.errors import Unreachable
from schemas.topics import AUDIT_CHECKPOINTS, AUDIT_ENTRIES

FETCH_MS = 2000
MAX_RECORDS = 5000


async def compare_topic(
    bootstrap: str, log: Iterator[tuple[int, bytes]], checks: Collection[Check] = CHECKS
) -> tuple[Findings, int]:
    """What differs, and how many records the topic has. Raises Unreachable."""
    findings = Findings(checks)
    comparison = TopicComparison(findings, log)
    if first := await _read(bootstrap, AUDIT_ENTRIES, comparison.see):
        findings.add(TOPIC, f"the topic begins at offset {first}: what was before it was deleted")
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

    Raises Unreachable.
    """
    findings = Findings(checks)
    comparison = PublishedComparison(findings, history, origin, keys)
    if first := await _read(bootstrap, AUDIT_CHECKPOINTS, comparison.see):
        findings.add(PUBLISHED, f"the topic of checkpoints begins at offset {first}: what was before it was deleted")
    comparison.finish()
    return findings, comparison.checkpoints


async def _read(bootstrap: str, topic: str, see: Callable[[int, bytes], None]) -> int:
    """Show all records that the topic has at this moment; returns the offset at which it begins."""
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20
    )
    try:
        await consumer.start()
        consumer.assign([partition])
        first = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        await consumer.seek_to_beginning(partition)
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=FETCH_MS, max_records=MAX_RECORDS)).values():
                for record in records:
                    see(record.offset, record.value or b"")
    except (KafkaError, OSError) as error:
        raise Unreachable(f"Kafka at {bootstrap} does not answer: {type(error).__name__}") from error
    finally:
        await consumer.stop()
    return int(first)
