"""The exported contracts, held against the standards that they claim and against the samples."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest

from orchestrator.cli import services
from orchestrator.schema_export import MESSAGES, asyncapi, documents, headers_schema, message_schema, type_of
from schemas.changes import BY_TYPE
from schemas.envelope import STRUCTURED, Envelope, read_envelope
from schemas.groups import groups
from schemas.topics import topics
from tests.unit.cli.console import NOW, Jml

SAMPLES = Path(__file__).parents[2] / "samples"
APPS = ("crm", "wiki")


def sample(path: Path) -> Envelope:
    return read_envelope(path.read_bytes(), [("content-type", STRUCTURED.encode())])


@pytest.mark.parametrize("model", MESSAGES, ids=type_of)
def test_every_message_has_a_schema_with_title_id_and_version(model: Any) -> None:
    schema = message_schema(model)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == model.__name__
    assert schema["$id"] == f"urn:jml:schema:{model.TYPE}"
    assert schema["version"] == 1
    assert schema["description"]


@pytest.mark.parametrize("path", sorted((SAMPLES / "events").iterdir()), ids=lambda path: path.stem)
def test_good_samples_are_valid_by_the_exported_schemas_too(path: Path) -> None:
    envelope = sample(path)
    jsonschema.validate(orjson.loads(envelope.data), message_schema(BY_TYPE[envelope.type]))
    headers = {name: value.decode() for name, value in envelope.headers()}
    jsonschema.validate(headers, headers_schema(envelope.type))


def test_a_missing_field_is_refused_by_the_exported_schema_too() -> None:
    envelope = sample(SAMPLES / "bad" / "missing_worker_id.json")
    with pytest.raises(jsonschema.ValidationError, match="'worker_id' is a required property"):
        jsonschema.validate(orjson.loads(envelope.data), message_schema(BY_TYPE[envelope.type]))


def test_the_document_is_asyncapi() -> None:
    schema = orjson.loads((SAMPLES / "asyncapi-spec" / "schema.json").read_bytes())
    jsonschema.validate(asyncapi(APPS), schema, cls=jsonschema.Draft7Validator)


def test_the_document_has_every_topic_and_every_reader() -> None:
    document = asyncapi(APPS)
    assert set(document["channels"]) == {topic.name for topic in topics(APPS)}
    reads = {
        (one["bindings"]["kafka"]["groupId"]["const"], one["channel"]["$ref"].removeprefix("#/channels/"))
        for one in document["operations"].values()
        if one["action"] == "receive"
    }
    assert reads == {(group, topic) for group, names in groups(APPS).items() for topic in names}
    audit = document["channels"]["audit.entries"]["bindings"]["kafka"]
    assert audit["partitions"] == 1
    assert audit["topicConfiguration"] == {"retention.ms": -1, "cleanup.policy": ["delete"]}


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi(APPS)
    found = list(references(document))
    assert found
    for reference in found:
        at: Any = document
        for step in reference.removeprefix("#/").split("/"):
            at = at[step]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def test_export_writes_the_documents_of_the_configured_applications(jml: Jml, configured: Path) -> None:
    written = jml("schema", "export", "contracts", "--json").json
    assert written["files"] == sorted(documents(APPS))
    for name in written["files"]:
        assert orjson.loads(Path("contracts", name).read_bytes())
    assert "scim.wiki.provision" in orjson.loads(Path("contracts/asyncapi.json").read_bytes())["channels"]
    configured.unlink()
    assert jml("schema", "export", "other").code == 0, "without a configuration there is an example application"
    assert "scim.directory.provision" in orjson.loads(Path("other/asyncapi.json").read_bytes())["channels"]
    jml("schema", "export", "--config", "missing.toml").refused("missing.toml: no such file")
    Path("file").touch()
    jml("schema", "export", "file/contracts").refused("cannot be written")


def test_check_counts_good_events_and_names_bad_ones(jml: Jml, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "now", lambda: NOW + timedelta(days=366))
    good = [orjson.dumps(orjson.loads(one.read_bytes())) for one in sorted((SAMPLES / "events").iterdir())]
    (folder / "good.jsonl").write_bytes(b"\n".join(good))
    assert jml("schema", "check", "good.jsonl").out == f"{len(good)} events, all good\n"
    (folder / "one.jsonl").write_bytes(good[0])
    assert jml("schema", "check", "one.jsonl").out == "1 event, all good\n"
    bad = orjson.dumps(orjson.loads((SAMPLES / "bad" / "missing_id.json").read_bytes()))
    (folder / "bad.jsonl").write_bytes(b"\n".join((*good, bad)))
    jml("schema", "check", "bad.jsonl").refused(f"bad.jsonl, line {len(good) + 1}: ", f"{len(good)} are good")
    answer = jml("schema", "check", "bad.jsonl", "--json")
    assert answer.code == 2
    assert answer.json["bad"] == 1
    assert answer.json["problems"][0]["line"] == len(good) + 1
