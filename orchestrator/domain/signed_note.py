"""Signed notes: text that one or more Ed25519 keys signed, and the keys in their text forms.

Source: C2SP signed-note v1.0.0 (format, key ids, verifier keys) and tlog-cosignature v1 (what a witness signs). The
private form is that of Go's `golang.org/x/mod/sumdb/note`, which the tools of other logs read as well.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = 0x01
COSIGNATURE = 0x04
KINDS = {ED25519, COSIGNATURE}
PRIVATE = "PRIVATE+KEY+"
MAX_SIGNATURES = 100
_DASH = "— "


class NoteError(ValueError):
    """The text is no signed note, no key, or not signed as it has to be; the message says what is wrong with it."""


class Signature(NamedTuple):
    """One signature line."""

    name: str
    key_id: bytes
    blob: bytes

    def line(self) -> str:
        """As it stands in a note, with its newline."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.blob).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """The text, newline at its end included, and its signatures, none of them verified."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """The note as it is stored and sent."""
        return (self.text + "\n" + "".join(one.line() for one in self.signatures)).encode()


def parse_note(data: bytes) -> Note:
    """Raises NoteError for what the format does not allow."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise NoteError("it is not UTF-8") from None
    if any(character < " " and character != "\n" for character in text):
        raise NoteError("it holds control characters")
    body, empty, lines = text.rpartition("\n\n")
    if not empty or not lines.endswith("\n"):
        raise NoteError("it has no signatures")
    signatures = tuple(_signature(line) for line in lines[:-1].split("\n"))
    if len(signatures) > MAX_SIGNATURES:
        raise NoteError(f"it has more than {MAX_SIGNATURES} signatures")
    return Note(body + "\n", signatures)


def parse_signatures(data: bytes) -> tuple[Signature, ...]:
    """Signature lines alone, as a witness answers with them. Raises NoteError."""
    return parse_note(b"\n\n" + data).signatures


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    blob = _base64(encoded, "a signature")
    if not line.startswith(_DASH) or not is_name(name) or len(blob) <= 4:
        raise NoteError("a line after the empty one is no signature")
    return Signature(name, blob[:4], blob[4:])


def is_name(name: str) -> bool:
    """Whether a key may have this name."""
    return bool(name) and "+" not in name and not any(one.isspace() or one < " " for one in name)


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """The four bytes by which a signature names its key, together with the name."""
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name and what it signs: notes (1) or, as a witness, checkpoints with the time (4)."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        """See `key_id`."""
        return key_id(self.name, self.kind, self.public)

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"

    def signed(self, note: Note) -> bool:
        """Whether the note bears a signature of this key that holds. Raises NoteError where one bears it falsely."""
        found = [one for one in note.signatures if (one.name, one.key_id) == (self.name, self.id)]
        for one in found:
            if not self._holds(note.text, one.blob):
                raise NoteError(f"the signature of {self.name} is forged, or the text was changed after it")
        return bool(found)

    def _holds(self, text: str, blob: bytes) -> bool:
        message = text.encode()
        if self.kind == COSIGNATURE:
            message, blob = _cosigned(text, int.from_bytes(blob[:8], "big")), blob[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(blob, message)
        except InvalidSignature:
            return False
        return True

    def time(self, note: Note) -> int | None:
        """When a witness signed, as POSIX seconds; None for a note that it did not sign."""
        times = [one.blob[:8] for one in note.signatures if (one.name, one.key_id) == (self.name, self.id)]
        return int.from_bytes(times[0], "big") if times else None


def parse_verifier(text: str) -> VerifierKey:
    """The key of `name+id+base64`. Raises NoteError."""
    name, _, rest = text.strip().partition("+")
    encoded_id, _, encoded = rest.partition("+")
    data = _base64(encoded, "a verifier key")
    if not is_name(name) or len(data) != 33 or data[0] not in KINDS:
        raise NoteError("it is no Ed25519 verifier key: NAME+ID+KEY, as `jml audit key generate` prints it")
    key = VerifierKey(name, data[0], data[1:])
    if encoded_id != key.id.hex():
        raise NoteError(f"the verifier key of {name} is damaged: its id does not fit")
    return key


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A private key. It has no repr: a secret must not come into a log by accident."""

    name: str
    kind: int
    seed: bytes

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return VerifierKey(self.name, self.kind, self._private().public_key().public_bytes_raw())

    def private_text(self) -> str:
        """The form in which it is kept; secret."""
        encoded = base64.b64encode(bytes([self.kind]) + self.seed).decode()
        return f"{PRIVATE}{self.name}+{self.verifier.id.hex()}+{encoded}"

    def sign(self, text: str) -> Note:
        """A note with this signature alone; the text ends with a newline."""
        return Note(text, (self._line(self._private().sign(text.encode())),))

    def cosign(self, text: str, time: int) -> Signature:
        """A witness's signature on the text of a checkpoint; `time` in POSIX seconds."""
        signature = self._private().sign(_cosigned(text, time))
        return self._line(time.to_bytes(8, "big") + signature)

    def _line(self, blob: bytes) -> Signature:
        return Signature(self.name, self.verifier.id, blob)

    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def generate_key(name: str, kind: int = ED25519) -> SigningKey:
    """A new key. Raises NoteError for a name that the format does not allow."""
    if not is_name(name):
        raise NoteError(f"a key cannot be called {name!r}: no spaces and no plus, for example audit.example.com/jml")
    return SigningKey(name, kind, Ed25519PrivateKey.generate().private_bytes_raw())


def parse_signing(text: str) -> SigningKey:
    """The key of `PRIVATE+KEY+name+id+base64`. Raises NoteError, whose message does not repeat the text."""
    if not text.strip().startswith(PRIVATE):
        raise NoteError(f"it does not begin with {PRIVATE}")
    name, _, rest = text.strip().removeprefix(PRIVATE).partition("+")
    encoded_id, _, encoded = rest.partition("+")
    data = _base64(encoded, "a private key")
    if not is_name(name) or len(data) != 33 or data[0] not in KINDS:
        raise NoteError("it is no Ed25519 key such as `jml audit key generate` makes")
    key = SigningKey(name, data[0], data[1:])
    if encoded_id != key.verifier.id.hex():
        raise NoteError("it is damaged: its id does not fit")
    return key


def signers(note: Note, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
    """Those of the keys that signed the note. Raises NoteError for a forged signature of one of them."""
    return [key for key in keys if key.signed(note)]


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError(f"{what} in it is not base64") from None
