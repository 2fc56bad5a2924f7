"""The writer of the audit log: what it writes, each entry once, and what is no entry beside it."""

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.adapters.audit_log import entries_end, latest_checkpoint, read_entries, writing
from orchestrator.adapters.audit_log.seen import SNAPSHOT, Seen, load_snapshot
from orchestrator.adapters.audit_verify import verify
from orchestrator.domain.tlog import CHECKPOINT, HISTORY, MAX_ENTRY_BYTES, REJECTED, split_history
from tests.audit_log import CONFIGURATION, KEY, OTHER_KEY, entries, entry, good, held, write_batches, write_log, writer
from tests.forge import signed


def kinds(folder: Path) -> list[str]:
    return [orjson.loads(record)["kind"] for _, record in read_entries(folder)]


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
        *({"sequence": odd, "id": f"resolver@host-1-abc/1/{odd}"} for odd in (0, True, "1", None)),
        *({"epoch": odd, "id": f"resolver@host-1-abc/{odd}/1"} for odd in (None, "1", True)),
        *({"writer": odd, "id": f"{odd}/1/1"} for odd in ("", 7, None)),
        *({"kind": odd} for odd in ("Made Up", "", 7, None)),
        *({"at": odd} for odd in ("2026-03-02T08:15:00", "yesterday", 7, None)),
    ],
)
async def test_an_entry_without_its_number_or_time_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    log = writer(tmp_path)
    await log.append([orjson.dumps({**orjson.loads(entry(1)), **change})])
    await log.close()
    assert held(tmp_path) == []
    assert kinds(tmp_path) == ["audit_configured", "entry_rejected"]


async def test_the_largest_entry_is_one_and_what_is_no_object_is_none(tmp_path: Path) -> None:
    room = MAX_ENTRY_BYTES - len(entry(1, details={"note": ""}))
    largest = entry(1, details={"note": "x" * room})
    log = writer(tmp_path)
    await log.append([largest, entry(2, details={"note": "x" * (room + 1)}), b"[]", b"7", b"null"])
    await log.close()
    assert held(tmp_path) == [largest]
    kept = [orjson.loads(line)["code"] for line in (tmp_path / REJECTED).read_bytes().splitlines()]
    assert kept == ["too_large", "invalid", "invalid", "invalid"]


async def test_a_kind_of_a_newer_version_is_an_entry(tmp_path: Path) -> None:
    log = writer(tmp_path)
    await log.append([entry(1, "something_new")])
    await log.close()
    assert held(tmp_path) == [entry(1, "something_new")]
    good(tmp_path)


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
