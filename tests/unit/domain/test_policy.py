"""Who gets what: CEL over the person, checked at start, harmless when it fails."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.lifecycle import Standing, Status
from orchestrator.domain.paths import ENTERPRISE, nest, split_path
from orchestrator.domain.policy import (
    ApplicationPolicy,
    Desire,
    compile_policy,
    retention_end,
)
from tests.unit.domain.story import app, policy

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def person(status: Status = Status.ACTIVE, **attributes: Any) -> Standing:
    return Standing(status, NOW, "employee", attributes)


def desire(rules: ApplicationPolicy, **attributes: Any) -> Desire | None:
    """What the one application gives; its expressions must not fail."""
    found, failed = policy(rules).desires("w1", person(**attributes))
    assert failed == []
    return found.get(rules.app)


def problem(rules: ApplicationPolicy, **attributes: Any) -> str:
    """How the one application fails for a person."""
    found, [failed] = policy(rules).desires("w1", person(**attributes))
    assert found == {}
    return str(failed)


def test_expressions_see_every_attribute_the_unstated_ones_as_empty_text() -> None:
    attributes = {
        "userName": "person.id",
        "title": "person.title",
        "nickName": "person.custom.badge",
        "userType": "person.kind + ' ' + person.status",
    }
    rules = app(attributes=attributes, groups='["b", "a", "b", person.department]')
    found = desire(rules, **{"title": None, "custom.badge": "7"})
    assert found == Desire("active", {"userName": "w1", "nickName": "7", "userType": "employee active"}, ("a", "b"))


def test_scope_decides_before_anything_else_is_evaluated() -> None:
    rules = app(scope="person.department == 'R&D'", groups="[person.custom.team]")
    assert desire(rules, department="Sales") is None
    assert desire(rules, **{"department": "R&D", "custom.team": "blue"}) is not None


@pytest.mark.parametrize("status", [Status.UNKNOWN, Status.PREHIRE, Status.SUSPENDED, Status.LEFT])
def test_without_standing_nobody_gets_anything_and_nothing_can_fail(status: Status) -> None:
    assert policy(app(scope="person.custom.nonesuch")).desires("w1", person(status)) == ({}, [])


@pytest.mark.parametrize(
    ("settings", "key", "reason"),
    [
        ({"scope": "person.department =="}, "scope", "ERROR"),
        ({"groups": "[peson.department]"}, "groups", "unknown name 'peson'"),
        ({"groups": "[person.department.shout()]"}, "groups", "unknown function 'shout'"),
        ({"scope": "lookup('sites', person.location) != ''"}, "scope", "there is no [lookups.sites]"),
        ({"identity_from": "directory"}, "identity_from", "'directory' is no other application"),
        ({"identity_from": "other", "identity": ("nickName",)}, "identity", "nickName is not among the attributes"),
        ({"scope": "person.department"}, "scope", "`person.department` gives text where true or false belongs"),
        ({"scope": "size(person.title)"}, "scope", "gives a number where true or false belongs"),
        ({"scope": "person.department == 'Sales' ? 'yes' : false"}, "scope", "gives text where"),
        (
            {"scope": 'person.end_date == "" || days_between(person.start_date, person.end_date)'},
            "scope",
            "No such overload",
        ),
        ({"attributes": {"userName": "person.title.x"}}, "attributes.userName", "`person.title.x`: No such overload"),
        ({"attributes": {"userName": "size(5) == 1 ? 'a' : 'b'"}}, "attributes.userName", "'size'"),
        ({"scope": "person.title == 'Boss' && person.title + 1 == ''"}, "scope", "Unsupported operation: string + int"),
        ({"scope": f"'{'long' * 40}'"}, "scope", "longlon...` gives text"),
        ({"groups": "'all'"}, "groups", "`'all'` gives text where a list of names belongs: put it in brackets"),
        ({"groups": "['a', 1]"}, "groups", "gives a list with a number in it where a list of names belongs"),
        ({"groups": "{'a': 'b'}"}, "groups", "gives a map where a list of names belongs"),
        ({"groups": "person.title == 'Boss' ? ['a', ['b']] : []"}, "groups", "a list with a list in it"),
        ({"write_once": ("nickName",)}, "write_once", "nickName is not among the attributes"),
        ({"attributes": {"userName": "'"}}, "attributes.userName", "ERROR"),
        ({"attributes": {"name": "{}", "name.givenName": "'x'"}}, "attributes.name.givenName", "beside name"),
        ({"attributes": {"name..x": "'x'"}}, "attributes.name..x", "empty step"),
        ({"attributes": {"enterprise.": "'x'"}}, "attributes.enterprise.", "empty step"),
    ],
)
def test_mistakes_are_found_at_start_and_named(settings: dict[str, Any], key: str, reason: str) -> None:
    compiled, [found] = compile_policy([app(**settings), app("other")])
    assert compiled is None
    assert (found.app, found.key) == ("directory", key)
    assert reason in found.reason
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    "settings",
    [
        {"scope": "has(person.custom.vip) && person.custom.vip"},
        {"scope": "person.custom.vip"},
        {"scope": "person['custom']['vip']"},
        {"scope": "days_between(person.start_date, person.end_date) > 30"},
        {"scope": "lookup('sites', person.location) == 'HQ' || timestamp(person.title) > timestamp(person.title)"},
        {"scope": "person.title == 'It\\'s' || person.department in ['Sales', \"R&D\"]"},
        {"groups": "person.custom.teams"},
        {"groups": "person.department == '' ? [] : ['dept ' + person.department]"},
        {"groups": "['sales', 'support'].filter(name, name == person.department)"},
    ],
)
def test_what_fails_for_the_people_it_is_tried_on_is_no_mistake(settings: dict[str, Any]) -> None:
    compiled, problems = compile_policy([app(**settings)], tables={"sites": {}})
    assert (compiled is not None, problems) == (True, [])


def test_all_mistakes_are_found_at_once() -> None:
    _, problems = compile_policy(
        [app("a", scope="(", groups=")"), app("b", attributes={"userName": "x", "title": "y"})]
    )
    assert [(one.app, one.key) for one in problems] == [
        ("a", "scope"),
        ("a", "groups"),
        ("b", "attributes.userName"),
        ("b", "attributes.title"),
    ]


def test_one_attribute_in_two_spellings_is_a_mistake() -> None:
    _, problems = compile_policy([app(attributes={"enterprise.department": "'x'", f"{ENTERPRISE}:department": "'y'"})])
    assert {one.key for one in problems} == {"attributes.enterprise.department", f"attributes.{ENTERPRISE}:department"}


@pytest.mark.parametrize(
    "expression",
    [
        "['a', 'b'].map(x, x + person.id)",
        "[1, 2].filter(n, n > 1).exists(m, m == 2) ? ['x'] : []",
        "person.email.matches('@example[.]com$') ? ['x'] : []",
        "has(person.custom.team) ? [person.custom.team] : []",
        "['a'].map(x, ['b'].map(y, x + y)[0])",
        "person.department.startsWith('R') && size(person.title) > 0 ? ['x'] : []",
        "[person.department.lowerAscii()]",
    ],
)
def test_the_language_is_there(expression: str) -> None:
    assert desire(app(groups=expression), email="ann@example.com") is not None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"scope": "size(person.title) == 399 ? 'yes' : true"}, "apps.directory.scope: is neither true nor false"),
        ({"groups": "size(person.title) == 399 ? 'all' : []"}, "apps.directory.groups: is not a list of names"),
        ({"groups": "['a'] + (size(person.title) == 399 ? [1] : [])"}, "apps.directory.groups: is not a list of names"),
        ({"groups": "size(person.title) == 399 ? [['a']] : []"}, "apps.directory.groups: is not a list of names"),
        ({"groups": "[person.title + person.title]"}, "apps.directory.groups: has a name of more than 400 characters"),
        (
            {"groups": "[person.custom.team]"},
            "apps.directory.groups: the person has no 'team': test it with has() first",
        ),
        ({"groups": "[{'Sales': 's'}[person.department]]"}, "apps.directory.groups: looks up a key that is not there"),
        (
            {"scope": "1 / size(person.email) > 0"},
            "apps.directory.scope: cannot be evaluated for this person (ZeroDivisi",
        ),
        ({"scope": "9223372036854775807 + size(person.title) > 0"}, "apps.directory.scope: cannot be evaluated"),
        (
            {"groups": "[['a'][size(person.title)]]"},
            "apps.directory.groups: cannot be evaluated for this person (IndexE",
        ),
        ({"scope": "person.title.matches('(')"}, "apps.directory.scope: cannot be evaluated for this person (RuntimeE"),
        ({"scope": "size(person.title) > 1 && person.title + 1 == ''"}, "apps.directory.scope: Unsupported operation"),
        (
            {"attributes": {"userName": "size(person.title) > 1 ? person.title.x : ''"}},
            "apps.directory.attributes.userName: No such overload",
        ),
        ({"attributes": {"userName": "b'raw'"}}, "apps.directory.attributes.userName: is no JSON but bytes"),
        ({"attributes": {"userName": "{1: 'a'}"}}, "apps.directory.attributes.userName: is no JSON but dict"),
        (
            {"attributes": {"userName": "duration('1h')"}},
            "apps.directory.attributes.userName: is no JSON but timedelta",
        ),
    ],
)
def test_an_expression_that_fails_for_a_person_is_named(settings: dict[str, Any], expected: str) -> None:
    assert problem(app(**settings), title="t" * 399, department="Engineering").startswith(expected)


@pytest.mark.parametrize(
    "expression",
    [
        "{'x': true}[person.department]",
        "person[person.department]",
        "int(person.department) > 0",
        "timestamp(person.department) > timestamp('2026-01-01T00:00:00Z')",
        "duration(person.department) > duration('1h')",
        "person.title.matches(person.department)",
        "size(person.department) > 1 && person.department + 1 == ''",
        "[1][int(person.department)] == 1",
        "size(person.department) > 1 && person.department.x",
        "double(person.department) > 0.0",
        "size(person.department) > 1 ? person.department : true",
        "size(person.department) > 1 && b'x' + person.department == b''",
    ],
)
@pytest.mark.parametrize("secret", ["Zoë Quince (", "-99999999999999999999999", "77"])
def test_what_is_said_of_a_failure_holds_no_value_of_the_person(expression: str, secret: str) -> None:
    _, failed = policy(app(scope=expression)).desires("w1", person(department=secret))
    assert not any(secret in str(one) for one in failed)


def test_a_failing_application_does_not_touch_its_neighbours() -> None:
    found, failed = policy(app("a", groups="[person.custom.x]"), app("b")).desires("w1", person())
    assert (set(found), [one.app for one in failed]) == ({"b"}, ["a"])


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists, max_leaves=5))
def test_a_desire_comes_back_from_the_store_as_it_was(value: Any) -> None:
    """Else every decision would see a difference and raise a revision."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else "person.title"
    found = desire(app(attributes={"userName": text}), title=value if isinstance(value, str) else "")
    assert found is not None
    assert json.loads(json.dumps(found.resource)) == found.resource


