"""Entries of the audit log as readers take them: checked once, so that everybody after it can rely on their shape."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, Protocol

import orjson

from orchestrator.errors import UserError
from schemas.envelope import instant

SEALED = "sealed"
"""Stands for a value that is encrypted, where its key is not at hand or was destroyed."""

CHUNK = 2000
"""Entries whose people are looked up together."""

_TEXTS = ("actor", "subject", "app", "event_id", "correlation_id", "policy")
_NOTHING = type(None)
_TEXT, _NUMBER, _OBJECT = (str, _NOTHING), (int, _NOTHING), (dict, _NOTHING)


class Recorded(NamedTuple):
    """One entry: its position in the log, the exact bytes, what they say, and when it was recorded."""

    position: int
    record: bytes
    entry: dict[str, Any]
    at: datetime

    @property
    def kind(self) -> str:
        """See `schemas.audit.AuditKind`; a log may be newer than its reader and hold others."""
        return self.entry["kind"]  # type: ignore[no-any-return]  # `recorded` has looked

    @property
    def subject(self) -> str | None:
        """Whom it is about: the random id of the person in the log."""
        return self.entry.get("subject") or None

    @property
    def app(self) -> str | None:
        """Which application it is about."""
        return self.entry.get("app")

    @property
    def revision(self) -> int:
        """The account's revision; 0 where the entry is about none."""
        return self.entry.get("revision") or 0

    @property
    def details(self) -> Mapping[str, Any]:
        """Codes, counts, names of attributes, instants."""
        return self.entry.get("details") or {}

    def instant(self, name: str) -> datetime | None:
        """An instant of the details. Raises UserError for one that is none."""
        text = self.details.get(name)
        if text is None:
            return None
        try:
            return instant(text)
        except (TypeError, ValueError):
            raise _damaged(self.position) from None

    def names(self, name: str) -> tuple[str, ...]:
        """A list of names in the details, groups for example; empty where there is none."""
        found = self.details.get(name)
        return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()

    def text(self, name: str) -> str:
        """A code or a word of the details; empty where there is none."""
        found = self.details.get(name)
        return "" if found is None else str(found)


class Keyring(Protocol):
    """What leads from the log to people. Without it, and for a subject that was erased, there is only the id."""

    @property
    def answers(self) -> bool:
        """Whether it can be asked at all, so that whom it does not know is nobody's id."""

    def know(self, subjects: Iterable[str]) -> None:
        """Look these up at once: they are going to be asked for."""

    def person_of(self, subject: str) -> str | None:
        """The worker id of a subject."""

    def subject_of(self, person_id: str) -> str | None:
        """The subject that stands for a worker id."""

    def open(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is sealed in an entry; empty where nothing is, or where the key is not there."""


class NoKeys:
    """The keyring of somebody who has only the log."""

    answers = False

    def know(self, subjects: Iterable[str]) -> None:
        """There is nothing to look up in."""

    def person_of(self, subject: str) -> str | None:
        """Nobody knows."""

    def subject_of(self, person_id: str) -> str | None:
        """Nobody knows."""

    def open(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """It stays sealed."""
        return {}


def recorded(source: Iterable[tuple[int, bytes]], needles: Sequence[bytes] = ()) -> Iterator[Recorded]:
    """The entries of a log. Raises UserError with the position of one that is damaged.

    `needles` are texts that the wanted entries hold: an entry without one of them is passed over unread, and
    unchecked. That is sound because JSON without a backslash writes a text in one way only.
    """
    for position, record in source:
        if any(needle not in record for needle in needles) and b"\\" not in record:
            continue
        try:
            entry = orjson.loads(record)
            at = datetime.fromisoformat(entry["at"])
            sound = at.tzinfo is not None and isinstance(entry["kind"], str)
            sound = sound and all(isinstance(entry.get(name), _TEXT) for name in _TEXTS)
            sound = sound and isinstance(entry.get("revision"), _NUMBER) and isinstance(entry.get("details"), _OBJECT)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise _damaged(position)
        yield Recorded(position, record, entry, at)


def known_to(keys: Keyring, entries: Iterator[Recorded]) -> Iterator[Recorded]:
    """The entries, once the keyring has looked up whom they are about: a few thousand at once."""
    while chunk := list(islice(entries, CHUNK)):
        keys.know({subject for one in chunk if (subject := one.subject) is not None})
        yield from chunk


def needle(text: str) -> bytes | None:
    """The bytes that JSON has for a text wherever no backslash is; None where it needs one."""
    written = orjson.dumps(text)
    return None if b"\\" in written else written


def name_of(subject: str | None, keys: Keyring) -> str:
    """The worker id where it is known, else the subject."""
    return "" if subject is None else keys.person_of(subject) or subject


def no_such_person(person: str, keys: Keyring) -> UserError:
    """The error for a person of whom no entry tells; where no keys are at hand, a worker id may be somebody's still."""
    if keys.answers:
        more = "nobody is known by that id, or not any more: name a worker id, or the subject that the log has for one"
    else:
        more = "the keys, which lead from a worker id to its subject, are not at hand: name the subject"
    return UserError(f"no entry of the audit log is about the person {person!r}; {more}")


def no_such_application(app: str, known: Iterable[str]) -> UserError:
    """The error for an application of which no entry tells."""
    there = ", ".join(sorted(known)) or "none"
    return UserError(f"no entry of the audit log is about the application {app!r} (there are: {there})")


def _damaged(position: int) -> UserError:
    return UserError(
        f"entry {position} of the audit log is damaged: it is no entry any more; `jml audit verify` finds what else is"
    )
