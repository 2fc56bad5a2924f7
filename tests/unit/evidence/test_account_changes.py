"""What happened to accounts, in the forms of other products, held against what those products publish."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from orchestrator.evidence.entra import EntraSummaries
from orchestrator.evidence.entries import NoKeys
from orchestrator.evidence.ocsf import OcsfEvents
from tests.unit.evidence.story import ANN, BOB, EVE, Keys, Story, at, seal

SAMPLES = Path(__file__).parents[2] / "samples"


@cache
def published() -> dict[str, Any]:
    found: dict[str, Any] = get_ocsf_schema("1.8.0")
    return found


@cache
def schema() -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(published())


@cache
def validator(class_uid: int) -> Draft202012Validator:
    found = schema().get_class_schema(schema().lookup_class_name_from_uid(class_uid))
    return Draft202012Validator(found)


@cache
def catalogue() -> dict[str, Any]:
    found: dict[str, Any] = published()["classes"]
    return found


def ocsf(story: Story, *, values: bool = False, keys: Keys | NoKeys | None = None) -> list[dict[str, Any]]:
    """The events, each valid by the published schema."""
    events = OcsfEvents(keys or Keys(), "0.1.0", values=values)
    found = [orjson.loads(orjson.dumps(event)) for one in story.read() for event in events.take(one)]
    for event in found:
        validator(event["class_uid"]).validate(event)
        named = catalogue()[schema().lookup_class_name_from_uid(event["class_uid"])]
        activity = named["attributes"]["activity_id"]["enum"].get(str(event["activity_id"]))
        assert activity is not None
        assert event["activity_id"] == 99 or activity["caption"] == event["activity_name"]
        assert named["caption"].strip() == event["class_name"]
        if entity := event.get("entity"):
            kinds = published()["objects"]["managed_entity"]["attributes"]["type_id"]["enum"]
            assert kinds[str(entity["type_id"])]["caption"] == entity["type"]
    return found


def types(story: Story) -> list[int]:
    return [event["type_uid"] for event in ocsf(story)]


@pytest.fixture
def life() -> Story:
    """Every kind of change of an account."""
    story = Story()
    story.issued(0, ANN, "crm", 1, "active", "staff", event_id="hr#1")
    story.applied(2, ANN, "crm", 1, "active", groups_added=["staff"], sealed=seal(account="r-1", after={"title": "x"}))
    story.issued(3, ANN, "crm", 2, "active", "ops", "dev", command="patch")
    story.applied(
        4,
        ANN,
        "crm",
        2,
        "active",
        calls=[["PATCH", "/Users/{account}", 200]],
        groups_added=["dev", "ops"],
        groups_removed=["staff"],
        sealed=seal(account="r-1", before={"title": "x"}, after={"title": "y"}),
    )
    story.issued(5, ANN, "crm", 3, "inactive")
    story.applied(6, ANN, "crm", 3, "inactive", groups_removed=["dev", "ops"])
    story.issued(7, ANN, "crm", 4, "active", "staff", command="reactivate")
    story.applied(8, ANN, "crm", 4, "active", calls=[["PATCH", "/Users/{account}", 200]], groups_added=["staff"])
    story.issued(9, ANN, "crm", 5, "absent")
    story.applied(10, ANN, "crm", 5, "absent")
    return story


def test_every_change_has_its_class_and_activity(life: Story) -> None:
    assert types(life) == [
        *(300101, 300603),  # create, into a group
        *(300403, 300603, 300603, 300604),  # attributes, into two groups, out of one
        *(300105, 300604, 300604),  # disable
        *(300102, 300603),  # enable
        300106,  # delete
    ]


def test_a_temporary_entitlement_is_granted_and_revoked() -> None:
    story = Story()
    for minute, word in enumerate(("granted", "revoked")):
        entitlement: dict[str, Any] = {
            "type": f"jml.worker.entitlement_{word}.v1",
            "group": "on-call",
            "stated_at": at(minute),
        }
        number = story.tell(minute, "event_received", ANN, event_id="hr#1", **entitlement)
        told = orjson.loads(story.entries[number])
        told["details"]["app"] = "crm"
        story.entries[number] = orjson.dumps(told)
    assert types(story) == [300501, 300502]
    for event in ocsf(story):
        assert event["privileges"] == ["on-call"]
        assert event["resources"] == [{"name": "crm", "type": "application"}]
        assert event["user"] == {"uid": ANN, "type_id": 1}
        assert event["status"] == "Success"


@pytest.fixture
def troubles() -> Story:
    """What does not go as it should: refused, held, rejected, tried again, looked at once more."""
    story = Story()
    story.issued(0, ANN, "crm", 1, "active", "staff", event_id="hr#1")
    fields: dict[str, Any] = {"event_id": "hr#1", "correlation_id": "case-1", "policy": "p1"}
    calls = [["GET", "/Users", 200], ["POST", "/Users", 503]]
    story.tell(1, "call_intended", ANN, "crm", revision=1, state="active", **fields)
    retried = {"code": "unavailable", "attempts": 1, "state": "active", "calls": calls}
    story.tell(2, "command_retried", ANN, "crm", revision=1, **retried, **fields)
    story.tell(3, "call_intended", ANN, "crm", revision=1, state="active", **fields)
    calls = [["POST", "/Users", "bulk", 201]]
    created = {"state": "active", "calls": calls, "groups_added": ["staff"], "sealed": seal(account="r-1")}
    story.tell(4, "command_applied", ANN, "crm", revision=1, **created, **fields)
    story.issued(5, ANN, "crm", 2, "active", "staff", command="patch", event_id="hr#2")
    story.tell(
        6, "command_parked", ANN, "crm", revision=2, code="unavailable", calls=[["GET", "/Users/{account}", 503]]
    )
    held = {"command": "deactivate", "removes": "deactivate", "event_id": "hr#3", "correlation_id": "case-3"}
    story.tell(7, "command_held", ANN, "crm", revision=3, **held)
    rejected = {"actor": "operator:eve", "reason": "a bad import"}
    story.tell(8, "command_rejected", ANN, "crm", revision=3, command="deactivate", removes="deactivate", **rejected)
    story.issued(9, ANN, "crm", 4, "inactive", event_id="hr#4")
    parked = {"code": "not_effective", "reason": "it is active still", "state": "inactive", "leaver": True}
    story.tell(10, "command_parked", ANN, "crm", revision=4, calls=[["PATCH", "/Users/{account}", 200]], **parked)
    story.tell(11, "account_unlinked", ANN, "crm", revision=4, state="inactive", actor="operator:eve", reason="double")
    return story


def test_what_failed_and_what_was_decided_otherwise(troubles: Story) -> None:
    shown = [(one["type_uid"], one["status"], one["severity"]) for one in ocsf(troubles)]
    assert shown == [
        (300101, "Failure", "Medium"),
        (300101, "Success", "Informational"),
        (300603, "Success", "Informational"),
        (300403, "Failure", "Medium"),  # nothing was written, and that is the trouble
        (300105, "Held", "High"),
        (300105, "Failure", "High"),
        (300105, "Failure", "High"),
        (300199, "Success", "Informational"),
    ]


def test_somebody_who_left_before_there_was_an_account_gets_a_new_one_later() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.issued(1, ANN, "crm", 2, "inactive")
    story.applied(2, ANN, "crm", 2, "inactive", calls=[["GET", "/Users", 200]])
    story.issued(3, ANN, "crm", 3, "active", command="reactivate")
    story.applied(4, ANN, "crm", 3, "active")
    assert types(story) == [300101], "and not enabled: there was none"


def test_an_account_that_was_looked_at_and_put_right() -> None:
    """Reconciliation, or a look after a crash, finds what somebody changed by hand, in the application."""
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.applied(1, ANN, "crm", 1, "active", sealed=seal(account="r-1"))
    put_right: dict[str, Any] = {"revision": 1, "state": "active", "calls": [["GET", "/Users/{account}", 200]]}
    story.tell(2, "account_verified", ANN, "crm", **put_right)
    for call in (["PUT", "/Users/{account}", 200], ["POST", "/Users", 201]):
        story.tell(3, "account_verified", ANN, "crm", **{**put_right, "calls": [*put_right["calls"], call]})
    put_right["calls"] = [["PATCH", "/Groups/{id}", 200]]
    story.tell(4, "account_verified", ANN, "crm", groups_added=["staff"], **put_right)
    story.issued(5, ANN, "crm", 2, "inactive")
    story.applied(6, ANN, "crm", 2, "inactive", calls=[["DELETE", "/Users/{account}", 204]])
    closed = {"revision": 2, "state": "inactive"}
    story.tell(7, "account_verified", ANN, "crm", calls=[["GET", "/Users/{account}", 200]], **closed)
    story.tell(8, "account_verified", ANN, "crm", calls=[["PATCH", "/Users/{account}", 200]], **closed)
    story.issued(9, ANN, "crm", 3, "absent")
    story.applied(10, ANN, "crm", 3, "absent", calls=[["DELETE", "/Users/{account}", 404]])
    story.tell(11, "account_verified", ANN, "crm", revision=3, state="absent", calls=[["GET", "/Users", 200]])
    story.tell(
        12, "account_verified", ANN, "crm", revision=3, state="absent", calls=[["DELETE", "/Users/{account}", 204]]
    )
    assert types(story) == [300101, 300403, 300403, 300603, 300105, 300105, 300106, 300106]


def test_an_account_that_was_gone_already_is_deleted_and_one_before_its_first_day_updated() -> None:
    story = Story()
    staged: dict[str, Any] = {"state": "staged", "calls": [["PATCH", "/Users/{account}", 200]]}
    story.tell(0, "command_applied", ANN, "crm", revision=1, **staged)
    story.tell(1, "command_applied", ANN, "crm", revision=2, **staged)
    story.applied(2, ANN, "crm", 3, "inactive")
    story.tell(3, "command_applied", ANN, "crm", revision=4, state="absent", calls=[["GET", "/Users/{account}", 404]])
    assert types(story) == [300101, 300403, 300105, 300106]


def test_attributes_before_and_after_are_told_with_keys_only(life: Story) -> None:
    updated = next(one for one in ocsf(life, values=True) if one["type_uid"] == 300403)
    assert (updated["entity"]["data"], updated["entity_result"]["data"]) == ({"title": "x"}, {"title": "y"})
    updated = next(one for one in ocsf(life) if one["type_uid"] == 300403)
    assert "data" not in updated["entity"]
    assert "entity_result" not in updated


@pytest.mark.parametrize(("name", "values"), [("life", True), ("troubles", False)])
def test_the_events_are_those_of_the_sample(request: pytest.FixtureRequest, name: str, values: bool) -> None:
    """Files to look at: every property of every event."""
    events = ocsf(request.getfixturevalue(name), values=values)
    assert written(events) == (SAMPLES / f"ocsf/{name}.json").read_bytes()


def written(documents: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(one, option=orjson.OPT_INDENT_2) + b"\n" for one in documents)


def test_what_comes_to_nothing_is_no_event() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "inactive")
    story.applied(1, ANN, "crm", 1, "inactive", calls=[])
    story.issued(2, BOB, "crm", 1, "active")
    story.applied(3, BOB, "crm", 1, "active")
    story.tell(4, "account_verified", BOB, "crm", revision=1, state="active", calls=[["GET", "/Users/{account}", 200]])
    story.tell(5, "timer_set", BOB, timer="contract_end", due=at(99))
    assert types(story) == [300101]


@pytest.mark.parametrize(
    ("state", "type_uid", "severity"),
    [("active", 300101, "Medium"), ("inactive", 300105, "High"), ("absent", 300106, "High")],
)
def test_a_failure_is_one_and_a_leavers_is_severe(state: str, type_uid: int, severity: str) -> None:
    story = Story()
    if state != "active":
        story.issued(0, ANN, "crm", 1, "active")
        story.applied(1, ANN, "crm", 1, "active")
    story.issued(2, ANN, "crm", 2, state)
    story.tell(3, "command_parked", ANN, "crm", revision=2, code="rejected", state=state, groups_added=["no"])
    event = ocsf(story)[-1]
    assert (event["type_uid"], event["severity"]) == (type_uid, severity)
    assert (event["status"], event["status_code"]) == ("Failure", "rejected")


def test_what_is_held_has_not_happened() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.applied(1, ANN, "crm", 1, "active")
    story.tell(2, "command_held", ANN, "crm", revision=2, command="deactivate", removes="deactivate")
    story.tell(3, "command_released", ANN, "crm", revision=2, command="deactivate", actor="operator:eve")
    story.issued(3, ANN, "crm", 2, "inactive")
    story.tell(
        4, "command_applied", ANN, "crm", revision=2, state="inactive", calls=[["PATCH", "/Users/{account}", 200]]
    )
    assert [(one["type_uid"], one["status"]) for one in ocsf(story)[1:]] == [(300105, "Held"), (300105, "Success")]


def test_what_was_rejected_and_is_stated_again_is_rejected() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.applied(1, ANN, "crm", 1, "active")
    story.tell(2, "command_held", ANN, "crm", revision=2, command="deactivate", rejected_at=at(1.5))
    assert [(one["type_uid"], one["status_detail"]) for one in ocsf(story)[1:]] == [(300105, "rejected by an operator")]


def test_an_account_that_is_made_before_the_first_day_is_created_and_then_enabled() -> None:
    story = Story()
    story.tell(0, "command_issued", ANN, "crm", revision=1, command="create", state="staged")
    story.tell(1, "command_applied", ANN, "crm", revision=1, state="staged", calls=[["POST", "/Users", 201]])
    story.issued(2, ANN, "crm", 2, "active")
    story.tell(3, "command_applied", ANN, "crm", revision=2, state="active", calls=[["PATCH", "/Users/{account}", 200]])
    assert [one["type_uid"] for one in ocsf(story)] == [300101, 300102]


def test_links_are_other_activities() -> None:
    story = Story()
    story.tell(0, "account_linked", ANN, "crm", actor="operator:eve", reason="double")
    story.tell(1, "account_unlinked", ANN, "crm", actor="operator:eve", reason="double")
    assert [(one["type_uid"], one["activity_name"]) for one in ocsf(story)] == [(300199, "Link"), (300199, "Unlink")]
    assert {one["actor"]["user"]["name"] for one in ocsf(story)} == {"operator:eve"}
    assert [one["provisioningAction"] for one in entra(story)] == ["other", "other"]


def test_an_event_leads_back_to_its_entry_and_its_cause(life: Story) -> None:
    created, joined, *_ = ocsf(life)
    assert created["metadata"]["original_event_uid"] == joined["metadata"]["original_event_uid"] == "w/1/5"
    uids = [event["metadata"]["uid"] for event in ocsf(life)]
    assert len(uids) == len(set(uids))
    assert created["time"] == round(at(2).timestamp() * 1000)
    assert created["start_time"] == round(at(1.9).timestamp() * 1000)
    assert joined["group"] == {"name": "staff", "domain": "crm"}


def test_personal_values_come_out_only_with_keys_and_when_asked_for(life: Story) -> None:
    for shown in (
        ocsf(life),
        ocsf(life, values=True, keys=NoKeys()),
        ocsf(life, values=True, keys=Keys(erased=(ANN,))),
    ):
        assert {event["user"]["uid"] for event in shown if "user" in event} == {ANN}
        assert b"4711" not in orjson.dumps(shown)
        assert b"r-1" not in orjson.dumps(shown)
    created = ocsf(life, values=True)[0]
    assert (created["user"]["uid_alt"], created["user"]["account"]) == ("4711", {"uid": "r-1"})


def test_what_is_not_wanted_still_counts_for_what_follows(life: Story) -> None:
    events = OcsfEvents(NoKeys(), "0.1.0")
    found = [event["type_uid"] for one in life.read() for event in events.take(one, wanted=one.revision == 4)]
    assert found == [300102, 300603], "enable, because it was disabled before"


# --- Entra ------------------------------------------------------------------------------------------------------------

PROPERTIES = {
    "id",
    "activityDateTime",
    "jobId",
    "cycleId",
    "changeId",
    "provisioningAction",
    "durationInMilliseconds",
    "initiatedBy",
    "servicePrincipal",
    "sourceSystem",
    "targetSystem",
    "sourceIdentity",
    "targetIdentity",
    "provisioningStatusInfo",
    "provisioningSteps",
    "modifiedProperties",
}
"""Of provisioningObjectSummary, Microsoft Graph v1.0, without tenantId."""
ACTIONS = {"create", "update", "delete", "stageddelete", "disable", "other"}
RESULTS = {"success", "failure", "skipped", "warning"}
STEPS = {"import", "scoping", "matching", "processing", "referenceResolution", "export"}
INITIATORS = {"user", "application", "system"}


def entra(story: Story, *, values: bool = False, keys: Keys | NoKeys | None = None) -> list[dict[str, Any]]:
    """The summaries, each in the published shape."""
    summaries = EntraSummaries(keys or Keys(), values=values)
    found = [summary for one in story.read() if (summary := summaries.take(one)) is not None]
    for one in found:
        assert one.keys() == PROPERTIES
        assert str(UUID(one["id"])) == one["id"]
        assert one["provisioningAction"] in ACTIONS
        assert one["provisioningStatusInfo"]["status"] in RESULTS
        assert one["initiatedBy"]["initiatorType"] in INITIATORS
        assert one["durationInMilliseconds"] >= 0
        for step in one["provisioningSteps"]:
            assert step.keys() == {"name", "provisioningStepType", "status", "description", "details"}
            assert step["provisioningStepType"] in STEPS
            assert step["status"] in RESULTS
        for changed in one["modifiedProperties"]:
            assert changed.keys() == {"displayName", "oldValue", "newValue"}
            assert all(text is None or isinstance(text, str) for text in changed.values())
        for identity in ("sourceIdentity", "targetIdentity"):
            assert one[identity].keys() == {"id", "displayName", "identityType", "details"}
    return found


def test_every_change_is_one_summary(life: Story) -> None:
    found = entra(life)
    assert [one["provisioningAction"] for one in found] == ["create", "update", "disable", "update", "delete"]
    assert len({one["id"] for one in found}) == 5
    enabled = found[3]["modifiedProperties"]
    assert {"displayName": "active", "oldValue": "false", "newValue": "true"} in enabled


def test_modified_properties_have_values_with_keys_only(life: Story) -> None:
    moved = entra(life, values=True)[1]
    assert {"displayName": "title", "oldValue": "x", "newValue": "y"} in moved["modifiedProperties"]
    assert {"displayName": "groups", "oldValue": "staff", "newValue": "dev,ops"} in moved["modifiedProperties"]
    assert moved["targetIdentity"]["id"] == "r-1"
    for shown in (entra(life), entra(life, values=True, keys=NoKeys())):
        assert b"title" not in orjson.dumps(shown)
        assert b"r-1" not in orjson.dumps(shown)
        assert b"4711" not in orjson.dumps(shown)


def steps(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    return ((step["provisioningStepType"], step["status"]) for step in summary["provisioningSteps"])


def test_a_failure_says_which_step_failed() -> None:
    story = Story()
    story.issued(0, EVE, "crm", 1, "active")
    calls = [["GET", "/Users", 200], ["POST", "/Users", 400]]
    story.tell(1, "command_parked", EVE, "crm", revision=1, code="rejected", reason="400", state="active", calls=calls)
    (failed,) = entra(story)
    assert failed["provisioningStatusInfo"]["errorInformation"]["errorCode"] == "rejected"
    assert list(steps(failed)) == [
        ("import", "success"),
        ("matching", "success"),
        ("export", "failure"),
        ("export", "failure"),
    ]


def test_parts_of_attributes_have_the_names_that_entra_gives_them() -> None:
    story = Story()
    enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
    before = {"name": {"givenName": "Ann", "familyName": "Low"}, enterprise: {"department": "Sales"}, "active": False}
    after = {"name": {"givenName": "Ann", "familyName": "High"}, "emails": [{"value": "a@b.example"}], "active": True}
    story.issued(0, ANN, "crm", 1, "active")
    story.applied(1, ANN, "crm", 1, "active", sealed=seal(before=before, after=after))
    (created,) = entra(story, values=True)
    assert [tuple(one.values()) for one in created["modifiedProperties"]] == [
        ("active", None, "true"),
        ("emails", None, '[{"value":"a@b.example"}]'),
        ("name.familyName", "Low", "High"),
        (f"{enterprise}:department", "Sales", None),
    ]


@pytest.mark.parametrize(("name", "values"), [("life", True), ("troubles", False)])
def test_the_summaries_are_those_of_the_sample(request: pytest.FixtureRequest, name: str, values: bool) -> None:
    """Files to look at, and to hold against Graph's own example."""
    summaries = entra(request.getfixturevalue(name), values=values)
    assert written(summaries) == (SAMPLES / f"entra/{name}.json").read_bytes()


def test_what_comes_to_nothing_is_no_summary(life: Story) -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.applied(1, ANN, "crm", 1, "active")
    story.tell(2, "account_verified", ANN, "crm", revision=1, state="active", calls=[["GET", "/Users/{account}", 200]])
    groups = {"calls": [["PATCH", "/Groups/{id}", 200]], "state": "active"}
    story.tell(3, "account_verified", ANN, "crm", revision=1, groups_removed=["staff"], **groups)
    story.tell(4, "account_verified", ANN, "crm", revision=1, groups_added=["staff"], **groups)
    assert [one["provisioningAction"] for one in entra(story)] == ["create", "other", "other"]
    summaries = EntraSummaries(Keys())
    found = [made for one in life.read() if (made := summaries.take(one, wanted=one.revision == 4)) is not None]
    assert [one["modifiedProperties"][0]["newValue"] for one in found] == ["true"], "enabled: it was disabled before"
