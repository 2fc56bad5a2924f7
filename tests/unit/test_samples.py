"""The samples are documentation that runs: a good one is read and validated, a bad one refused with its reason."""

from pathlib import Path

import orjson
import pytest
from pydantic import ValidationError

from schemas.changes import BY_TYPE, CHANGES, Change
from schemas.envelope import MAX_BODY_BYTES, STRUCTURED, Envelope, EnvelopeError, read_envelope, structured

SAMPLES = Path(__file__).parents[1] / "samples"
GOOD = sorted((SAMPLES / "events").iterdir())
BAD = sorted((SAMPLES / "bad").iterdir())

REFUSED_ENVELOPE = {
    "missing_id.json": "missing_attribute",
    "time_without_zone.json": "bad_time",
    "undecodable.bin": "undecodable",
    "unknown_specversion.json": "unknown_version",
}
REFUSED_TYPE = {"unknown_type_version.json": "jml.worker.joined.v9"}
REFUSED_DATA = {
    "end_before_start.json": ((), "contract_end 2026-03-15 is before start_date 2026-03-16"),
    "ends_at_without_zone.json": (("ends_at",), "should have timezone info"),
    "missing_worker_id.json": (("worker_id",), "Field required"),
    "nul_in_name.json": (("attributes", "given_name"), "holds a NUL character"),
}


def envelope(value: bytes) -> Envelope:
    return read_envelope(value, [("content-type", STRUCTURED.encode())])


def change(event: Envelope) -> Change:
    return BY_TYPE[event.type].model_validate_json(event.data)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_sample_is_read_and_validated(path: Path) -> None:
    event = envelope(path.read_bytes())
    assert event.type == change(event).TYPE
    assert read_envelope(event.data, event.headers()) == event, "binary mode says the same"
    assert envelope(orjson.dumps(structured(event))) == event, "and so does structured mode, written by us"


def test_every_message_type_has_a_sample() -> None:
    assert {envelope(path.read_bytes()).type for path in GOOD} == {change.TYPE for change in CHANGES}


def test_right_to_left_characters_are_kept_as_they_are() -> None:
    event = envelope((SAMPLES / "events" / "worker_joined_right_to_left.json").read_bytes())
    stated = change(event).model_dump(mode="json")["attributes"]
    assert (stated["given_name"], stated["family_name"]) == ("نور", "בן־חיים")
    assert stated["display_name"].startswith("\u202e")


def test_every_bad_sample_has_a_reason() -> None:
    assert {path.name for path in BAD} == REFUSED_ENVELOPE.keys() | REFUSED_TYPE.keys() | REFUSED_DATA.keys()


@pytest.mark.parametrize(("name", "code"), REFUSED_ENVELOPE.items())
def test_a_bad_envelope_is_refused_with_its_code(name: str, code: str) -> None:
    with pytest.raises(EnvelopeError) as refused:
        envelope((SAMPLES / "bad" / name).read_bytes())
    assert refused.value.code == code


@pytest.mark.parametrize(("name", "type_"), REFUSED_TYPE.items())
def test_an_unknown_version_of_a_type_is_read_but_has_no_schema(name: str, type_: str) -> None:
    event = envelope((SAMPLES / "bad" / name).read_bytes())
    assert event.type == type_
    assert type_ not in BY_TYPE


@pytest.mark.parametrize(("name", "where_and_what"), REFUSED_DATA.items())
def test_bad_data_is_refused_where_it_is_wrong(name: str, where_and_what: tuple[tuple[str, ...], str]) -> None:
    where, what = where_and_what
    event = envelope((SAMPLES / "bad" / name).read_bytes())
    with pytest.raises(ValidationError) as refused:
        change(event)
    (error,) = refused.value.errors()
    assert error["loc"] == where
    assert what in error["msg"]


def test_a_message_of_five_megabytes_is_refused_before_it_is_parsed() -> None:
    for value in (b"{" * (5 << 20), b" " * (MAX_BODY_BYTES + 1)):
        with pytest.raises(EnvelopeError) as refused:
            envelope(value)
        assert refused.value.code == "too_large"
