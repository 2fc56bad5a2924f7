"""Whose account it is: ordered rules, from either side, and never somebody else's."""

from datetime import date
from typing import Any

import pytest

from orchestrator.domain.account import Account
from orchestrator.domain.correlation import (
    Candidate,
    Correlation,
    RuleText,
    Sought,
    by_attributes,
    candidates,
    compile_rules,
    handles,
    recognize,
)
from orchestrator.domain.expressions import ExpressionError
from orchestrator.domain.history import History, Stated, Statement
from orchestrator.domain.paths import ENTERPRISE
from orchestrator.domain.person import Decision, Engagement, Person
from tests.unit.domain.test_policy import NOW

ADA = Sought({"externalId": "w1", "userName": "Ada@X"}, {"id": "w1", "email": "Ada@mail", "title": ""})


def rules(*texts: RuleText, **settings: Any) -> Correlation:
    found, problems = compile_rules("crm", texts, attributes=("externalId", "userName"), tables={}, **settings)
    assert problems == []
    return found


def shown(**attributes: Any) -> dict[str, Any]:
    return {"id": "r1", **attributes}


def taken(correlation: Correlation, resource: dict[str, Any], sought: Sought = ADA) -> str | None:
    return correlation.recognized(resource, sought)


@pytest.mark.parametrize(
    ("resource", "rule"),
    [
        (shown(externalId="w1", userName="legacy"), "externalId"),
        (shown(userName="ada@x"), "userName"),
        (shown(USERNAME="ADA@x"), "userName"),
        (shown(externalId="w2", userName="ada@x"), None),
        (shown(externalId="w2"), None),
        ({"externalId": "w1"}, None),
        (shown(), None),
    ],
)
def test_without_rules_of_an_operator_externalid_comes_before_the_user_name(
    resource: dict[str, Any], rule: str | None
) -> None:
    assert taken(by_attributes("externalId", "userName"), resource) == rule


def test_a_name_that_is_made_to_collide_says_nothing_alone() -> None:
    named = by_attributes("externalId", "userName", unique=(("userName",),))
    assert taken(named, shown(userName="ada@x")) is None
    assert taken(named, shown(userName="ada@x", externalId="w1")) == "externalId"


def test_a_rule_searches_for_what_its_expression_gives() -> None:
    by_mail = rules(RuleText("emails.value", "lower(person.email)"))
    assert by_mail.value(by_mail.rules[0], ADA) == "ada@mail"
    assert taken(by_mail, shown(emails=[{"value": "x"}, {"value": "ADA@MAIL"}])) == "emails.value"
    assert taken(by_mail, shown(emails=[{"value": "x"}])) is None
    nobody = rules(RuleText("title", "person.title"))
    assert nobody.value(nobody.rules[0], ADA) is None, "an empty value finds nobody, not everybody without a title"
    assert taken(nobody, shown(title="")) is None


def test_a_rule_looks_at_what_was_found() -> None:
    careful = rules(RuleText("userName", None, "resource.name.familyName == 'King' && person.id == 'w1'"))
    assert taken(careful, shown(userName="ada@x", name={"familyName": "King"})) == "userName"
    assert taken(careful, shown(userName="ada@x", name={"familyName": "Lear"})) is None
    assert taken(careful, shown(userName="ada@x")) is None, "an attribute that is not shown is no match"


def test_a_part_of_an_attribute_is_searched_by_its_path() -> None:
    assert [one.filter for one in by_attributes("emails.value", "userName").rules] == ["emails.value", "userName"]


@pytest.mark.parametrize(
    "text",
    [
        RuleText("userName", "person.title + 1"),
        RuleText("userName", "person.custom.x"),
        RuleText("userName", "person.email", "resource.userName > 3"),
        RuleText("userName", "person.email", "size(resource.userName)"),
    ],
)
def test_a_rule_that_fails_otherwise_is_told_as_one(text: RuleText) -> None:
    """An account without the attribute is no match; anything else is a mistake, and never a match or a crash."""
    somebody = Sought({}, {"email": "ada@x", "title": "", "custom": {}})
    with pytest.raises(ExpressionError) as told:
        taken(rules(text), shown(userName="ada@x"), somebody)
    assert told.value.key == "correlate.1"


