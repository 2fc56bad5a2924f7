"""A writer of the audit log that dies or finds the disk full, at any instruction: one tree, and nothing lost."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.audit_log.files import DurableFolder
from orchestrator.domain.tlog import CHECKPOINT, HISTORY, split_history
from tests.audit_log import entries, good, held, writer


class Died(BaseException):
    """The process is gone."""


class Fuse:
    """Lets the process die at its n-th operation on the disk, in the middle of a write; or lets the disk fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failure: Callable[[], BaseException]) -> None:
        self._failure = failure
        self.left = -1
        self.burnt = False
        for name in ("write", "open"):
            self._wrap(monkeypatch, os, name, getattr(os, name))
        # It dies and the machine lives on: what a flush would do does not matter, when it comes does.
        self._wrap(monkeypatch, os, "fsync", lambda _: None)
        for name in ("replace", "unlink", "mkdir"):
            self._wrap(monkeypatch, Path, name, getattr(Path, name))

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, real: Any) -> None:
        def operation(*arguments: Any, **options: Any) -> Any:
            if self.left == 0:
                self.left, self.burnt = -1, True
                if name == "write":
                    descriptor, data = arguments
                    real(descriptor, bytes(data)[: len(data) // 2])
                raise self._failure()
            self.left -= 1
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, operation)


async def run(folder: Path, batches: list[list[bytes]]) -> None:
    log = writer(folder, most_pending=150)
    for number, batch in enumerate(batches):
        await log.append(batch)
        if number % 2:
            await log.checkpoint(now=True)
    await log.close()


def read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


BATCHES = [entries(90, 1 + 90 * number) for number in range(3)]


async def test_it_may_die_at_any_instruction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was told to be appended is there once, and no two trees of one size were ever signed."""
    fuse = Fuse(monkeypatch, Died)
    step = 0
    while True:
        folder = tmp_path / str(step)
        fuse.left, fuse.burnt = step, False
        with contextlib.suppress(Died):
            await run(folder, BATCHES)
        fuse.left = -1
        if not fuse.burnt:
            break
        signed_before = set(split_history(read(folder / HISTORY))) | ({read(folder / CHECKPOINT)} - {b""})
        await run(folder, [[*BATCHES[0], *BATCHES[1]], *BATCHES])
        assert sorted(held(folder)) == sorted(record for batch in BATCHES for record in batch), f"step {step}"
        signed_after = set(split_history((folder / HISTORY).read_bytes()))
        assert signed_before <= signed_after, f"step {step}"
        assert len({note.split(b"\n")[1] for note in signed_after}) == len(signed_after), f"two trees at step {step}"
        good(folder)
        step += 1
    assert step > 60, "there were operations to die at"


async def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and goes on when there is room again, in the same process and without a word from anybody."""
    fuse = Fuse(monkeypatch, lambda: OSError(errno.ENOSPC, "No space left on device"))
    step = 0
    while True:
        folder = tmp_path / str(step)
        log = writer(folder, most_pending=150)
        fuse.left, fuse.burnt = step, False
        for batch in BATCHES:
            for _ in range(2):
                try:
                    await log.append(batch)
                    await log.checkpoint(now=True)
                    break
                except OSError as error:
                    assert error.errno == errno.ENOSPC
        fuse.left = -1
        if not fuse.burnt:
            break
        await log.checkpoint(now=True)
        await log.close()
        assert held(folder) == [record for batch in BATCHES for record in batch]
        good(folder)
        step += 1
    assert step > 40


def test_a_file_is_the_old_one_or_the_new_one_and_nothing_between(tmp_path: Path) -> None:
    """Whoever has it open goes on reading the old one: it is never written into."""
    disk = DurableFolder(tmp_path / "log")
    disk.prepare()
    disk.write({"a/b": b"old"})
    with (tmp_path / "log" / "a" / "b").open("rb", buffering=0) as reader:
        disk.write({"a/b": b"a new one", "a/c": b"too"})
        assert reader.read() == b"old"
    assert (disk.read("a/b"), disk.read("a/c"), disk.read("a/d")) == (b"a new one", b"too", None)
    assert list((tmp_path / "log" / ".tmp").iterdir()) == []
