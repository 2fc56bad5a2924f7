"""The least that turns one resource into another, in paths that every server of RFC 7644 knows, applied by one."""

import copy
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.demo.servers.patching import apply
from orchestrator.domain.paths import ENTERPRISE
from orchestrator.domain.scim_diff import is_active, member_operations, operations, project, quoted, value_at, values_at
from orchestrator.domain.scim_read import LENIENT, read_resource

BADGE = "urn:example:hr:1.0:Badge"
SHOP = "urn:example:params:scim:schemas:extension:shop:2.0:User"
_NAME = r"[A-Za-z$][\w$-]*"
_FILTER = rf'{_NAME} eq "(?:[^"\\]|\\.)*"'
PATH = re.compile(rf"(?:(?:{re.escape(ENTERPRISE)}|{BADGE}|{SHOP}):)?{_NAME}(?:\.{_NAME}|\[{_FILTER}\](?:\.{_NAME})?)?")
"""RFC 7644, section 3.5.2, figure 7, with the schemas that are known here; a schema alone is no path."""

texts = st.sampled_from(["a", "b", "c d"])
elements = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["work", "home", "other"]), "value": texts}, optional={"display": texts}
    ),
    min_size=1,
    unique_by=lambda one: one["type"],
)
resources = st.fixed_dictionaries(
    {"userName": texts},
    optional={
        "title": texts,
        "name": st.dictionaries(st.sampled_from(["givenName", "familyName"]), texts, min_size=1),
        "emails": elements,
        ENTERPRISE: st.fixed_dictionaries(
            {}, optional={"department": texts, "manager": st.fixed_dictionaries({"value": texts})}
        ).filter(bool),
        BADGE: st.fixed_dictionaries({"color": texts}),
        SHOP: st.dictionaries(st.sampled_from(["badge", "locker"]), texts, min_size=1),
    },
)


def applied(held: dict[str, Any], changes: list[dict[str, Any]]) -> dict[str, Any]:
    """What a server holds afterwards; an empty value is no value (RFC 7643, section 2.5)."""
    resource = copy.deepcopy(held)
    for one in changes:
        apply(resource, one)
    return {name: _in_order(value) for name, value in resource.items() if value not in ({}, [])}


def _in_order(value: Any) -> Any:
    return sorted(value, key=lambda one: str(one["type"])) if isinstance(value, list) else value


@settings(deadline=None)
@given(held=resources, wanted=resources, filters=st.booleans())
def test_a_server_holds_afterwards_what_is_wanted(held: dict[str, Any], wanted: dict[str, Any], filters: bool) -> None:
    changes = operations(held, wanted, filters=filters)
    assert applied(held, changes) == {name: _in_order(value) for name, value in wanted.items()}
    assert all(PATH.fullmatch(one["path"]) for one in changes), changes
    assert filters or not any("[" in one["path"] for one in changes)
    assert not operations(wanted, wanted, filters=filters)


def test_what_nobody_maps_of_an_extension_stays() -> None:
    there = {SHOP: {"badge": "7", "locker": "the application's own"}, ENTERPRISE: {"division": "its own"}}
    changes = operations({SHOP: {"badge": "7"}}, {ENTERPRISE: {"department": "R"}})
    assert applied(there, changes) == {
        SHOP: {"locker": "the application's own"},
        ENTERPRISE: {"division": "its own", "department": "R"},
    }


def test_only_the_element_that_differs_is_touched() -> None:
    home = {"type": "home", "value": "h@b"}
    held = {"emails": [{"type": "work", "value": "a@b", "primary": True}, home]}
    wanted = {"emails": [{"type": "work", "value": "c@d", "primary": True}, home]}
    assert operations(held, wanted) == [{"op": "replace", "path": 'emails[type eq "work"].value', "value": "c@d"}]


@pytest.mark.parametrize(
    "elements",
    [
        [{"value": "a"}, {"value": "b"}],
        [{"type": "work", "value": "a"}, {"type": "work", "value": "b"}],
        [{"type": 'a"b', "value": "a"}],
        ["a", "b"],
    ],
)
def test_elements_that_no_filter_tells_apart_are_replaced_whole(elements: list[Any]) -> None:
    held = {"emails": [{"type": "work", "value": "x"}]}
    assert operations(held, {"emails": elements}) == [{"op": "replace", "path": "emails", "value": elements}]
    assert operations({"emails": elements}, held) == [{"op": "replace", "path": "emails", "value": held["emails"]}]


