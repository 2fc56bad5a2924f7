"""What an expression of the policy gives, tried at start on people who are made up for it.

CEL finds types out when it evaluates, and its library has no checker of them. A scope that is a text, groups that are
no list, a text that is added to a number would fail for one person after the other; nobody has to wait for that.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import cel

from orchestrator.domain.expressions import FAILURES, ExpressionError, failure, is_of_types
from orchestrator.domain.person_fields import ALL_FIELDS, DATES

MOST_TEXTS = 50
"""So many texts of one expression are tried."""
_TEXT = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'")
_SHOWN = 80
_CALLED = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a map"}
_TEXT_FIELDS = ALL_FIELDS - {*DATES, "custom"}


def rehearse(app: str, key: str, expression: str, program: cel.Program, context: cel.Context) -> ExpressionError | None:
    """The complaint about an expression whose types do not fit together for somebody, about a scope that is neither
    true nor false, and about groups that are no list of names. People for whom it fails otherwise say nothing: the next
    one may well pass."""
    for person in _people(expression):
        context.add_variable("person", person)
        try:
            value = program.execute(context)
        except FAILURES as error:
            if is_of_types(error):
                first_sentence = failure(error, expression).partition(". ")[0]
                return ExpressionError(app, key, f"`{_short(expression)}`: {first_sentence}")
            continue
        if (given := _misfit(key, value)) is not None:
            return ExpressionError(app, key, f"`{_short(expression)}` gives {given}")
    return None


def _misfit(key: str, value: Any) -> str | None:
    if key == "scope" and not isinstance(value, bool):
        return f"{_called(value)} where true or false belongs: compare it with something"
    if key == "groups" and not isinstance(value, list):
        return f"{_called(value)} where a list of names belongs: put it in brackets"
    if key == "groups" and (wrong := [one for one in value if not isinstance(one, str)]):
        return f"a list with {_called(wrong[0])} in it where a list of names belongs"
    return None


def _people(expression: str) -> Iterator[Mapping[str, Any]]:
    """Somebody of whom nothing is stated, and for each text of the expression somebody of whom nothing else is: what
    it compares with is what decides between its branches."""
    texts = dict.fromkeys(one or other for one, other in _TEXT.findall(expression))
    dates = (dict.fromkeys(DATES, ""), {"start_date": "2026-01-05", "end_date": "2026-12-31"})
    for text in ("", "x", *list(texts)[:MOST_TEXTS]):
        for days in dates:
            yield {**dict.fromkeys(_TEXT_FIELDS, text), **days, "custom": {}}


def _called(value: Any) -> str:
    return _CALLED.get(type(value), "nothing" if value is None else type(value).__name__)


def _short(expression: str) -> str:
    plain = " ".join(expression.split())
    return plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}..."
