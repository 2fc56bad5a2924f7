"""Reads all of `audit.entries`, in no group, and holds it against the log."""

from collections.abc import Collection, Iterator

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.domain.audit_checks import CHECKS, TOPIC, Check, Findings
from orchestrator.domain.audit_topic import TopicComparison
from orchestrator.errors import Unreachable
from schemas.topics import AUDIT_ENTRIES

FETCH_MS = 2000
MAX_RECORDS = 5000


async def compare_topic(
    bootstrap: str, log: Iterator[tuple[int, bytes]], checks: Collection[Check] = CHECKS
) -> tuple[Findings, int]:
    """What differs, and how many records the topic has. Raises Unreachable."""
    findings = Findings(checks)
    comparison = TopicComparison(findings, log)
    partition = TopicPartition(AUDIT_ENTRIES, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20
    )
    try:
        await consumer.start()
        consumer.assign([partition])
        first = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        if first > 0:
            findings.add(TOPIC, f"the topic begins at offset {first}: what was before it was deleted")
        await consumer.seek_to_beginning(partition)
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=FETCH_MS, max_records=MAX_RECORDS)).values():
                for record in records:
                    comparison.see(record.offset, record.value or b"")
    except (KafkaError, OSError) as error:
        raise Unreachable(f"Kafka at {bootstrap} does not answer: {type(error).__name__}") from error
    finally:
        await consumer.stop()
    comparison.finish()
    return findings, comparison.records
