"""JSON lines of structured CloudEvents: read, checked against the schemas, made into messages.

Used by every command that takes events from a file, so that all of them complain in the same words.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, NamedTuple

import orjson
from pydantic import ValidationError

from orchestrator.domain.days import is_zone
from orchestrator.errors import UserError
from schemas.changes import BY_TYPE, Change, WorkerAttributes
from schemas.envelope import MAX_AHEAD, STRUCTURED, Envelope, EnvelopeError, Message, read_envelope, timestamp
from schemas.topics import HR_EVENTS, IDP_EVENTS, topics

_BOM = b"\xef\xbb\xbf"
_STRUCTURED_HEADERS = (("content-type", STRUCTURED.encode()),)
_IN_MEMORY = 16 << 20

TOPICS: dict[str, str] = {
    message.TYPE: topic.name
    for topic in topics(())
    if topic.name in (HR_EVENTS, IDP_EVENTS)
    for message in topic.messages
    if issubclass(message, Change)
}
"""The topic of every type of event that comes from outside; timers come from the scheduler alone."""


class BadEvent(ValueError):
    """An event that the schemas refuse; the text says what is wrong with it."""


class Problem(NamedTuple):
    """What is wrong with one line."""

    line: int
    reason: str


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """A file, or standard input for `-`. It can be read twice: once to check all of it, once to send it.

    Raises UserError for one that cannot be read, and for one without a single event: it is hardly the one meant.
    """
    with _opened(name) as file:
        if next(lines(file), None) is None:
            raise UserError(f"{called(name)} holds no events")
        yield file


def called(name: str) -> str:
    """What a file is called in what we say of it."""
    return "standard input" if name == "-" else name


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        with SpooledTemporaryFile(max_size=_IN_MEMORY) as spooled:
            for block in iter(lambda: sys.stdin.buffer.read(1 << 16), b""):
                spooled.write(block)
            spooled.seek(0)
            yield spooled
        return
    with _file(name) as file:
        yield file


def _file(name: str) -> IO[bytes]:
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}") from None


def lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, from the beginning, with their numbers."""
    file.seek(0)
    for number, line in enumerate(file, 1):
        text = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if text:
            yield number, text


def check(line: bytes) -> tuple[Envelope, Change]:
    """One line, read and validated. Raises BadEvent."""
    try:
        envelope = read_envelope(line, _STRUCTURED_HEADERS)
    except EnvelopeError as error:
        hint = " (one event per line)" if error.code == "undecodable" else ""
        raise BadEvent(f"{error}{hint}") from None
    schema = BY_TYPE.get(envelope.type)
    if schema is None:
        near = get_close_matches(envelope.type, BY_TYPE, 1, 0.5)
        raise BadEvent(f"the type {envelope.type!r} is unknown" + (f"; did you mean {near[0]!r}?" if near else ""))
    try:
        return envelope, schema.model_validate_json(envelope.data)
    except ValidationError as error:
        raise BadEvent("; ".join(_problem(item["loc"], item["msg"]) for item in error.errors())) from None


def acceptable(envelope: Envelope, change: Change, now: datetime) -> None:
    """Raises BadEvent for what fits the schema, and yet would not be taken as it was meant once it arrives."""
    if envelope.time > now + MAX_AHEAD:
        raise BadEvent(
            f"the CloudEvents attribute time, {timestamp(envelope.time)}, is more than a day ahead of our clock: it "
            "would go to quarantine"
        )
    attributes = getattr(change, "attributes", None)
    place = attributes.time_zone if isinstance(attributes, WorkerAttributes) else None
    if place is not None and not is_zone(place):
        raise BadEvent(
            f"data.attributes.time_zone: the IANA database knows no {place!r}; write a name like Australia/Melbourne"
        )


def _problem(location: tuple[int | str, ...], message: str) -> str:
    place = ".".join(("data", *map(str, location)))
    return f"{place}: {message.removeprefix('Value error, ')}"


def message(envelope: Envelope, change: Change) -> Message:
    """The event as a record of the topic that is for its type, keyed by the person it is about. Raises BadEvent."""
    topic = TOPICS.get(envelope.type)
    if topic is None:
        raise BadEvent(f"events of the type {envelope.type!r} come from the scheduler alone")
    return Message(topic, _key(change.model_dump(include={"worker_id", "email"})), envelope.data, envelope.headers())


def unchecked(line: bytes) -> Message:
    """The line as it is, as a structured CloudEvent on the topic that seems right: to see what becomes of a bad one."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        event = None
    type_ = event.get("type") if isinstance(event, dict) else None
    data = event.get("data") if isinstance(event, dict) else None
    topic = IDP_EVENTS if str(type_).startswith("jml.idp.") else HR_EVENTS
    return Message(topic, _key(data if isinstance(data, dict) else {}), line, _STRUCTURED_HEADERS)


def _key(handles: dict[str, object]) -> bytes:
    """The worker id, or else the e-mail address: everything about one person has to stay in order."""
    worker_id, email = handles.get("worker_id"), handles.get("email")
    return str(worker_id or str(email or "").lower()).encode()
