"""CloudEvents 1.0 on Kafka: the envelope around every message.

Binary mode (attributes in `ce_*` headers, the body is the data) is what we write; structured mode
(`application/cloudevents+json`, attributes and `data` in one JSON object) is read as well.
Source: CloudEvents Kafka Protocol Binding 1.0.2, sections 3.2 and 3.3.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

STRUCTURED = "application/cloudevents+json"
BINARY = "application/json"
MAX_BODY_BYTES = 1 << 20
"""A larger message is poison: no HR record needs a mebibyte, and a mistake should not fill the store."""
MAX_AHEAD = timedelta(days=1)
"""How far the time of an event may be ahead of the clock of whoever reads it."""

Headers = tuple[tuple[str, bytes], ...]


class EnvelopeError(ValueError):
    """The record is no CloudEvent that we can read; `code` is stable and fit for a metric, the text is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Envelope:
    """The attributes of one event, and its body still as bytes.

    `subject` is the person the event is about and the key of its record. `time` is when the source stated it.
    `correlation_id` follows one change from the HR event to the last SCIM answer.
    """

    id: str
    source: str
    type: str
    time: datetime
    subject: str = ""
    correlation_id: str = ""
    traceparent: str = ""
    data: bytes = b""

    @property
    def key(self) -> str:
        """What makes the event unique: CloudEvents 1.0 says `source` and `id` together."""
        return f"{self.source}#{self.id}"

    def headers(self) -> Headers:
        """The attributes as Kafka headers, binary mode."""
        pairs = [
            ("content-type", BINARY.encode()),
            ("ce_specversion", b"1.0"),
            ("ce_id", self.id.encode()),
            ("ce_source", self.source.encode()),
            ("ce_type", self.type.encode()),
            ("ce_time", timestamp(self.time).encode()),
        ]
        if self.subject:
            pairs.append(("ce_subject", self.subject.encode()))
        if self.correlation_id:
            pairs.append(("ce_correlationid", self.correlation_id.encode()))
        if self.traceparent:
            pairs.append(("traceparent", self.traceparent.encode()))
        return tuple(pairs)


class Message(NamedTuple):
    """One record on its way to a topic. Order within a sequence of messages is kept per key."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers = ()


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, the one form in which we write an instant."""
    return _text(moment if moment.tzinfo is UTC else moment.astimezone(UTC))


@lru_cache(maxsize=4096)
def _text(utc: datetime) -> str:
    """The same instants are written again and again: when an event was stated, when a batch was decided."""
    day = f"{utc.year:04}-{utc.month:02}-{utc.day:02}"  # half of what `isoformat` takes without its offset
    return f"{day}T{utc.hour:02}:{utc.minute:02}:{utc.second:02}.{utc.microsecond:06}Z"


def instant(text: str) -> datetime:
    """Parse RFC 3339. Raises ValueError for a time without zone: nobody can say when that is."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment


_ATTRIBUTES = frozenset(
    {"ce_id", "ce_source", "ce_type", "ce_specversion", "ce_time", "ce_subject", "ce_correlationid"}
)
_VERSION = re.compile(r"\d{1,3}(\.\d{1,3}){0,2}")
"""Headers and versions that may be named. Any other text is the sender's, and may be about a person: reasons are kept
for long, and read by many."""


def read_envelope(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> Envelope:
    """Read either mode. Raises EnvelopeError for anything that is not a complete CloudEvent 1.0."""
    if value is None:
        raise EnvelopeError("tombstone", "the record has no body")
    if len(value) > MAX_BODY_BYTES:
        raise EnvelopeError("too_large", f"the body has {len(value)} bytes, the limit is {MAX_BODY_BYTES}")
    attributes: dict[str, str] = {}
    content_type = ""
    for name, raw in headers:
        if raw is None:
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            if name.startswith("ce_"):
                shown = name if name in _ATTRIBUTES else "ce_?"
                raise EnvelopeError("undecodable", f"header {shown} is not UTF-8") from None
            continue
        if name.startswith("ce_"):
            attributes[name[3:]] = text
        elif name == "content-type":
            content_type = text
        elif name == "traceparent":
            attributes["traceparent"] = text
    if content_type.startswith(STRUCTURED):
        return _structured(value, attributes.get("traceparent", ""))
    return _envelope(attributes, value)


def _structured(value: bytes, traceparent: str) -> Envelope:
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise EnvelopeError("undecodable", f"the body is not JSON: {error}") from None
    if not isinstance(event, dict):
        raise EnvelopeError("undecodable", "a structured CloudEvent is a JSON object")
    attributes = {name: text for name, text in event.items() if isinstance(text, str) and name != "data"}
    attributes.setdefault("traceparent", traceparent)
    return _envelope(attributes, orjson.dumps(event.get("data")))


def _envelope(attributes: Mapping[str, str], data: bytes) -> Envelope:
    for name in ("specversion", "id", "source", "type"):
        if not attributes.get(name):
            raise EnvelopeError("missing_attribute", f"the CloudEvents attribute {name} is missing")
    if attributes["specversion"] != "1.0":
        told = attributes["specversion"] if _VERSION.fullmatch(attributes["specversion"]) else "of another version"
        raise EnvelopeError("unknown_version", f"CloudEvents {told} is not supported, 1.0 is")
    if "\x00" in attributes["id"] or "\x00" in attributes["source"]:
        raise EnvelopeError("undecodable", "the CloudEvents id or source holds a NUL character")
    if not attributes.get("time"):
        raise EnvelopeError(
            "missing_attribute", "the CloudEvents attribute time is missing: it decides which event wins"
        )
    try:
        time = datetime.fromisoformat(attributes["time"])
    except ValueError:  # which would quote the text
        told = "the CloudEvents attribute time is no instant as RFC 3339 writes it, like 2026-03-02T08:00:00Z"
        raise EnvelopeError("bad_time", told) from None
    if time.tzinfo is None:
        raise EnvelopeError("bad_time", "the CloudEvents attribute time has no time zone")
    return Envelope(
        id=attributes["id"],
        source=attributes["source"],
        type=attributes["type"],
        time=time,
        subject=attributes.get("subject", ""),
        correlation_id=attributes.get("correlationid", ""),
        traceparent=attributes.get("traceparent", ""),
        data=data,
    )


def structured(envelope: Envelope) -> dict[str, Any]:
    """The event as one JSON object (structured mode), the form of `jml events send` and of the samples."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.type,
        "time": timestamp(envelope.time),
    }
    if envelope.subject:
        event["subject"] = envelope.subject
    if envelope.correlation_id:
        event["correlationid"] = envelope.correlation_id
    event["data"] = orjson.loads(envelope.data)
    return event
