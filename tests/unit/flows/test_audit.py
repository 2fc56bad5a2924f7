"""The auditor's flow: what is durable is indexed, whatever failed in between."""

import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from orchestrator.domain.retry import Backoff
from orchestrator.errors import AuditLogTaken, StoreUnavailable
from orchestrator.flows import audit
from orchestrator.flows.audit import AuditFlow
from tests.audit_log import entries


@dataclass
class Record:
    value: bytes | None
    topic: str = "audit.entries"
    partition: int = 0
    offset: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = 0


@dataclass
class Log:
    """A log whose next appends fail, after they did their work or before."""

    failures: list[tuple[str, Exception]] = field(default_factory=list)
    held: list[bytes] = field(default_factory=list)

    async def append(self, records: Iterable[bytes]) -> list[tuple[int, bytes]]:
        when, failure = self.failures.pop(0) if self.failures else ("never", None)
        if when == "before" and failure is not None:
            raise failure
        new = [record for record in records if record not in self.held]
        self.held += new
        if failure is not None:
            raise failure
        return list(enumerate(self.held))[len(self.held) - len(new) :]

    def read(self, start: int) -> Iterator[tuple[int, bytes]]:
        yield from enumerate(self.held[start:], start)


@dataclass
class Index:
    rows: list[tuple[int, bytes]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    async def next_position(self) -> int:
        return len(self.rows)

    async def add(self, entries: Sequence[tuple[int, bytes]]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.rows += entries


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_BACKOFF", Backoff(base=0, most=0))


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("failure", [FULL, AuditLogTaken("another process has it")])
async def test_entries_that_were_appended_by_a_failed_attempt_are_indexed(when: str, failure: Exception) -> None:
    log, index = Log(), Index()
    flow = AuditFlow(log, index)
    await flow.catch_up(log.read)
    await flow([Record(one) for one in entries(3)])
    log.failures = [(when, failure)] * 2
    await flow([Record(one) for one in entries(3, 4)])
    await flow([Record(one) for one in entries(3, 7)])
    assert index.rows == list(enumerate(entries(9)))


async def test_a_store_that_was_down_gets_all_of_the_batch() -> None:
    log, index = Log(), Index(failures=[StoreUnavailable("down")] * 2)
    flow = AuditFlow(log, index)
    await flow.catch_up(log.read)
    await flow([Record(one) for one in entries(3)])
    assert index.rows == list(enumerate(entries(3)))
