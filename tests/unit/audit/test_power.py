"""The machine loses its power: what was told to be appended or signed is on the disk, by what was flushed alone."""

import os
import stat
from pathlib import Path

import pytest

from orchestrator.domain.tlog import CHECKPOINT, HISTORY
from tests.audit_log import entries, good, held, writer


class Disk:
    """Remembers what was flushed: of each file its contents, of each folder its names, as they were at that moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self._root = root
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, list[tuple[str, int, bool]]] = {}
        self._held: list[int] = []
        self.flushes = 0
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, descriptor: int) -> None:
        self.flushes += 1
        place = os.fstat(descriptor)
        if stat.S_ISDIR(place.st_mode):
            with os.scandir(descriptor) as found:
                self._names[place.st_ino] = [(one.name, one.inode(), one.is_dir()) for one in found]
        else:
            self._contents[place.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()
        self._held.append(os.dup(descriptor))  # so that no other file gets the number

    def after_the_cut(self, folder: Path) -> Path:
        """What is found when the power is back: unflushed names are gone, unflushed bytes too."""
        self._restore(self._root.stat().st_ino, folder)
        return folder

    def _restore(self, number: int, target: Path) -> None:
        target.mkdir(parents=True)
        for name, inner, is_folder in self._names.get(number, []):
            if is_folder:
                self._restore(inner, target / name)
            else:
                (target / name).write_bytes(self._contents.get(inner, b""))

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in self._held:
            os.close(descriptor)


async def test_what_was_told_is_there_when_the_power_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, tmp_path / "disk")
    (tmp_path / "disk").mkdir()
    log = writer(tmp_path / "disk" / "audit", most_pending=300)
    told: list[bytes] = []
    for number in range(12):
        batch = entries(60, 1 + 60 * number)
        await log.append([*batch, b"no entry"])
        told += batch
        note = await log.checkpoint(now=True) if number % 3 == 2 else None
        found = disk.after_the_cut(tmp_path / f"after {number}") / "audit"
        assert held(found) == told, f"after batch {number}"
        if note is not None:
            assert (found / CHECKPOINT).read_bytes() == note
            assert note in (found / HISTORY).read_bytes()
        good(found)
        again = writer(found)
        await again.append(batch)
        await again.close()
        assert held(found) == told
    await log.close()
    disk.close()
    assert disk.flushes > 50