def test_an_instant_is_written_as_text() -> None:
    found = desire(app(attributes={"userName": "timestamp('2026-01-01T00:00:00Z')"}))
    assert found is not None
    assert found.resource == {"userName": "2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("userName", ["userName"]),
        ("name.givenName", ["name", "givenName"]),
        ("enterprise.department", [ENTERPRISE, "department"]),
        ("enterprise.manager.value", [ENTERPRISE, "manager", "value"]),
        (f"{ENTERPRISE}:manager.value", [ENTERPRISE, "manager", "value"]),
        ("urn:example:2.0:User:badge", ["urn:example:2.0:User", "badge"]),
        ("enterprises.x", ["enterprises", "x"]),
    ],
)
def test_the_steps_of_a_path(path: str, steps: list[str]) -> None:
    assert split_path(path) == steps


def test_nesting_leaves_out_what_is_empty_but_not_what_is_false() -> None:
    flat: dict[str, Any] = {
        "userName": "w1",
        "name.givenName": "Zoë",
        "name.familyName": "",
        "title": None,
        "emails": [],
        "x.flag": False,
        "x.count": 0,
        "enterprise.manager.value": "w2",
    }
    assert nest((split_path(path), value) for path, value in flat.items()) == {
        "userName": "w1",
        "name": {"givenName": "Zoë"},
        "x": {"flag": False, "count": 0},
        ENTERPRISE: {"manager": {"value": "w2"}},
    }


