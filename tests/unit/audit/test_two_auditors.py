"""Processes that write one audit log after each other, or at once: only one does."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.audit_log import entries_end
from orchestrator.errors import AuditLogTaken
from tests.audit_log import entries, entry, good, held, write_log, writer

ROOT = Path(__file__).parents[3]


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.audit_log import entries, writer

async def main(folder, count):
    log = writer(folder, most_pending=700)
    print("ready", flush=True)
    for start in range(1, count, 40):
        await log.append(entries(40, start))
        print(start, flush=True)
        if start % 3 == 0:
            await log.checkpoint(now=True)
    await log.close()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def child(folder: Path, count: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD, str(folder), str(count)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)


def lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert process.stdout is not None
    yield from process.stdout


def test_a_process_that_is_killed_again_and_again_writes_one_log(tmp_path: Path) -> None:
    count = 20_000
    for kill_after in (1, 40):
        with child(tmp_path, count) as process:
            for number, _ in enumerate(lines(process)):
                if number == kill_after:
                    process.kill()
        good(tmp_path)
    with child(tmp_path, 3_000) as process:
        assert b"2961\n" in list(lines(process))
    found = held(tmp_path)
    assert found[:3000] == entries(3000)
    assert len(found) == len(set(found))
    good(tmp_path)


def test_an_auditor_that_sleeps_keeps_others_out_and_one_that_is_dead_does_not(tmp_path: Path) -> None:
    with child(tmp_path, 1_000_000) as process:
        for number, _ in enumerate(lines(process)):
            if number == 10:
                process.send_signal(signal.SIGSTOP)
                break
        while b"stopped" not in Path(f"/proc/{process.pid}/status").read_bytes():
            time.sleep(0.01)
        size = entries_end(tmp_path)
        with pytest.raises(AuditLogTaken, match="another process holds the audit log"):
            write_log(tmp_path, [[entry(1, writer="other")]])
        assert entries_end(tmp_path) == size
        process.kill()
    write_log(tmp_path, [[entry(1, writer="other")]])
    assert held(tmp_path)[-1] == entry(1, writer="other")
    good(tmp_path)


@pytest.mark.parametrize("signed_too", [False, True])
async def test_without_locks_whoever_wakes_up_notices_that_another_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed_too: bool
) -> None:
    """A shared disk may know no locks. The first one then reads the log again before it goes on."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    first, second = writer(tmp_path), writer(tmp_path)
    await first.append(entries(10))
    await second.append(entries(15))
    if signed_too:
        await second.checkpoint(now=True)
    with pytest.raises(AuditLogTaken, match="another process wrote"):
        await first.append([entry(16)])
    await first.append([entry(16)])
    with pytest.raises(AuditLogTaken, match="another process wrote"):
        await second.append([entry(17)])
    await second.append([entry(17)])
    assert held(tmp_path) == entries(17)
    with pytest.raises(AuditLogTaken, match="another process wrote"):
        await first.close()
    await second.close()
    good(tmp_path)
