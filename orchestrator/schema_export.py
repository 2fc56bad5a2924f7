"""The contracts as documents, generated from the code: JSON Schemas, CloudEvents headers, AsyncAPI.

Nothing here is written by hand twice: models give the schemas, `schemas.topics` the channels, `schemas.groups` the
readers. Rules between fields (an end before its start) have no JSON Schema; `jml schema check` knows them all.
"""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from orchestrator.release import release
from schemas.audit import AuditEntry
from schemas.changes import CHANGES
from schemas.commands import AccountCommand
from schemas.groups import groups
from schemas.notices import Notice
from schemas.topics import AUDIT_CHECKPOINTS, HR_EVENTS, IDP_EVENTS, QUARANTINE, Topic, topics

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI = "3.0.0"
MESSAGES: tuple[type[BaseModel], ...] = (*CHANGES, AccountCommand, Notice, AuditEntry)
_FROM_OUTSIDE = (HR_EVENTS, IDP_EVENTS)


def documents(apps: tuple[str, ...]) -> dict[str, Any]:
    """Every document by its path: what `jml schema export` writes."""
    return {
        **{f"messages/{type_of(model)}.json": message_schema(model) for model in MESSAGES},
        "cloudevents-headers.json": {
            "$schema": DIALECT,
            "$id": "urn:jml:schema:cloudevents-headers",
            **headers_schema(),
        },
        "asyncapi.json": asyncapi(apps),
    }


def type_of(model: type[BaseModel]) -> str:
    """The CloudEvents type of a message."""
    name: str = model.TYPE  # type: ignore[attr-defined]  # every message has one, a test says so
    return name


def message_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a message's data."""
    name = type_of(model)
    schema = model.model_json_schema()
    return {
        "$schema": DIALECT,
        "$id": f"urn:jml:schema:{name}",
        "title": schema.pop("title"),
        "description": _about(model),
        "version": _version(name),
        **{key: value for key, value in schema.items() if key != "description"},
    }


def headers_schema(type_: str | None = None) -> dict[str, Any]:
    """The headers of a record in CloudEvents binary mode, for one type of message or for all."""
    text = {"type": "string", "minLength": 1}
    return {
        "title": "CloudEvents 1.0 headers",
        "description": "Kafka headers in CloudEvents binary mode; source and id together make an event unique.",
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"],
        "properties": {
            "content-type": {"const": "application/json"},
            "ce_specversion": {"const": "1.0"},
            "ce_id": text,
            "ce_source": text,
            "ce_type": text if type_ is None else {"const": type_},
            "ce_time": {
                "type": "string",
                "format": "date-time",
                "description": "When the source stated it, with its zone: the latest statement wins.",
            },
            "ce_subject": {"type": "string", "description": "The person it is about"},
            "ce_correlationid": {
                "type": "string",
                "description": "Follows one change from the HR event to the last SCIM answer; else the id does.",
            },
            "traceparent": {"type": "string", "description": "W3C Trace Context"},
        },
    }


def asyncapi(apps: tuple[str, ...]) -> dict[str, Any]:
    """All topics with their messages, and who sends and receives, for the connected applications `apps`."""
    every = topics(apps)
    _, schemas = models_json_schema(
        [(model, "validation") for model in MESSAGES], ref_template="#/components/schemas/{model}"
    )
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "jml-orchestrator",
            "version": release(),
            "description": "Joiner, mover and leaver events in, SCIM commands out, every step audited. "
            "Messages are CloudEvents 1.0 in binary mode; structured mode is accepted too.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in every},
        "operations": {**_sends(every), **_receives(apps)},
        "components": {
            "messages": {
                **{model.__name__: _message(model) for model in MESSAGES},
                "Quarantined": _QUARANTINED,
                "Checkpoint": _CHECKPOINT,
            },
            "schemas": schemas["$defs"],
        },
    }


_QUARANTINED: dict[str, Any] = {
    "name": "quarantined",
    "title": "A record that nobody could read",
    "summary": "The original key, bytes and headers; the reason is in headers of its own.",
    "contentType": "application/octet-stream",
    "headers": {
        "type": "object",
        "required": ["quarantine-code", "quarantine-reason", "quarantine-record"],
        "properties": {
            "quarantine-code": {"type": "string", "description": "A stable code, fit for a metric"},
            "quarantine-reason": {"type": "string"},
            "quarantine-record": {"type": "string", "description": "TOPIC/PARTITION/OFFSET of the original"},
        },
    },
    "payload": {},
}


_CHECKPOINT: dict[str, Any] = {
    "name": "checkpoint",
    "title": "A signed checkpoint of the audit log",
    "summary": "Origin, size and root hash as a signed note (C2SP tlog-checkpoint).",
    "contentType": "text/plain",
    "payload": {"type": "string"},
}


def _message(model: type[BaseModel]) -> dict[str, Any]:
    name = type_of(model)
    return {
        "name": name,
        "title": model.__name__,
        "summary": _about(model),
        "contentType": "application/json",
        "headers": headers_schema(name),
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "title": topic.name,
        "description": topic.about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _message_names(topic)},
        "bindings": {"kafka": _kafka_binding(topic)},
    }


def _message_names(topic: Topic) -> list[str]:
    without_model = {QUARANTINE: "Quarantined", AUDIT_CHECKPOINTS: "Checkpoint"}
    if topic.name in without_model:
        return [without_model[topic.name]]
    return [model.__name__ for model in topic.messages]


def _kafka_binding(topic: Topic) -> dict[str, Any]:
    settings: dict[str, Any] = {"retention.ms": topic.retention_ms}
    for name, value in topic.settings.items():
        settings[name] = value.split(",") if name == "cleanup.policy" else int(value)
    binding = {"topic": topic.name, "topicConfiguration": settings, "bindingVersion": "0.5.0"}
    return binding if topic.partitions is None else {**binding, "partitions": topic.partitions}


def _sends(every: Iterable[Topic]) -> dict[str, Any]:
    """What the orchestrator writes: everything but what HR systems and identity providers do."""
    return {
        f"send.{topic.name}": _operation("send", topic.name, topic.about)
        for topic in every
        if topic.name not in _FROM_OUTSIDE
    }


def _receives(apps: tuple[str, ...]) -> dict[str, Any]:
    """What the orchestrator reads, by consumer group."""
    return {
        f"{group}.{name}": {
            **_operation("receive", name, f"Read by the consumer group {group}"),
            "bindings": {
                "kafka": {"groupId": {"type": "string", "const": group}, "bindingVersion": "0.5.0"},
            },
        }
        for group, names in groups(apps).items()
        for name in names
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _about(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _version(name: str) -> int:
    found = re.search(r"\.v(\d+)$", name)
    assert found is not None, f"{name} has no version"
    return int(found.group(1))