@pytest.mark.parametrize("filters", [True, False])
def test_members_come_together_and_go_by_name(filters: bool) -> None:
    group: dict[str, Any] = {"members": [{"value": "1"}, {"value": 'two"\\'}, {"value": "3"}]}
    changes = member_operations(["4", "5"], ['two"\\', "3"], filters=filters)
    assert [one["op"] for one in changes] == (["add", "remove", "remove"] if filters else ["add", "remove"])
    if filters:
        for one in changes:
            apply(group, one)
        assert [one["value"] for one in group["members"]] == ["1", "4", "5"]
    else:
        assert changes[1] == {"op": "remove", "path": "members", "value": [{"value": 'two"\\'}, {"value": "3"}]}
    assert not member_operations([], [], filters=filters)


NAME = {"givenName": "Ada", "familyName": "King"}
WORK = {"value": "a@b", "type": "work", "primary": True}


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        ({"name": "Ada King"}, {"name": NAME}),
        ({"emails": ["a@b"]}, {"emails": [WORK]}),
        ({"emails": "a@b"}, {"emails": [WORK]}),
        ({ENTERPRISE: {"manager": "17"}}, {ENTERPRISE: {"manager": {"value": "17", "displayName": "B"}}}),
    ],
)
def test_a_text_for_an_object_is_no_difference_where_it_says_the_same(
    shown: dict[str, Any], wanted: dict[str, Any]
) -> None:
    read = read_resource({"id": "x", **shown}, LENIENT)
    assert read is not None
    assert project(read, wanted) == wanted


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        ({"name": "Ada Byron"}, {"name": NAME}),
        ({"name": ""}, {"name": NAME}),
        ({"emails": ["c@d"]}, {"emails": [WORK]}),
        ({"emails": ["a@b", "c@d"]}, {"emails": [WORK]}),
        ({"emails": [{"value": "a@b"}]}, {"emails": [WORK]}),
        ({ENTERPRISE: {"manager": "18"}}, {ENTERPRISE: {"manager": {"value": "17"}}}),
    ],
)
def test_a_text_for_an_object_is_a_difference_where_it_says_another_thing(
    shown: dict[str, Any], wanted: dict[str, Any]
) -> None:
    read = read_resource({"id": "x", **shown}, LENIENT)
    assert read is not None
    assert operations(project(read, wanted), wanted)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (("emails",), ["a@b", "c@d"]),
        (("emails", "value"), ["a@b", "c@d"]),
        (("Emails", "TYPE"), ["work"]),
        (("badge",), ["7"]),
        (("active",), []),
        (("userName", "value"), []),
        (("nickName",), []),
        (("emails", "display"), []),
    ],
)
def test_the_texts_at_a_path(path: tuple[str, ...], values: list[str]) -> None:
    resource = {
        "userName": "ada",
        "EMAILS": [{"value": "a@b", "type": "work"}, {"value": "c@d"}],
        "badge": 7,
        "active": True,
        "nickName": "",
    }
    assert values_at(resource, path) == values


def test_the_value_at_a_path() -> None:
    resource = {"Name": {"givenName": "Ada"}, "emails": [{"value": "a@b"}]}
    assert value_at(resource, ("name", "GivenName")) == "Ada"
    assert value_at(resource, ("emails",)) == [{"value": "a@b"}]
    assert value_at(resource, ("emails", "value")) is None
    assert value_at(resource, ("title",)) is None


def test_what_is_shown_in_another_case_is_shown() -> None:
    """RFC 7643, section 2.1; for attributes of an application's own, whose names are read as they come."""
    wanted = {SHOP: {"badge": "7"}, "costObject": "x"}
    assert project({SHOP: {"Badge": "7"}, "COSTOBJECT": "x"}, wanted) == wanted


@pytest.mark.parametrize(
    ("shown", "active"), [(True, True), ("False", False), ("TRUE", True), ("perhaps", None), (None, None), (1, None)]
)
def test_whether_somebody_can_use_an_account(shown: Any, active: bool | None) -> None:
    assert is_active({"Active": shown}) is active
    assert is_active({}) is None


@pytest.mark.parametrize(("text", "written"), [("a", '"a"'), ('o"neil', '"o\\"neil"'), ("a\\b", '"a\\\\b"')])
def test_a_text_in_a_filter_is_escaped(text: str, written: str) -> None:
    assert quoted(text) == written
