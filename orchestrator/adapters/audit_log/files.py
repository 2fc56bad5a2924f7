"""Files that are on the disk, whole, when a call returns; or as they were before."""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TEMPORARY = ".tmp"
MANY = 16


class DurableFolder:
    """A folder in which files appear complete or not at all: write, fsync, rename, fsync the folders.

    Each that writes at the same time has a folder `temporary` of its own in it.
    """

    def __init__(self, folder: Path, temporary: str = TEMPORARY) -> None:
        self.folder = folder
        self._temporary = folder / temporary

    def make(self) -> None:
        """Make the folder, by a name that is durable as well."""
        changed: set[Path] = set()
        _make_parents(self.folder.absolute(), changed)
        for folder in sorted(changed):
            fsync_folder(folder)

    def prepare(self) -> None:
        """Make the folder; drop what a process that died was writing."""
        self.make()
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()

    def read(self, path: str) -> bytes | None:
        """The file's contents; None where there is none."""
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, files: Mapping[str, bytes], *, mode: int = 0o644) -> None:
        """Write all of them. Raises OSError; each is then as before or as wanted.

        All are written before the first is flushed: the file system then flushes most of them at once.
        """
        opened: list[tuple[int, Path, Path]] = []
        try:
            for number, (path, data) in enumerate(files.items()):
                temporary = self._temporary / str(number)
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
                opened.append((descriptor, temporary, self.folder / path))
                write_all(descriptor, data)
            _flush([descriptor for descriptor, _, _ in opened])
        finally:
            for descriptor, _, _ in opened:
                os.close(descriptor)
        changed: set[Path] = set()
        for _, temporary, target in opened:
            _make_parents(target.parent, changed)
            temporary.replace(target)
            changed.add(target.parent)
        for folder in sorted(changed):
            fsync_folder(folder)

    def append(self, path: str, data: bytes) -> None:
        """Append to a file, which is made where there is none. Raises OSError; a part may then be there."""
        target = self.folder / path
        new = not target.exists()
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            fsync_folder(target.parent)

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all in it. It may be there again after a crash."""
        target = self.folder / path
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                target.unlink()


def _flush(descriptors: Sequence[int]) -> None:
    """Flush files; many of them at once, because the file system commits together what waits together."""
    if len(descriptors) < MANY:
        for descriptor in descriptors:
            os.fsync(descriptor)
        return
    with ThreadPoolExecutor(MANY) as pool:
        list(pool.map(os.fsync, descriptors))


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it: one call may take a part only."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_parents(folder: Path, changed: set[Path]) -> None:
    if not folder.is_dir():
        _make_parents(folder.parent, changed)
        folder.mkdir(exist_ok=True)
        changed.update((folder, folder.parent))
