"""The formats of tlog-tiles, tlog-checkpoint and tlog-proof, by the examples of their specifications."""

import base64
import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain import tlog
from orchestrator.domain.merkle import WIDTH, inclusion_proof, leaf_hash, perfect_root
from orchestrator.domain.signed_note import NoteError, parse_note
from orchestrator.domain.tlog import (
    Checkpoint,
    Damaged,
    Proof,
    Tiles,
    bundle_path,
    encode_bundle,
    encode_frame,
    frame_after,
    parse_bundle,
    parse_checkpoint,
    parse_journal,
    parse_proof,
    parse_tile,
    split_history,
    tile_path,
    tile_width,
)
from tests.audit_log import KEY

CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+"
    "zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+"
    "mbIUBkBIfZ+qnA==\n"
).encode()
"""The example of tlog-cosignature."""
ROOT = base64.b64encode(bytes(32)).decode()


def test_names_and_limits_of_a_log_that_is_kept_for_ever() -> None:
    """A log of today is read by whatever comes after this version."""
    names = (tlog.CHECKPOINT, tlog.HISTORY, tlog.WITNESSED, tlog.REJECTED, tlog.VERIFIER, tlog.journal_path(7))
    assert names == (
        "checkpoint",
        "checkpoints",
        "witnessed",
        "rejected.jsonl",
        "key.pub",
        "journal/00000000000000000007",
    )
    assert tlog.MAX_ENTRY_BYTES == 65535


def test_paths_are_those_of_the_specification() -> None:
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path(2, 0, 1) == "tile/2/000.p/1"
    assert bundle_path(1000, 12) == "tile/entries/x001/000.p/12"


def test_a_tree_of_70_000_has_the_tiles_that_the_specification_counts() -> None:
    """273 full tiles of level 0 and a partial one of 112; one full of level 1 and one of 17; one of level 2 of 1."""
    widths = [[tile_width(70_000, level, index) for index in range(300)] for level in range(4)]
    assert widths[0] == [WIDTH] * 273 + [112] + [0] * 26
    assert widths[1] == [WIDTH, 17] + [0] * 298
    assert widths[2] == [1] + [0] * 299
    assert not any(widths[3])
    assert [tile_width(256, level, 0) for level in range(3)] == [256, 1, 0]


