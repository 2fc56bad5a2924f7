"""What applications answer, read whatever it looks like."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.paths import ENTERPRISE
from orchestrator.domain.scim_read import LENIENT, STRICT, read_page, read_resource, scim_type

STRICT_BUT_FOR_SCHEMAS = replace(STRICT, no_schemas=True)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "active", "name", "emails", "manager", "urn:x", "schemas"]), inner)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(rows=st.lists(json, max_size=5))
def test_no_row_fails_a_page(rows: list[Any]) -> None:
    good = {"id": "17", "schemas": ["x"], "userName": "ada"}
    for tolerance in (LENIENT, STRICT):
        page = read_page({"totalResults": 9, "Resources": [*rows, good]}, tolerance)
        assert page is not None
        assert page.rows[-1] == good
        assert page.received == len(rows) + 1
        assert all(isinstance(row["id"], str) and row["id"] for row in page.rows)


@pytest.mark.parametrize(
    ("row", "read"),
    [
        ({"id": 17}, {"id": "17"}),
        ({"id": "x", "active": "False"}, {"id": "x", "active": False}),
        ({"id": "x", "active": "perhaps"}, {"id": "x", "active": "perhaps"}),
        ({"id": "x", "name": "Ada"}, {"id": "x", "name": {"formatted": "Ada"}}),
        ({"id": "x", "emails": "a@b"}, {"id": "x", "emails": [{"value": "a@b"}]}),
        ({"id": "x", "emails": ["a@b"]}, {"id": "x", "emails": [{"value": "a@b"}]}),
        ({"id": "x", "emails": {"value": "a@b"}}, {"id": "x", "emails": [{"value": "a@b"}]}),
        ({"id": "x", "emails": None}, {"id": "x", "emails": None}),
        ({"id": "g", "members": ["1", "2"]}, {"id": "g", "members": [{"value": "1"}, {"value": "2"}]}),
        (
            {"id": "g", "Members": [{"Value": "1", "Type": "Group"}]},
            {"id": "g", "members": [{"value": "1", "type": "Group"}]},
        ),
        (
            {"id": "x", "emails": [{"value": "a", "primary": "true"}]},
            {"id": "x", "emails": [{"value": "a", "primary": True}]},
        ),
        ({"id": "x", "urn:e": {"manager": "7"}}, {"id": "x", "urn:e": {"manager": {"value": "7"}}}),
        (
            {"ID": "x", "USERNAME": "ada", "Name": {"GivenName": "Ada"}, "Emails": [{"Value": "a", "Primary": "True"}]},
            {"id": "x", "userName": "ada", "name": {"givenName": "Ada"}, "emails": [{"value": "a", "primary": True}]},
        ),
        (
            {"Id": 7, "Active": "false", ENTERPRISE.upper(): {"EmployeeNumber": "1", "Manager": "7"}},
            {"id": "7", "active": False, ENTERPRISE: {"employeeNumber": "1", "manager": {"value": "7"}}},
        ),
        ({"id": "x", "urn:e": {"Department": "R"}, "Badge": 1}, {"id": "x", "urn:e": {"Department": "R"}, "Badge": 1}),
    ],
)
def test_what_is_tolerated(row: dict[str, Any], read: dict[str, Any]) -> None:
    assert read_resource(row, LENIENT) == read


@pytest.mark.parametrize("row", [{"id": 17, "schemas": []}, {"id": "x"}, {"id": "", "schemas": []}, {}, 7, None])
def test_what_the_strict_do_not_take(row: Any) -> None:
    assert read_resource(row, STRICT) is None


@pytest.mark.parametrize("identity", [True, "", ".", "..", None, 1.5])
def test_what_is_no_id(identity: object) -> None:
    assert read_resource({"id": identity}, LENIENT) is None


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ({"totalResults": 0}, 0),
        ({"totalResults": "0", "Resources": None}, 0),
        ({"schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"]}, 0),
        ({"Resources": [{"id": "x"}]}, 1),
        ({"totalResults": 5}, None),
        ({"Resources": {}}, None),
        ({"detail": "no"}, None),
        (None, None),
    ],
)
def test_what_is_a_list(body: dict[str, Any] | None, rows: int | None) -> None:
    page = read_page(body, LENIENT)
    assert (None if page is None else len(page.rows)) == rows


def test_a_list_without_a_total_is_none_to_the_strict() -> None:
    assert read_page({"Resources": []}, STRICT) is None


def test_the_keyword_of_an_error() -> None:
    assert scim_type({"scimType": "uniqueness"}) == "uniqueness"
    assert scim_type({"Errors": [{"code": "400", "scimType": "tooMany"}]}) == "tooMany"
    assert scim_type({"Errors": ["x"], "scimType": 7}) is None
    assert scim_type(None) is None


def test_names_come_in_any_case() -> None:
    """RFC 7643, section 2.1."""
    page = read_page({"TotalResults": 1, "resources": [{"ID": "1"}], "NextCursor": "c"}, STRICT_BUT_FOR_SCHEMAS)
    assert page is not None
    assert (page.total, page.rows, page.cursor) == (1, [{"id": "1"}], "c")
    assert scim_type({"ScimType": "noTarget"}) == "noTarget"
    assert scim_type({"errors": [{"scimtype": "uniqueness"}]}) == "uniqueness"
