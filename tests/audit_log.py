"""Audit logs for tests: entries, a key, and the writer as the auditor uses it."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from orchestrator.adapters.audit_log import TiledLog, read_entries
from orchestrator.adapters.audit_verify import verify
from orchestrator.domain.audit_checks import EntryChecks, Findings
from orchestrator.domain.signed_note import ED25519, SigningKey
from orchestrator.flows.audit import AuditorEntries
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.testing.clock import ManualClock

NOW = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)
KEY = SigningKey("audit.example.com/jml", ED25519, bytes(range(32)))
OTHER_KEY = SigningKey("audit.example.com/jml", ED25519, bytes(range(1, 33)))
CONFIGURATION = {"origin": KEY.name, "key": str(KEY.verifier), "dir": "audit", "witnesses": []}


def entry(
    sequence: int,
    kind: str = "timer_set",
    *,
    writer: str = "resolver@host-1-abc",
    epoch: int = 1,
    at: datetime | None = None,
    **fields: Any,
) -> bytes:
    """A record as a role writes it."""
    moment = at or NOW + timedelta(seconds=sequence)
    body = {
        "id": f"{writer}/{epoch}/{sequence}",
        "writer": writer,
        "epoch": epoch,
        "sequence": sequence,
        "at": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "kind": kind,
        "actor": "hr/example",
        **fields,
    }
    return orjson.dumps(body)


def entries(count: int, first: int = 1) -> list[bytes]:
    """Records of one writer, numbered from `first`."""
    return [entry(number) for number in range(first, first + count)]


def writer(
    folder: Path, key: SigningKey = KEY, configuration: Mapping[str, Any] | None = None, **settings: Any
) -> TiledLog:
    """A writer as the auditor makes one."""
    own = AuditorEntries(AuditWriter("auditor", NOW), ManualClock(NOW))
    return TiledLog(folder, key, own, CONFIGURATION if configuration is None else configuration, **settings)


def write_log(folder: Path, batches: Iterable[Iterable[bytes]], key: SigningKey = KEY) -> None:
    """A log with a checkpoint after each batch. Entry 0 is the auditor's own, about its configuration."""

    asyncio.run(write_batches(folder, batches, key))


async def write_batches(folder: Path, batches: Iterable[Iterable[bytes]], key: SigningKey = KEY) -> None:
    """The same on a loop that runs."""
    log = writer(folder, key)
    for batch in batches:
        await log.append(batch)
        await log.checkpoint(now=True)
    await log.close()


def held(folder: Path, start: int = 0) -> list[bytes]:
    """The entries of the roles that are in a log: not those that the auditor makes of itself."""
    found = [record for _, record in read_entries(folder, start)]
    return [record for record in found if b'"writer":"auditor@' not in record]


def good(folder: Path, *keys: SigningKey) -> None:
    """The verifier finds nothing wrong with a log."""
    verdict = verify(folder, [key.verifier for key in keys or (KEY,)])
    assert verdict.good, verdict.problems


def problems_later(records: Iterable[bytes]) -> list[str]:
    """What `jml audit verify` would find in these entries were they to stand hours later, with nothing after them but
    time: what was under way is over by then."""
    findings = Findings()
    checks = EntryChecks(findings)
    for position, record in enumerate(records):
        checks.see(position, record)
    assert checks.last is not None
    checks.last += timedelta(hours=5)
    checks.finish()
    return [str(problem) for problem in findings.problems]
