"""What the writer of the audit log reads when it starts: it goes on where it was, or refuses to sign."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.adapters.audit_log import read_entries
from orchestrator.adapters.audit_verify import verify
from orchestrator.domain.signed_note import SigningKey
from orchestrator.domain.tlog import (
    CHECKPOINT,
    HISTORY,
    bundle_path,
    encode_frame,
    journal_path,
    split_history,
    tile_path,
)
from orchestrator.errors import AuditLogDamaged
from tests.audit_log import KEY, entries, entry, good, held, write_log
from tests.forge import forge, put, signed


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
