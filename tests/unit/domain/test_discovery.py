"""What applications say of themselves, and where a mapping does not fit."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.discovery import (
    RFC,
    Capabilities,
    misalignments,
    read_attributes,
    read_capabilities,
    read_endpoints,
)

URN = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
CORE = "urn:ietf:params:scim:schemas:core:2.0:User"
SCHEMAS: dict[str, Any] = {
    "Resources": [
        {
            "id": CORE,
            "name": "User",
            "attributes": [
                {"name": "userName", "required": True, "mutability": "readWrite"},
                {
                    "name": "name",
                    "subAttributes": [{"name": "givenName"}, {"name": "formatted", "mutability": "readOnly"}],
                },
                {"name": "groups", "multiValued": True, "mutability": "readOnly"},
                {"name": "emails", "multiValued": True, "required": True},
                {"name": "title", "mutability": "readOnly"},
            ],
        },
        {"id": URN, "name": "EnterpriseUser", "attributes": [{"name": "department"}]},
        {"id": "urn:ietf:params:scim:schemas:core:2.0:Group", "name": "Group", "attributes": [{"name": "displayName"}]},
    ]
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["patch", "bulk", "filter", "supported", "maxResults", "Resources", "name", "id"]), inner
        )
    ),
)


def test_a_configuration_is_read() -> None:
    body = {
        "patch": {"supported": True},
        "bulk": {"supported": "false", "maxOperations": 0, "maxPayloadSize": 1000},
        "filter": {"supported": True, "maxResults": 50},
        "etag": {"supported": False},
        "pagination": {"cursor": True},
    }
    expected = Capabilities(
        patch=True, bulk=False, bulk_bytes=1000, filter=True, max_results=50, etag=False, cursor=True
    )
    assert read_capabilities(body) == expected
    assert read_capabilities({"Resources": [body]}) == expected
    assert read_capabilities(None) == Capabilities()


@settings(deadline=None)
@given(body=st.dictionaries(st.sampled_from(["patch", "bulk", "filter", "Resources", "pagination"]), anything))
def test_nothing_an_application_says_can_hurt(body: dict[str, Any]) -> None:
    found = read_capabilities(body)
    assert found.max_results is None or found.max_results > 0
    users, groups = read_endpoints(body)
    assert users.startswith("/")
    assert groups.startswith("/")
    read_attributes(body)


def test_who_knows_better_goes_first() -> None:
    assert Capabilities(patch=False).over(Capabilities(patch=True, etag=True)).over(RFC) == Capabilities(
        patch=False, put=True, bulk=False, filter=True, max_results=100, sort=False, etag=True, cursor=False
    )


def test_endpoints_are_obeyed_and_other_hosts_are_not() -> None:
    assert read_endpoints({"Resources": [{"name": "User", "endpoint": "/scim/v2/People"}]}) == ("/People", "/Groups")
    assert read_endpoints({"Resources": [{"id": "User", "endpoint": "https://evil.example/Users"}]}) == (
        "/Users",
        "/Groups",
    )


@pytest.mark.parametrize(
    ("mapped", "troubles"),
    [
        (("userName", "emails", "externalId"), []),
        (("userName", "emails", "name.givenName", "enterprise.department"), []),
        (("userName", "emails", "nickName"), [("nickName", "unknown")]),
        (("userName", "emails", "enterprise.costCenter"), [("enterprise.costCenter", "unknown")]),
        (("userName", "emails", "title"), [("title", "read-only")]),
        (("userName", "emails", "name.formatted"), [("name.formatted", "read-only")]),
        (("userName", "emails", "name.middleName"), [("name.middleName", "unknown")]),
        (("userName",), [("emails", "required")]),
    ],
)
def test_where_a_mapping_does_not_fit(mapped: tuple[str, ...], troubles: list[tuple[str, str]]) -> None:
    attributes = read_attributes(SCHEMAS)
    assert attributes is not None
    assert misalignments(mapped, attributes) == troubles


def test_a_server_without_schemas_says_nothing() -> None:
    assert read_attributes({"Resources": []}) is None
    assert read_attributes(None) is None