def test_the_checkpoint_of_the_specification_is_read() -> None:
    note = parse_note(CHECKPOINT)
    checkpoint = parse_checkpoint(note.text)
    assert checkpoint[:2] == ("example.com/behind-the-sofa", 20852163)
    assert base64.b64encode(checkpoint.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert checkpoint.text() == note.text
    assert [one.name for one in note.signatures] == ["example.com/behind-the-sofa", "witness.example.com/w1"]
    assert note.encode() == CHECKPOINT


@pytest.mark.parametrize(
    "text",
    [
        "a\n1\n",
        "a\n01\nAAAA\n",
        "a\n-1\nAAAA\n",
        "a\n1\nAAAA\n",
        "\n1\nAAAA\n",
        "a\n1\n!\n",
        "a\n٣\nAAAA\n",
        "a\n1\n\n",
        f"\n1\n{ROOT}\n",
        *(f"a\n{size}\n{ROOT}\n" for size in ("٣", "1_0", "+1", "-1", "01", "x", "1 ")),
        f"a\n1\n{ROOT}",
        f"a\n1\n{ROOT}\n\nextension\n",
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(NoteError):
        parse_checkpoint(text)


def test_a_checkpoint_may_have_more_lines() -> None:
    assert parse_checkpoint(f"a\n1\n{ROOT}\nextension\n") == Checkpoint("a", 1, bytes(32))


def test_a_history_is_split_into_its_notes() -> None:
    notes = [KEY.sign(Checkpoint("a", size, bytes(32)).text()).encode() for size in (1, 2, 3)]
    data = b"".join(note + b"\n" for note in notes)
    assert list(split_history(data)) == notes
    assert list(split_history(data[:-1])) == notes[:2], "the last one is not finished"
    assert list(split_history(b"")) == []


@given(st.lists(st.binary(max_size=300), max_size=20), st.data())
def test_bundles_are_read_back_and_damage_is_noticed(entries: list[bytes], data: st.DataObject) -> None:
    bundle = encode_bundle(entries)
    assert parse_bundle(bundle, len(entries)) == entries
    for bad in (bundle[:-1], bundle + b"\0", bundle + b"\0\0"):
        if bad or entries:
            with pytest.raises(Damaged):
                parse_bundle(bad, len(entries))
    with pytest.raises(Damaged, match="instead of"):
        parse_bundle(bundle, len(entries) + 1)


@given(st.lists(st.lists(st.binary(max_size=80), min_size=1, max_size=5), max_size=5), st.integers(0, 2**40), st.data())
def test_a_journal_is_read_up_to_where_it_is_whole(batches: list[list[bytes]], start: int, data: st.DataObject) -> None:
    frames, position = [], start
    for batch in batches:
        frames.append(encode_frame(position, batch))
        position += len(batch)
    whole = b"".join(frames)
    assert parse_journal(whole, start) == ([one for batch in batches for one in batch], len(whole))
    cut = data.draw(st.integers(0, len(whole)))
    entries, used = parse_journal(whole[:cut], start)
    kept = 0
    while kept < len(frames) and sum(map(len, frames[: kept + 1])) <= cut:
        kept += 1
    assert entries == [one for batch in batches[:kept] for one in batch]
    assert used == sum(map(len, frames[:kept]))
    if whole and not data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(whole) - 1))
        flipped = bytearray(whole)
        flipped[place] ^= 1 << data.draw(st.integers(0, 7))
        assert parse_journal(bytes(flipped), start)[1] <= place, "nothing behind a broken byte is believed"
    assert parse_journal(whole, start + 1)[0] == []


@pytest.mark.parametrize(("magic", "more"), [(b"jml2", 0), (b"jml1", 5)], ids=["another format", "longer than it is"])
def test_a_batch_with_a_right_checksum_and_a_wrong_head_is_not_believed(magic: bytes, more: int) -> None:
    payload = encode_bundle([b"entry"])
    head = struct.pack(">4sQII", magic, 0, 1, len(payload) + more)
    frame = head + struct.pack(">I", crc32(payload, crc32(head))) + payload
    assert len(frame) == len(encode_frame(0, [b"entry"]))
    assert parse_journal(frame, 0) == ([], 0)


@pytest.mark.parametrize("length", [0, 63, 65, 96])
def test_a_tile_has_as_many_hashes_as_it_should(length: int) -> None:
    assert parse_tile(bytes(64), 2) == [bytes(32)] * 2
    with pytest.raises(Damaged, match=f"{length} bytes instead of 64"):
        parse_tile(bytes(length), 2)


def test_a_batch_behind_a_broken_one_is_noticed() -> None:
    frames = [encode_frame(n, [b"entry"]) for n in range(3)]
    broken = bytes(len(frames[1]))
    assert frame_after(frames[0] + broken + frames[2], len(frames[0])) == 2
    assert frame_after(frames[0] + frames[1][:-1], len(frames[0])) is None


def test_a_proof_takes_a_handful_of_tiles() -> None:
    """Of ten million entries: three levels. All are the same here, so a tile is made when it is asked for."""
    size, levels = 10_000_000, [leaf_hash(b"same")]
    while len(levels) < 4:
        levels.append(perfect_root([levels[-1]] * WIDTH))
    widths = {tile_path(level, 0): level for level in range(4)}

    def load(path: str) -> bytes:
        level = int(path.split("/")[1])
        width = int(path.rpartition(".p/")[2]) if ".p/" in path else WIDTH
        return levels[level] * width

    tiles = Tiles(size, load)
    assert len(inclusion_proof(4_711_000, size, tiles)) in (23, 24)
    assert tiles.reads <= 6
    assert widths


def test_a_proof_is_read_back() -> None:
    proof = Proof(73894, b'{"id":"a/1/1"}', (bytes(32), bytes(range(32))), CHECKPOINT)
    text = proof.encode().decode().split("\n")
    assert text[0] == "c2sp.org/tlog-proof@v1"
    assert text[2] == "index 73894"
    assert parse_proof(proof.encode()) == proof
    alone = Proof(0, b"", (), CHECKPOINT)
    assert parse_proof(alone.encode()) == alone


@pytest.mark.parametrize(
    "change",
    [
        (b"tlog-proof@v1", b"tlog-proof@v2"),
        (b"index 3", b"index 03"),
        (b"index 3", b"position 3"),
        (b"extra ", b"more "),
        (b"extra ", b"extra !"),
        (b"extra ", b""),
        (b"index 3", b"3"),
        (b"\nindex 3\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", b""),
        (b"\n\n" + CHECKPOINT, b""),
        (b"\n\n", b"\nshort\n\n"),
    ],
)
def test_a_damaged_proof_is_refused(change: tuple[bytes, bytes]) -> None:
    with pytest.raises(NoteError):
        parse_proof(Proof(3, b"x", (bytes(32),), CHECKPOINT).encode().replace(*change, 1))
