"""The writer of the audit log: each entry once, durable before it counts, one tree wherever it dies."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.adapters.audit_log import entries_end, latest_checkpoint, read_entries, writing
from orchestrator.adapters.audit_log.files import DurableFolder
from orchestrator.adapters.audit_log.seen import SNAPSHOT, Seen, load_snapshot
from orchestrator.adapters.audit_verify import verify
from orchestrator.domain.signed_note import SigningKey
from orchestrator.domain.tlog import (
    CHECKPOINT,
    HISTORY,
    MAX_ENTRY_BYTES,
    REJECTED,
    bundle_path,
    encode_frame,
    journal_path,
    split_history,
    tile_path,
)
from orchestrator.errors import AuditLogDamaged, AuditLogTaken
from tests.audit_log import CONFIGURATION, KEY, OTHER_KEY, entries, entry, write_batches, write_log, writer
from tests.forge import forge, put, signed

ROOT = Path(__file__).parents[3]


def held(folder: Path, start: int = 0) -> list[bytes]:
    """The entries of the roles: not those that the auditor makes of itself."""
    found = [record for _, record in read_entries(folder, start)]
    return [record for record in found if b'"writer":"auditor@' not in record]


def kinds(folder: Path) -> list[str]:
    return [orjson.loads(record)["kind"] for _, record in read_entries(folder)]


def good(folder: Path, *keys: SigningKey) -> None:
    verdict = verify(folder, [key.verifier for key in keys or (KEY,)])
    assert verdict.good, verdict.problems


# --- what it writes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 513, 1000])
def test_a_log_of_any_size_is_read_back_and_good(tmp_path: Path, count: int) -> None:
    records = entries(count)
    write_log(tmp_path, [records[start : start + 100] for start in range(0, count, 100)] or [[]])
    assert held(tmp_path) == records
    assert held(tmp_path, 1 + count // 2) == records[count // 2 :]
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert (latest.origin, latest.key, latest.size) == (KEY.name, KEY.name, entries_end(tmp_path))
    assert latest.note == signed([record for _, record in read_entries(tmp_path)])
    good(tmp_path)


def test_the_files_are_those_of_tlog_tiles(tmp_path: Path) -> None:
    """Partial tiles go when full ones have come."""
    write_log(tmp_path, [entries(99), entries(200, 100)])
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("tile/**/*") if path.is_file()) == [
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ]
    assert [note.split(b"\n")[1] for note in split_history((tmp_path / HISTORY).read_bytes())] == [b"100", b"300"]


async def test_entries_are_there_before_a_checkpoint_covers_them(tmp_path: Path) -> None:
    log = writer(tmp_path)
    appended = await log.append(entries(5))
    assert [position for position, _ in appended] == [0, 1, 2, 3, 4, 5]
    assert latest_checkpoint(tmp_path) is None
    assert held(tmp_path) == entries(5)
    assert await log.checkpoint() is None, "it is not due yet"
    note = await log.checkpoint(now=True)
    assert note == (tmp_path / CHECKPOINT).read_bytes()
    assert await log.checkpoint(now=True) is None, "it was told, and nothing is new"
    assert await log.append(entries(3, 6)) == [(n, entry(n)) for n in (6, 7, 8)]
    assert held(tmp_path) == entries(8)
    await log.close()
    good(tmp_path)


async def test_a_checkpoint_is_due_when_it_is_idle_and_at_the_latest_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: moment)
    log = writer(tmp_path)
    await log.append(entries(1))
    moment += writing.IDLE_SECONDS - 0.01
    assert await log.checkpoint() is None
    moment += 0.02
    assert await log.checkpoint() is not None
    began = moment
    for number in range(2, 100):
        await log.append([entry(number)])
        moment += writing.IDLE_SECONDS / 2
        if await log.checkpoint() is not None:
            break
    assert moment - began <= writing.EVERY_SECONDS + writing.IDLE_SECONDS < 10
    await log.close()


async def test_a_checkpoint_is_made_when_many_wait(tmp_path: Path) -> None:
    log = writer(tmp_path, most_pending=300)
    await log.append(entries(200))
    assert latest_checkpoint(tmp_path) is None
    await log.append(entries(200, 201))
    assert (latest := latest_checkpoint(tmp_path)) is not None
    assert latest.size == 401
    assert await log.checkpoint() == latest.note, "whoever publishes is told"
    await log.close()


# --- each entry once ----------------------------------------------------------------------------------------------


async def test_entries_come_twice_and_out_of_order_and_are_there_once(tmp_path: Path) -> None:
    records = entries(20)
    shuffled = [*records[10:], *records[:12], records[3], *records]
    log = writer(tmp_path)
    await log.append(shuffled[:9])
    await log.append(shuffled)
    await log.close()
    again = writer(tmp_path)
    assert await again.append(records) == []
    await again.close()
    assert held(tmp_path) == [*records[10:], *records[:10]]
    good(tmp_path)


@pytest.mark.parametrize("snapshot", ["there", "lost", "damaged", "of another log"])
async def test_a_new_process_knows_what_is_there(tmp_path: Path, snapshot: str) -> None:
    await write_batches(tmp_path, [entries(300)])
    if snapshot == "lost":
        (tmp_path / SNAPSHOT).unlink()
    elif snapshot == "damaged":
        (tmp_path / SNAPSHOT).write_bytes((tmp_path / SNAPSHOT).read_bytes().replace(b"300", b"299"))
    elif snapshot == "of another log":
        (tmp_path / SNAPSHOT).write_bytes(Seen().snapshot(100, bytes(32)))
    log = writer(tmp_path)
    assert await log.append([*entries(300), entry(301)]) == [(301, entry(301))]
    await log.close()
    good(tmp_path)


def test_a_snapshot_holds_numbers_and_not_entries() -> None:
    seen = Seen()
    for sequence in [*range(2, 10_000), *range(20_000, 30_000)]:
        assert seen.add("w", 1, sequence)
    assert not seen.add("w", 1, 25_000)
    assert seen.add("w", 2, 1)
    data = seen.snapshot(5, bytes(32))
    assert len(data) < 300
    again, size, root = load_snapshot(data)
    assert (size, root) == (5, bytes(32))
    assert not again.add("w", 1, 9_999)
    assert again.add("w", 1, 1)
    assert again.add("w", 1, 10_000)
    assert load_snapshot(data.replace(b"9999", b"9998"))[1] == 0


# --- records that are no entries ----------------------------------------------------------------------------------


BAD = {
    "undecodable": b"\xff{",
    "invalid": orjson.dumps({"id": "a/1/1", "writer": "a", "epoch": 1, "sequence": 1, "kind": "timer_set"}),
    "too_large": entry(3, details={"note": "x" * MAX_ENTRY_BYTES}),
}


async def test_what_is_no_entry_is_kept_aside_and_stops_nothing(tmp_path: Path) -> None:
    records = [entry(1), BAD["undecodable"], entry(2), BAD["too_large"], BAD["invalid"], entry(4)]
    log = writer(tmp_path)
    await log.append(records)
    assert await log.append(records) == [], "a record that comes again is rejected once"
    await log.close()
    again = writer(tmp_path)
    assert await again.append(records) == []
    await again.close()
    assert held(tmp_path) == [entry(1), entry(2), entry(4)]
    kept = [orjson.loads(line) for line in (tmp_path / REJECTED).read_bytes().splitlines()]
    assert {one["code"]: one["record"].encode("latin-1") for one in kept} == BAD
    verdict = verify(tmp_path, [KEY.verifier])
    assert verdict.good, "the number of the one that was too large is accounted for"
    assert "3 records could not become entries" in verdict.notes[0]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "other"},
        {"sequence": 0},
        {"sequence": True},
        {"sequence": "1"},
        {"epoch": None},
        {"writer": ""},
        {"kind": "Made Up"},
        {"at": "2026-03-02T08:15:00"},
        {"at": 7},
    ],
)
async def test_an_entry_without_its_number_or_time_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    log = writer(tmp_path)
    await log.append([orjson.dumps({**orjson.loads(entry(1)), **change})])
    await log.close()
    assert held(tmp_path) == []
    assert kinds(tmp_path) == ["audit_configured", "entry_rejected"]


async def test_a_kind_of_a_newer_version_is_an_entry(tmp_path: Path) -> None:
    log = writer(tmp_path)
    await log.append([entry(1, "something_new")])
    await log.close()
    assert held(tmp_path) == [entry(1, "something_new")]
    good(tmp_path)


# --- how audit is configured is audited ---------------------------------------------------------------------------


async def test_a_change_of_how_audit_is_configured_is_an_entry(tmp_path: Path) -> None:
    changed = {**CONFIGURATION, "key": str(OTHER_KEY.verifier)}
    for key, configuration in ((KEY, CONFIGURATION), (KEY, CONFIGURATION), (OTHER_KEY, changed), (OTHER_KEY, changed)):
        log = writer(tmp_path, key, configuration)
        await log.append([])
        await log.close()
    assert kinds(tmp_path) == ["audit_configured"] * 2
    assert [orjson.loads(record)["details"]["key"] for _, record in read_entries(tmp_path)] == [
        str(KEY.verifier),
        str(OTHER_KEY.verifier),
    ]
    assert (tmp_path / "key.pub").read_text() == f"{KEY.verifier}\n{OTHER_KEY.verifier}\n"
    good(tmp_path, KEY, OTHER_KEY)


# --- dying --------------------------------------------------------------------------------------------------------


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


# --- two auditors -------------------------------------------------------------------------------------------------


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


# --- what it refuses to continue ----------------------------------------------------------------------------------


def old_checkpoint(folder: Path) -> None:
    """Put back the checkpoint of an earlier state; the history remembers."""
    first = next(split_history((folder / HISTORY).read_bytes()))
    (folder / journal_path(301)).unlink()
    put(folder, CHECKPOINT, first)
    (folder / tile_path(0, 1, 45)).unlink()


def no_checkpoint(folder: Path) -> None:
    (folder / CHECKPOINT).unlink()


def forged_checkpoint(folder: Path) -> None:
    put(folder, CHECKPOINT, (folder / CHECKPOINT).read_bytes().replace(b"301", b"300"))


def changed_tile(folder: Path) -> None:
    data = bytearray((folder / tile_path(0, 1, 45)).read_bytes())
    data[3] ^= 1
    put(folder, tile_path(0, 1, 45), bytes(data))


def missing_tile(folder: Path) -> None:
    (folder / tile_path(1, 0, 1)).unlink()


def changed_entry(folder: Path) -> None:
    data = (folder / bundle_path(1, 45)).read_bytes()
    put(folder, bundle_path(1, 45), data.replace(b"timer_set", b"timer_sat"))


def another_tree_in_the_journal(folder: Path) -> None:
    """A checkpoint was signed over entries that are not those that are there now."""
    history = (folder / HISTORY).read_bytes()
    put(folder, HISTORY, history + KEY.sign(f"{KEY.name}\n303\n{'A' * 43}=\n").encode() + b"\n")
    put(folder, journal_path(301), encode_frame(301, entries(2, 301)))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (old_checkpoint, "an old state was put back|damaged or missing"),
        (no_checkpoint, "a checkpoint of 301 was signed: an old state was put back"),
        (forged_checkpoint, "the signature of audit.example.com/jml is forged"),
        (changed_tile, "do not have"),
        (missing_tile, "damaged or missing"),
        (changed_entry, "the last entries .* are not those"),
        (another_tree_in_the_journal, "not those of the last checkpoint that was signed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_it_signs_nothing_over_files_that_contradict_each_other(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    write_log(tmp_path, [entries(100), entries(200, 101)])
    damage(tmp_path)
    before = (tmp_path / HISTORY).read_bytes()
    with pytest.raises(AuditLogDamaged, match=reason):
        write_log(tmp_path, [[entry(301)]])
    assert (tmp_path / HISTORY).read_bytes() == before


def test_an_old_state_put_back_as_a_whole_is_noticed_by_its_history(tmp_path: Path) -> None:
    forge(tmp_path, entries(100))
    put(tmp_path, HISTORY, (tmp_path / HISTORY).read_bytes() + signed(entries(200)) + b"\n")
    with pytest.raises(AuditLogDamaged, match="a checkpoint of 200 was signed: an old state was put back"):
        write_log(tmp_path, [[entry(101)]])


def test_a_log_keeps_its_origin(tmp_path: Path) -> None:
    write_log(tmp_path, [entries(3)])
    with pytest.raises(AuditLogDamaged, match="a log keeps its origin for ever"):
        write_log(tmp_path, [[]], SigningKey("other.example.com/jml", 1, bytes(32)))


def test_it_goes_on_from_a_log_made_by_the_formats_alone(tmp_path: Path) -> None:
    forge(tmp_path, entries(300), sizes=(10, 256), journal=entries(5, 301))
    write_log(tmp_path, [entries(310)])
    assert held(tmp_path) == entries(310)
    good(tmp_path)


def test_a_damaged_bundle_is_one_line_for_whoever_reads(tmp_path: Path) -> None:
    write_log(tmp_path, [entries(300)])
    path = tmp_path / bundle_path(0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AuditLogDamaged, match=r"tile/entries/000 is damaged: .*jml audit verify"):
        list(read_entries(tmp_path))
    assert len(list(read_entries(tmp_path, 256))) == 45


def test_whoever_reads_by_an_older_checkpoint_finds_its_entries_in_the_full_files(tmp_path: Path) -> None:
    """A writer that is at work fills bundles and tiles, and removes the partial ones that a reader is about to read."""
    write_log(tmp_path, [entries(299)])
    older = (tmp_path / CHECKPOINT).read_bytes()
    write_log(tmp_path, [entries(300, 300)])
    put(tmp_path, CHECKPOINT, older)
    assert held(tmp_path) == entries(299)
    verdict = verify(tmp_path, [KEY.verifier])
    checks = {problem.check for problem in verdict.problems}
    assert checks == {"newest", "cut"}, "but for what was signed since, all is there"
    assert verdict.entries == 300
