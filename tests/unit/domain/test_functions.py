"""The functions of expressions, as expressions call them: through CEL, total, and silent about the person's values."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain import functions
from orchestrator.domain.lifecycle import Standing, Status
from orchestrator.domain.policy import compile_policy
from tests.unit.domain.story import app
from tests.unit.domain.test_policy import NOW

TABLES = {"sites": {"MEL": "Melbourne"}}


def evaluate(expression: str, **attributes: Any) -> tuple[Any, list[str]]:
    """What an attribute becomes, and why it fails."""
    rules = app(attributes={"userName": "person.id", "title": expression})
    policy, problems = compile_policy([rules], tables=TABLES)
    assert policy is not None, problems
    found, failed = policy.desires("w1", Standing(Status.ACTIVE, NOW, "employee", attributes))
    return found[rules.app].resource.get("title") if found else None, [error.reason for error in failed]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("lower(person.family_name)", "o'žižek"),
        ("person.family_name.upper()", "O'ŽIŽEK"),
        ("ascii(person.family_name)", "O'Zizek"),
        ("slug(words(person.given_name, person.family_name))", "jean-luc.ozizek"),
        ("initials(words(person.given_name, person.title, person.family_name))", "JO"),
        ("left(person.given_name, 4)", "Jean"),
        ("left(person.given_name, 400)", "Jean-Luc"),
        ("default(person.title, person.given_name)", "Jean-Luc"),
        ("default(person.title)", None),
        ("add_days(person.custom.start, 3)", "2027-01-02"),
        ("add_days('2026-03-01T09:30:00+01:00', -1)", "2026-02-28T09:30:00+01:00"),
        ("add_days(person.title, 3)", None),
        ("add_days(person.custom.start, 2000000000)", None),
        ("days_between(person.custom.start, '2026-12-25')", -5),
        ("lookup('sites', person.location)", "Melbourne"),
        ("lookup('sites', person.title, 'HQ')", "HQ"),
        ("lookup('sites', person.title)", None),
        ("[person.given_name, person.family_name].map(x, lower(x)).join('.')", "jean-luc.o'žižek"),
    ],
)
def test_an_expression_gets_what_the_documentation_promises(expression: str, value: Any) -> None:
    person = {"given_name": "Jean-Luc", "family_name": "O'Žižek", "location": "MEL", "custom.start": "2026-12-30"}
    assert evaluate(expression, **person) == (value, [])


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("lower(7)", "lower is given int where text belongs"),
        ("left(person.title, 'x')", "left is given str where a whole number belongs"),
        ("add_days(person.title, 1)", "add_days is given text that is neither a day nor an instant"),
        ("lookup(person.title, 'x')", "lookup names a lookup table that is not configured"),
    ],
)
def test_a_failure_names_the_function_and_never_the_value(expression: str, reason: str) -> None:
    assert evaluate(expression, title="2026-99-99") == (None, [reason])


@given(st.text())
def test_a_slug_is_fit_for_a_user_name_whatever_the_name(text: str) -> None:
    made = functions.slug(text)
    assert made == "" or all(
        part and set(part) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for part in made.split(".")
    )


@given(st.text(), st.integers(0, 50))
def test_texts_in_give_texts_out(text: str, count: int) -> None:
    assert functions.to_ascii(text).isascii()
    assert text.startswith(functions.left(text, count))
    assert functions.join_words(text, "", text).split() == (text + " " + text).split()
