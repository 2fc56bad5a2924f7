"""`jml bench audit`: the audit log alone, on the disk that it would be on.

Entries go in as the auditor gets them, in batches, under checkpoints as often as in production. The floor is a bare
file with the same bytes: append, fsync, SHA-256. Then the verifier reads all of it, and one entry is proved.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

from orchestrator.adapters.audit_log import TiledLog
from orchestrator.adapters.audit_verify import prove, verify
from orchestrator.adapters.clock import SystemClock
from orchestrator.domain.sealing import Subject
from orchestrator.domain.signed_note import generate_key
from orchestrator.domain.tlog import HISTORY, split_history
from orchestrator.flows.audit import AuditorEntries
from orchestrator.flows.audit_writer import AuditWriter, Entry
from schemas.audit import AuditKind

BATCH = 2000
"""So many records the auditor takes at once."""
Progress = Callable[[str, int, int], None]


@dataclass
class _Watch:
    """Wall and CPU seconds of what is measured, without what lies between."""

    wall: float = 0.0
    cpu: float = 0.0
    _began: tuple[float, float] = field(default=(0.0, 0.0))

    def __enter__(self) -> None:
        self._began = (time.perf_counter(), time.process_time())

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]


async def bench_audit(folder: Path | None, *, entries: int, progress: Progress) -> dict[str, Any]:
    """Measure in a folder below `folder`, which is removed afterwards."""
    place = Path(tempfile.mkdtemp(prefix="jml-bench-", dir=folder))
    try:
        floor, size = await asyncio.to_thread(_floor, place / "floor", entries, progress)
        (place / "floor").unlink()
        return await _measure(place / "audit", entries, progress) | {
            "floor_append_per_second": round(entries / floor.wall),
            "floor_append_per_cpu_second": round(entries / floor.cpu),
            "entry_bytes": round(size / entries),
        }
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def _measure(folder: Path, entries: int, progress: Progress) -> dict[str, Any]:
    clock, key = SystemClock(), generate_key("bench/audit")
    log = TiledLog(folder, key, AuditorEntries(AuditWriter("auditor", clock.now()), clock), {"origin": key.name})
    appending, done = _Watch(), 0
    resident: list[float] = []
    for batch in _batches(entries):
        with appending:
            await log.append(batch)
            await log.checkpoint()
        done += len(batch)
        if done * 10 >= entries and not resident:
            resident.append(_resident())
        progress("append", done, entries)
    with appending:
        await log.close()
    resident.append(_resident())
    verifying, proving = _Watch(), _Watch()
    with verifying:
        verdict = verify(folder, [key.verifier], progress=lambda seen, total: progress("verify", seen, total))
    if not verdict.good:
        raise AssertionError(verdict.summary)
    resident.append(_resident())
    with proving:
        made = prove(folder, str(entries // 2))
    return {
        "bench": "audit",
        "entries": entries,
        "append_per_second": round(entries / appending.wall),
        "append_per_cpu_second": round(entries / appending.cpu),
        "verify_per_second": round(entries / verifying.wall),
        "verify_per_cpu_second": round(entries / verifying.cpu),
        "checkpoints": sum(1 for _ in split_history((folder / HISTORY).read_bytes())),
        "proof_tile_reads": made.tile_reads,
        "proof_milliseconds": round(proving.wall * 1000, 2),
        "resident_megabytes": dict(zip(("tenth", "appended", "verified"), resident, strict=True)),
    }


def _floor(path: Path, entries: int, progress: Progress) -> tuple[_Watch, int]:
    watch, done, size = _Watch(), 0, 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        for batch in _batches(entries):
            with watch:
                for record in batch:
                    sha256(record).digest()
                data = b"".join(batch)
                os.write(descriptor, data)
                os.fsync(descriptor)
            done, size = done + len(batch), size + len(data)
            progress("floor", done, entries)
    finally:
        os.close(descriptor)
    return watch, size


def _batches(entries: int) -> Iterator[list[bytes]]:
    """Intents and outcomes as a connector writes them; half a kilobyte each, made while they are needed."""
    clock = SystemClock()
    writer = AuditWriter("connector.bench", clock.now())
    for start in range(0, entries, BATCH):
        now = clock.now()
        batch = [
            Entry(
                AuditKind.COMMAND_APPLIED if number % 2 else AuditKind.CALL_INTENDED,
                now,
                "connector",
                Subject(f"{number // 2:032x}", None),
                app="directory",
                revision=1,
                event_id=f"hr/bench#{number // 2}",
                correlation_id=f"{number // 2:032x}",
                policy="0123456789abcdef",
                details={"state": "active", "calls": [["POST", 201], ["GROUPS", 2, 0]]} if number % 2 else None,
            )
            for number in range(start, min(start + BATCH, entries))
        ]
        yield [message.value for message in writer.stamp(batch)]
        writer.saved(len(batch))


def _resident() -> float:
    return round(psutil.Process().memory_info().rss / 1e6, 1)
