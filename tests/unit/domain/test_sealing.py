"""What is sealed opens with its key in its entry and nowhere else; identifiers lose the person they name."""

import string
from base64 import urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.sealing import (
    Unreadable,
    anonymous,
    differing,
    known_as,
    new_subject,
    seal,
    unseal,
)

KEY, OTHER = b"k" * 32, b"o" * 32
values = st.dictionaries(st.text(), st.none() | st.booleans() | st.text() | st.lists(st.text(), max_size=3), max_size=5)


@given(values=values, entry_id=st.text())
def test_what_was_sealed_opens(values: dict[str, object], entry_id: str) -> None:
    assert unseal(KEY, entry_id, seal(KEY, entry_id, values)) == values


def test_the_sealed_form_is_nonce_and_ciphertext_in_base64url() -> None:
    """A log is for ever: what is sealed today has to open with what reads it then."""
    nonce, values = bytes(range(0xF4, 0x100)), b'{"title":"Analyst"}'
    sealed = urlsafe_b64encode(nonce + AESGCM(KEY).encrypt(nonce, values, b"w/1/1")).decode()
    assert "_" in sealed
    assert unseal(KEY, "w/1/1", sealed) == {"title": "Analyst"}
    listed = urlsafe_b64encode(nonce + AESGCM(KEY).encrypt(nonce, b"[]", b"w/1/1")).decode()
    with pytest.raises(Unreadable, match="are no object"):
        unseal(KEY, "w/1/1", listed)


def test_it_opens_with_no_other_key_and_in_no_other_entry() -> None:
    sealed = seal(KEY, "w/1/1", {"title": "Analyst"})
    for key, entry_id in ((OTHER, "w/1/1"), (KEY, "w/1/2"), (KEY, "w/1/11")):
        with pytest.raises(Unreadable, match=f"the entry {entry_id} do not open"):
            unseal(key, entry_id, sealed)


def test_what_was_changed_does_not_open() -> None:
    sealed = seal(KEY, "w/1/1", {"title": "Analyst"})
    flipped = [sealed[:place] + ("A" if sealed[place] != "A" else "B") + sealed[place + 1 :] for place in (0, 16, -2)]
    for forged in (*flipped, sealed[:-8], sealed + "AAAA", "", "!", "é", "AAAA"):
        with pytest.raises(Unreadable):
            unseal(KEY, "w/1/1", forged)


def test_one_ciphertext_has_one_text() -> None:
    letters = f"{string.ascii_letters}{string.digits}-_"
    sealed = seal(KEY, "w/1/1", {"title": "Analyst"})
    assert sealed[-1] == "=", "two bits of the letter before it are of no use"
    others = [f"{sealed[:-2]}{letter}=" for letter in letters if letter != sealed[-2]]
    for forged in others:
        with pytest.raises(Unreadable):
            unseal(KEY, "w/1/1", forged)


def test_the_same_values_are_never_sealed_to_the_same_text() -> None:
    assert len({seal(KEY, "w/1/1", {"title": "Analyst"}) for _ in range(100)}) == 100


def test_the_text_is_fit_for_a_url_and_hides_the_values() -> None:
    sealed = seal(KEY, "w/1/1", {"title": "Analyst" * 50})
    assert set(sealed) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=")
    assert "Analyst" not in sealed


def test_subjects_are_random_and_never_show_their_key() -> None:
    one, another = new_subject("w1"), new_subject("w1")
    assert one.id != another.id
    assert one.key != another.key
    assert (len(one.id), len(one.key or b"")) == (32, 32)
    assert "key" not in repr(one)
    assert known_as({"w1": one}, "w1") is one
    assert (known_as({}, "w1").id, known_as({}, "w1").key) == ("", None)


@pytest.mark.parametrize(
    ("text", "person_id", "expected"),
    [
        ("employees#employees:10001:2026-03-02:left", "10001", "employees#employees:S:2026-03-02:left"),
        ("jml/scheduler#10001/contract_end/2026", "10001", "jml/scheduler#S/contract_end/2026"),
        ("10001", "10001", "S"),
        ("10001/10001", "10001", "S/S"),
        ("1000110001", "10001", "1000110001"),
        ("hr#110001-10001", "10001", "hr#110001-S"),
        ("hr#w10001", "10001", "hr#w10001"),
        ("hr#ünal", "nal", "hr#ünal"),
        ("hr#evt-1", "10001", "hr#evt-1"),
        ("idp#disable:ada.byron@example.com:7", None, "idp#disable:S:7"),
        ("hr#ada@example.com", "ada@example.com", "hr#S"),
        ("resolver@host/1/2", None, "resolver@host/1/2"),
        ("", "10001", ""),
        ("aa-a", "a", "aa-S"),
    ],
)
def test_identifiers_lose_the_person_where_it_stands_alone(text: str, person_id: str | None, expected: str) -> None:
    assert anonymous(text, person_id, "S") == expected


def test_only_what_differs_is_told() -> None:
    assert differing({"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3, "d": None}) == {
        "before": {"b": 2, "c": None},
        "after": {"b": 3, "d": None},
    }
    assert differing({}, {"a": 1}) == {"after": {"a": 1}}
    assert differing({"a": 1}, {}) == {"before": {"a": 1}}
    assert differing({"a": 1}, {"a": 1}) == {}
