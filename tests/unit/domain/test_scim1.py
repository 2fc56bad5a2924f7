"""The codec of SCIM 1.1 against the examples of its drafts, and against a server's way of applying it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.demo.servers.patching import ENTERPRISE
from orchestrator.demo.servers.vendor import _from_1, _merged
from orchestrator.domain import scim1

emails = st.lists(
    st.fixed_dictionaries({"value": st.sampled_from(["a@b", "c@d", "e@f"]), "type": st.sampled_from(["work", "home"])}),
    unique_by=lambda one: one["value"],
    min_size=1,
    max_size=3,
)
resources = st.fixed_dictionaries(
    {"userName": st.sampled_from(["ada", "bea"])},
    optional={
        "title": st.text(min_size=1, max_size=3),
        "name": st.fixed_dictionaries({"givenName": st.sampled_from("AB")}, optional={"familyName": st.just("K")}),
        "emails": emails,
        ENTERPRISE: st.fixed_dictionaries(
            {"department": st.sampled_from(["R", "S"])},
            optional={"manager": st.fixed_dictionaries({"value": st.sampled_from(["1", "2"])})},
        ),
    },
)


def test_a_create_names_the_schemas_of_its_version() -> None:
    body = scim1.create({"userName": "ada", ENTERPRISE: {"department": "R", "manager": {"value": "17"}}})
    assert body == {
        "schemas": ["urn:scim:schemas:core:1.0", "urn:scim:schemas:extension:enterprise:1.0"],
        "userName": "ada",
        "active": True,
        "urn:scim:schemas:extension:enterprise:1.0": {"department": "R", "manager": {"managerId": "17"}},
    }


def test_a_patch_is_a_partial_resource_and_names_what_goes() -> None:
    held = {"title": "T", "name": {"givenName": "A", "familyName": "K"}, "emails": [{"value": "a@b", "type": "work"}]}
    wanted = {"name": {"givenName": "B"}, "emails": [{"value": "c@d", "type": "work"}]}
    assert scim1.change(held, wanted, active=False) == {
        "schemas": ["urn:scim:schemas:core:1.0"],
        "active": False,
        "name": {"givenName": "B"},
        "emails": [{"value": "a@b", "type": "work", "operation": "delete"}, {"value": "c@d", "type": "work"}],
        "meta": {"attributes": ["name.familyName", "title"]},
    }


def test_what_goes_of_an_extension_is_named_with_its_schema() -> None:
    """draft-scim-api-01, section 3.10: the schema, a colon, the attribute."""
    body = scim1.change({ENTERPRISE: {"department": "R", "manager": {"value": "7"}}}, {}, active=None)
    assert body is not None
    enterprise = "urn:scim:schemas:extension:enterprise:1.0"
    assert body["meta"] == {"attributes": [f"{enterprise}:department", f"{enterprise}:manager"]}


def test_nothing_is_sent_for_nothing() -> None:
    assert scim1.change({"title": "T"}, {"title": "T"}, active=None) is None


def test_members_come_and_go_by_themselves() -> None:
    assert scim1.members(["1"], ["2"]) == {
        "schemas": ["urn:scim:schemas:core:1.0"],
        "members": [{"value": "1"}, {"value": "2", "operation": "delete"}],
    }


@settings(deadline=None)
@given(held=resources, wanted=resources)
def test_a_server_of_1_1_holds_afterwards_what_is_wanted(held: dict[str, Any], wanted: dict[str, Any]) -> None:
    body = scim1.change(held, wanted, active=None)
    after = held if body is None else _merged({**held}, _from_1(body))
    assert _sorted(after) == _sorted(wanted)


@settings(deadline=None)
@given(resource=resources)
def test_what_is_written_is_read_back(resource: dict[str, Any]) -> None:
    written = scim1.replace(resource)
    assert {name: value for name, value in scim1.read(written).items() if name != "schemas"} == resource


def _sorted(resource: dict[str, Any]) -> dict[str, Any]:
    listed = sorted(resource.get("emails", []), key=lambda one: str(one["value"]))
    return {**resource, "emails": listed}