def test_somebody_of_whom_nothing_was_decided_can_be_sought() -> None:
    correlation = rules(RuleText("userName", "person.id"))
    assert correlation.sought(None, Person("w9")).person == correlation.fields_of(Person("w9"))
    assert by_attributes("userName").sought(None, Person("w9")) == Sought({}, None)


def test_an_extension_is_searched_by_its_urn() -> None:
    number = rules(RuleText("enterprise.employeeNumber", "person.id"))
    assert number.rules[0].filter == f"{ENTERPRISE}:employeeNumber"
    assert taken(number, shown(**{ENTERPRISE: {"employeeNumber": "w1"}})) == "enterprise.employeeNumber"
    assert handles(shown(**{ENTERPRISE: {"employeeNumber": 71}}), number).ids == {"71"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (RuleText("title"), "title is not among the attributes: give it a value"),
        (RuleText("title", "nobody.id"), "unknown name 'nobody', only person is known"),
        (
            RuleText("title", "person.id", "result.id == ''"),
            "unknown name 'result', only person and resource are known",
        ),
        (RuleText("title", "shout(person.id)"), "unknown function 'shout'"),
        (RuleText("title", "lookup('x', person.id)"), "unknown lookup table 'x': there is no [lookups.x]"),
    ],
)
def test_mistakes_are_found_at_start(text: RuleText, reason: str) -> None:
    _, problems = compile_rules("crm", [RuleText("externalId"), text], attributes=("externalId",), tables={})
    assert [str(one) for one in problems] == [f"apps.crm.correlate.2: {reason}"]


def test_a_rule_that_fails_names_itself_and_no_value() -> None:
    failing = rules(RuleText("userName", None, "person.title"))
    with pytest.raises(ExpressionError, match=r"correlate\.1: where is neither true nor false"):
        taken(failing, shown(userName="ada@x"))
    no_text = rules(RuleText("userName", "1"))
    with pytest.raises(ExpressionError, match=r"correlate\.1: value is no text"):
        taken(no_text, shown(userName="ada@x"))


def test_the_owners_of_an_account_come_in_the_order_of_the_rules() -> None:
    both = rules(RuleText("externalId"), RuleText("emails.value", "lower(person.email)"))
    bea = Sought({"externalId": "w2"}, {"id": "w2", "email": "ada@mail"})
    account = shown(externalId="w1", emails=[{"value": "ada@mail"}])
    found = recognize(account, both, {"w2": bea, "w1": ADA})
    assert found == [Candidate("w1", "externalId"), Candidate("w2", "emails.value")]


def test_somebody_who_is_known_is_sought_by_the_account_on_record_and_the_facts_of_the_last_decision() -> None:
    history = History((Statement(NOW, NOW, "hr#1", {"email": "a@b"}),))
    engagement = Engagement("e", start=Stated(date(2025, 12, 1), NOW, "hr#1"))
    person = Person("w1", history, {"e": engagement}, decision=Decision(NOW, "active", "employee", "p"))
    account = Account("w1", "crm", 1, "active", {"userName": "ada"}, (), NOW, "hr#1", "c", "p", number=2)
    by_mail = rules(RuleText("userName", "person.email"), unique=(("userName",),))
    sought = by_mail.sought(account, person)
    assert sought.wanted == {"userName": "ada2"}
    assert sought.person is not None
    assert (sought.person["email"], sought.person["status"], sought.person["start_date"]) == (
        "a@b",
        "active",
        "2025-12-01",
    )
    assert by_mail.sought(None, person).wanted == {}


def test_candidates_are_ranked_by_how_sure_they_are_and_named_once() -> None:
    persons = {one: Person(one) for one in ("w1", "w2", "w3")}
    found = handles({"externalId": "w2", "userName": "w1", "emails": [{"value": "C@x"}, {"value": "b@x"}]})
    by_email = {"c@x": ["w3"], "b@x": ["w1"]}
    assert candidates(found, persons, by_email, [Candidate("w3", "costObject")]) == [
        Candidate("w3", "costObject"),
        Candidate("w2", "externalId"),
        Candidate("w1", "userName"),
    ]
    assert candidates(handles({"userName": "c@X"}), persons, by_email) == [Candidate("w3", "email")]
    assert candidates(handles({"userName": True, "externalId": ""}), persons, by_email) == []


def test_whoever_has_no_value_to_search_for_matches_nobody() -> None:
    correlation = by_attributes("userName")
    assert correlation.matches([shown(userName="")], correlation.rules[0], Sought({})) == []
