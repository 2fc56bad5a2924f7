"""What the verifier reads of a log's folder, beside a writer that fills files and takes partial ones away."""

import shutil
from pathlib import Path

import pytest

from orchestrator.adapters.audit_verify import check_proof, prove
from orchestrator.adapters.audit_verify import folder as reading
from orchestrator.adapters.audit_verify.folder import LogFolder
from orchestrator.domain.signed_note import NoteError
from orchestrator.domain.tlog import (
    CHECKPOINT,
    Damaged,
    bundle_path,
    encode_frame,
    journal_path,
    split_history,
    tile_path,
)
from orchestrator.errors import UserError
from tests.audit_log import KEY, entries, entry
from tests.forge import forge, put, signed

RECORDS = entries(700)


@pytest.fixture
def log(tmp_path: Path) -> LogFolder:
    forge(tmp_path, RECORDS[:600], sizes=(100, 300), journal=RECORDS[600:603])
    return LogFolder(tmp_path)


def test_entries_are_those_of_the_checkpoint_and_of_the_journal(log: LogFolder) -> None:
    assert list(log.entries()) == list(enumerate(RECORDS[:603]))


def test_what_is_written_while_it_reads_is_not_among_them(log: LogFolder) -> None:
    """What the log is compared with was looked at before that came."""
    found = log.entries()
    first = next(found)
    put(log.folder, journal_path(600), encode_frame(600, RECORDS[600:610]))
    assert [first, *found] == list(enumerate(RECORDS[:603]))


def test_a_bundle_that_cannot_be_read_is_left_out_and_all_others_are_not(log: LogFolder) -> None:
    (log.folder / bundle_path(0)).unlink()
    assert list(log.entries()) == list(enumerate(RECORDS[:603]))[256:]


@pytest.mark.parametrize("damaged", [None, b"", b"nonsense"])
def test_without_a_checkpoint_there_is_the_first_journal(tmp_path: Path, damaged: bytes | None) -> None:
    put(tmp_path, journal_path(0), encode_frame(0, RECORDS[:3]))
    if damaged is not None:
        put(tmp_path, CHECKPOINT, damaged)
    assert list(LogFolder(tmp_path).entries()) == list(enumerate(RECORDS[:3]))


def test_partial_files_are_found_in_the_full_ones_once_those_are_there(log: LogFolder) -> None:
    partial = log.bundle(1, 300), log.tile(0, 1, 44), log.load(tile_path(0, 1, 44))
    assert partial == (RECORDS[256:300], log.tile(0, 1, 256)[: 44 * 32], log.tile(0, 1, 256)[: 44 * 32])
    (log.folder / bundle_path(1)).unlink()
    (log.folder / tile_path(0, 1)).unlink()
    for read in (
        lambda: log.bundle(1, 300),
        lambda: log.bundle(1, 600),
        lambda: log.tile(0, 1, 44),
        lambda: log.tile(0, 1, 256),
        lambda: log.load(tile_path(0, 1, 44)),
        lambda: log.load(tile_path(0, 1)),
    ):
        with pytest.raises(Damaged, match="is missing"):
            read()


def test_a_tile_of_another_length_is_damaged(log: LogFolder) -> None:
    put(log.folder, tile_path(0, 0), bytes(8191))
    with pytest.raises(Damaged, match="tile/0/000 has 8191 bytes instead of 8192"):
        log.tile(0, 0, 256)


def test_a_long_history_is_read_in_pieces(log: LogFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces end anywhere; the last note may be in the making."""
    whole = (log.folder / "checkpoints").read_bytes()
    put(log.folder, "checkpoints", whole + b"unfinished\n3")
    for size in (1, 7, 100, len(whole), len(whole) + 50):
        monkeypatch.setattr(reading, "CHUNK", size)
        assert list(log.history()) == list(split_history(whole))
    later = log.history()
    put(log.folder, "checkpoints", whole + whole)
    assert len(list(later)) == 3, "those that were there when it was called"


# --- proofs -----------------------------------------------------------------------------------------------------------


def test_an_entry_is_found_by_its_own_id_and_not_where_another_names_it(tmp_path: Path) -> None:
    wanted = entry(2)
    forge(tmp_path, [entry(1, details={"note": "resolver@host-1-abc/1/2"}), wanted, entry(3)])
    assert prove(tmp_path, "resolver@host-1-abc/1/2").proof[:2] == (1, wanted)
    with pytest.raises(UserError, match="there is no entry 'hr/example' among the 3"):
        prove(tmp_path, "hr/example")


def test_what_no_checkpoint_covers_cannot_be_proved(log: LogFolder) -> None:
    assert prove(log.folder, "599").proof.entry == RECORDS[599]
    assert prove(log.folder, "17").tile_reads == 3, "its own tile, the one above, and the last: each once"
    with pytest.raises(UserError, match="entry 600 is not signed yet: the newest checkpoint covers 600"):
        prove(log.folder, "600")
    (log.folder / CHECKPOINT).unlink()
    with pytest.raises(UserError, match="there is no checkpoint in"):
        prove(log.folder, "599")


def test_a_damaged_log_is_named_and_not_proved(log: LogFolder) -> None:
    shutil.copytree(log.folder, log.folder / "copy")
    (log.folder / bundle_path(0)).unlink()
    for entry_ in ("17", "nowhere"):
        with pytest.raises(UserError, match=r"is damaged: tile/entries/000 is missing; run `jml audit verify`"):
            prove(log.folder, entry_)
    put(log.folder / "copy", CHECKPOINT, signed(RECORDS[:600]).replace(b"600", b"6oo"))
    with pytest.raises(UserError, match=r"is damaged: the size in it is no number"):
        prove(log.folder / "copy", "17")


def test_a_proof_of_another_log_that_the_same_key_signs_is_none_of_this_one(log: LogFolder) -> None:
    assert check_proof(prove(log.folder, "17").proof.encode(), [KEY.verifier]).position == 17
    put(log.folder, CHECKPOINT, signed(RECORDS[:600], origin="other.example.com/log"))
    proof = prove(log.folder, "17").proof.encode()
    with pytest.raises(NoteError, match=r"is of other\.example\.com/log, not of audit\.example\.com/jml"):
        check_proof(proof, [KEY.verifier])
