"""Signed notes as C2SP and Go's sumdb define them: their examples, and what has to be refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.signed_note import (
    COSIGNATURE,
    Note,
    NoteError,
    SigningKey,
    generate_key,
    parse_note,
    parse_signatures,
    parse_signing,
    parse_verifier,
    signers,
)

KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SIGNATURE = (
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
NOTE = f"This is an example message.\n\n{SIGNATURE}".encode()
"""The example of C2SP signed-note."""

PETER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_NOTE = (
    f"{PETER_TEXT}\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
"""The example of golang.org/x/mod/sumdb/note; the key is published there."""


def test_the_example_of_the_specification_holds() -> None:
    note, key = parse_note(NOTE), parse_verifier(KEY)
    assert note.text == "This is an example message.\n"
    assert key.signed(note)
    assert str(key) == KEY
    assert note.encode() == NOTE


def test_a_key_and_a_note_of_go_are_read_and_made_alike() -> None:
    key = parse_signing(PETER)
    assert key.private_text() == PETER
    assert str(key.verifier) == PETER_PUBLIC
    assert key.sign(PETER_TEXT).encode() == PETER_NOTE.encode()
    assert parse_verifier(PETER_PUBLIC).signed(parse_note(PETER_NOTE.encode()))


def test_a_cosignature_signs_the_text_and_the_time() -> None:
    witness = generate_key("witness.example.com/w1", COSIGNATURE)
    note = parse_note(NOTE)
    line = witness.cosign(note.text, 1679315147)
    assert len(line.blob) == 72
    both = parse_note(NOTE + line.line().encode())
    assert signers(both, [parse_verifier(KEY), witness.verifier]) == [parse_verifier(KEY), witness.verifier]
    assert witness.verifier.time(both) == 1679315147
    assert witness.verifier.time(note) is None
    assert parse_signatures(line.line().encode()) == (line,)
    later = line._replace(blob=(1679315148).to_bytes(8, "big") + line.blob[8:])
    with pytest.raises(NoteError, match="forged"):
        witness.verifier.signed(Note(note.text, (later,)))


def test_signatures_of_strangers_are_passed_over_and_forged_ones_are_not() -> None:
    key, stranger = parse_verifier(KEY), generate_key("example.com/foo")
    text = "This is an example message.\n"
    assert not key.signed(stranger.sign(text)), "the same name, another key"
    assert key.signed(parse_note(NOTE + stranger.sign(text).signatures[0].line().encode()))
    for other in ("This is another message.\n", "This is an example message.\n\n"):
        with pytest.raises(NoteError, match="forged"):
            key.signed(Note(other, parse_note(NOTE).signatures))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"text\n", "no signatures"),
        (b"text\n\n", "no signatures"),
        (b"text\n\nno dash\n", "is not base64|is no signature"),
        (NOTE[:-1], "no signatures"),
        (NOTE.replace("— ".encode(), b""), "is no signature"),
        (NOTE.replace(b"example.com/foo", b"example.com+foo"), "is no signature"),
        (NOTE.replace(b"Uw2Q", b"Uw2*"), "not base64"),
        (NOTE.replace(b"Uw2Q", b"Uw*2Q"), "not base64"),
        ("t\n\n— a AAAA\n".encode(), "is no signature"),
        ("t\n\n— a AAAAAA==\n".encode(), "is no signature"),
        (NOTE + NOTE[NOTE.index(b"\xe2") :] * 200, "more than 100"),
        (NOTE.replace(b"example m", b"example\x07m"), "control characters"),
        (b"\xff" + NOTE, "not UTF-8"),
    ],
)
def test_what_is_no_note_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(NoteError, match=reason):
        parse_note(data)


def test_a_hundred_signatures_are_not_too_many_and_any_may_be_short() -> None:
    lines = b"".join(f"— a{number} AAAAAAA=\n".encode() for number in range(99))
    assert len(parse_note(NOTE + lines).signatures) == 100
    with pytest.raises(NoteError, match="more than 100"):
        parse_note(NOTE + lines + "— a AAAAAAA=\n".encode())


def test_the_kinds_of_keys_are_those_of_the_specification() -> None:
    witness = "witness.example.com/w1+cfef2b65+BEPNwCPSLV+eEH0aBpNFfTXR0Q630hxyEZL1b13kBmXT"
    assert (parse_verifier(KEY).kind, parse_verifier(witness).kind) == (1, COSIGNATURE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b",
        KEY[:-1],
        KEY.replace("530d903a", "530d903b"),
        KEY.replace("foo", "bar"),
        KEY.replace("+Ae", "+Be"),
    ],
)
def test_a_damaged_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        parse_verifier(text)
    with pytest.raises(NoteError):
        parse_signing(f"PRIVATE+KEY+{text}")


@pytest.mark.parametrize(("name", "kind"), [("a b", 1), ("", 1), ("a\x07b", 1), ("a", 2)])
def test_a_key_whose_id_fits_may_still_be_none(name: str, kind: int) -> None:
    key = SigningKey(name, kind, bytes(32))
    with pytest.raises(NoteError, match="no Ed25519 verifier key"):
        parse_verifier(str(key.verifier))
    with pytest.raises(NoteError, match="no Ed25519 key"):
        parse_signing(key.private_text())


def test_a_private_key_says_that_it_is_one() -> None:
    with pytest.raises(NoteError, match="does not begin with"):
        parse_signing(PETER.removeprefix("PRIVATE+KEY+"))


def test_a_private_key_is_never_shown() -> None:
    key = parse_signing(PETER)
    assert repr(key.seed)[2:10] not in repr(key), "neither as it is nor as it is kept"
    assert "AYEKFALV" not in repr(key)
    with pytest.raises(NoteError) as refused:
        parse_signing(PETER.replace("c74f20a3", "c74f20a4"))
    assert "AYEKFALV" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "a\x07b"])
def test_a_name_that_no_key_may_have(name: str) -> None:
    with pytest.raises(NoteError, match="cannot be called"):
        generate_key(name)


@given(st.binary(min_size=32, max_size=32), st.text(st.characters(exclude_categories=["C"]), min_size=1))
def test_any_text_is_signed_and_read_back(seed: bytes, text: str) -> None:
    key = SigningKey("a.example/log", 1, seed)
    note = parse_note(key.sign(text + "\n").encode())
    assert note.text == text + "\n"
    assert key.verifier.signed(note)
    assert parse_signing(key.private_text()) == key
    assert parse_verifier(str(key.verifier)) == key.verifier