CHANGES: list[dict[str, Any]] = [
    {"app": "other"},
    {"scope": "false"},
    {"groups": '["x"]'},
    {"attributes": {"userName": "person.email"}},
    {"attributes": {"userName": "person.id"}},
    {"leave_of_absence": "deactivate"},
    {"delete_after": timedelta(0)},
    {"delete_after": timedelta(days=1)},
]


def test_the_digest_changes_with_any_change() -> None:
    base = app()
    digests = [policy(base).digest, policy(base, default_zone="Asia/Tokyo").digest, policy(base, app("b")).digest]
    digests += [policy(replace(base, **change)).digest for change in CHANGES]
    assert len(set(digests)) == len(digests)
    assert policy(base).digest == policy(app()).digest


def test_the_digest_does_not_depend_on_the_order_of_attributes() -> None:
    attributes = {"userName": "person.id", "title": "person.title"}
    turned = dict(reversed(attributes.items()))
    assert policy(app(attributes=attributes)).digest == policy(app(attributes=turned)).digest


def test_retention() -> None:
    assert retention_end(app(), NOW) is None
    assert retention_end(app(delete_after=timedelta(days=90)), NOW) == NOW + timedelta(days=90)
    assert retention_end(app(delete_after=timedelta(days=9_999_999)), NOW) is None
