"""Personal values in the audit log: sealed under a key of each person's own, so that erasing is destroying one key.

The log names a person by a random **subject** id and never by the worker id. What is personal in an entry is one
ciphertext, AES-256-GCM (NIST SP 800-38D), bound to the entry by its id as associated data: moved to another entry it
does not open. Whoever has the key reads the values; the log's bytes stay what they were when nobody has it any more.

Nonces are 96 random bits. With one key at most 2^32 values may be sealed so (SP 800-38D, section 8.3), and a key seals
the entries about one person, a few thousand in a long life. A nonce made from the entry's id would not be safer: a
transaction that failed gives its numbers back, so the same id may have sealed something else before.
"""

import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
KEY_BYTES = 32
NONCES_AT_ONCE = 64
SOMEBODY = "somebody"
"""Stands for a person whom the log has no name for."""

_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")


class Unreadable(ValueError):
    """The values cannot be opened: another key, another entry, or not what was sealed."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A person as the audit log knows one: a random id of 32 hex digits, or none. An erased one has no key."""

    id: str
    person_id: str | None
    key: bytes | None = field(default=None, repr=False)


def new_subject(person_id: str) -> Subject:
    """A subject that nobody had before."""
    return Subject(secrets.token_hex(16), person_id, secrets.token_bytes(KEY_BYTES))


def known_as(subjects: Mapping[str, Subject], person_id: str) -> Subject:
    """The person's subject; one without an id where the log has no name for the person."""
    return subjects.get(person_id) or Subject("", person_id)


class Sealer:
    """Seals what one batch has to say, with each cipher made once. It holds keys, so it goes when the batch is done."""

    def __init__(self) -> None:
        self._ciphers: dict[bytes, AESGCM] = {}
        self._nonces = b""

    def seal(self, key: bytes, entry_id: str, values: bytes) -> str:
        """`values` (JSON) as base64url of nonce and ciphertext (RFC 4648, section 5)."""
        cipher = self._ciphers.get(key) or self._ciphers.setdefault(key, AESGCM(key))
        if not self._nonces:
            self._nonces = secrets.token_bytes(NONCE_BYTES * NONCES_AT_ONCE)
        nonce, self._nonces = self._nonces[:NONCE_BYTES], self._nonces[NONCE_BYTES:]
        whole = nonce + cipher.encrypt(nonce, values, entry_id.encode())
        return _as_text(whole)


def seal(key: bytes, entry_id: str, values: Mapping[str, Any]) -> str:
    """One object by itself; see `Sealer`."""
    return Sealer().seal(key, entry_id, orjson.dumps(values))


def unseal(key: bytes, entry_id: str, sealed: str) -> dict[str, Any]:
    """The inverse of `seal`. Raises Unreadable."""
    try:
        whole = _from_text(sealed)
        values = orjson.loads(AESGCM(key).decrypt(whole[:NONCE_BYTES], whole[NONCE_BYTES:], entry_id.encode()))
    except (InvalidTag, ValueError):
        raise Unreadable(f"the values of the entry {entry_id} do not open with the key of its person") from None
    if not isinstance(values, dict):
        raise Unreadable(f"the values of the entry {entry_id} are no object")
    return values


def _as_text(whole: bytes) -> str:
    return binascii.b2a_base64(whole, newline=False).translate(_TO_URL).decode()


def _from_text(sealed: str) -> bytes:
    """Raises ValueError, also for a text that nobody writes: the last letter has bits that decoding passes over."""
    whole = binascii.a2b_base64(sealed.encode().translate(_FROM_URL), strict_mode=True)
    if _as_text(whole) != sealed:
        raise ValueError("not the text of what it decodes to")
    return whole


def anonymous(text: str, person_id: str | None, stand_in: str) -> str:
    """An identifier of somebody else's making without the person in it.

    Sources build ids from what they have: `employees:10001:2026-03-02:left`, `10001/contract_end/...`. The worker id is
    replaced where it stands alone (no letter or digit beside it), and so is whatever looks like an e-mail address.
    """
    if person_id is not None and person_id in text:
        text = _replaced(text, person_id, stand_in)
    return _without_addresses(text, stand_in) if "@" in text else text


def _replaced(text: str, person_id: str, stand_in: str) -> str:
    parts, done, start = [], 0, text.find(person_id)
    while start >= 0:
        end = start + len(person_id)
        if not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()):
            parts += [text[done:start], stand_in]
            done = end
        start = text.find(person_id, max(end, start + 1))
    return "".join((*parts, text[done:]))


def _without_addresses(text: str, stand_in: str) -> str:
    """Addresses end at what separates the parts of an id. What has no dot behind its @ is none: `resolver@host`."""
    words, word = [], ""
    for character in text:
        if character.isalnum() or character in "._%+-@'":
            word += character
        else:
            words += [word, character]
            word = ""
    words.append(word)
    return "".join(stand_in if "." in word.partition("@")[2] else word for word in words)


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What differs, as `before` and `after`, each with those attributes that it has; empty where nothing does."""
    names = [name for name in {**before, **after} if before.get(name, _NOTHING) != after.get(name, _NOTHING)]
    if not names:
        return {}
    sides = {"before": before, "after": after}
    return {side: found for side, one in sides.items() if (found := {name: one[name] for name in names if name in one})}


_NOTHING = object()
