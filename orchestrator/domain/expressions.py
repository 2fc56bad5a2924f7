"""CEL expressions: compiled once, checked for names and functions that are not there, and honest about failures."""

import re
from difflib import get_close_matches
from functools import lru_cache

import cel
from cel import stdlib

from orchestrator.domain.functions import Tables, library
from orchestrator.domain.person_fields import ALL_FIELDS

FAILURES = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What the library raises when an expression fails."""

_UNDEFINED = "Undefined"
_OUR_COMPLAINT = re.compile(r"Function '(\w+)' error: Python function call failed: ValueError: ([^.]*)\. Check")
_FIELD = re.compile(r"(?<![.\w])person\s*\.\s*\??\s*([A-Za-z_]\w*)")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_LOOKUP = re.compile(r"\blookup\(\s*[\"'](\w+)[\"']")
# CEL language definition, "List of standard definitions"; the library keeps no list of what it implements natively.
_CORE_FUNCTIONS = frozenset(
    re.findall(
        r"[\w.]+",
        """
        bool bytes contains double duration dyn endsWith getDate getDayOfMonth getDayOfWeek getDayOfYear getFullYear
        getHours getMilliseconds getMinutes getMonth getSeconds has int map filter all exists exists_one matches max
        min size startsWith string timestamp type uint optional.of optional.none
        """,
    )
)


class ExpressionError(ValueError):
    """An expression cannot be compiled, or fails for a person. `key` is its place in the application's table."""

    def __init__(self, app: str, key: str, message: str) -> None:
        super().__init__(f"apps.{app}.{key}: {message}")
        self.app = app
        self.key = key
        self.reason = message


def compile_expression(
    app: str, key: str, expression: str, tables: Tables, names: frozenset[str] = frozenset({"person"})
) -> tuple[cel.Program | None, list[ExpressionError]]:
    """The program, if it compiles; and everything that is wrong with it. `names` are the variables it may use."""
    try:
        program = cel.compile(expression)
    except ValueError as error:
        return None, [ExpressionError(app, key, first_line(error))]
    problems = []
    unknown = set(program.variables()) - names - bound_names(expression)
    if unknown:
        known = f"only {' and '.join(sorted(names))} {'is' if len(names) == 1 else 'are'} known"
        problems.append(ExpressionError(app, key, f"unknown name {min(unknown)!r}, {known}"))
    problems += [ExpressionError(app, key, _unknown_field(name)) for name in sorted(_fields(expression) - ALL_FIELDS)]
    problems += [
        ExpressionError(app, key, f"unknown lookup table {name!r}: there is no [lookups.{name}]")
        for name in _LOOKUP.findall(expression)
        if name not in tables
    ]
    problems += [
        ExpressionError(app, key, f"unknown function {name!r}") for name in program.functions() if not is_function(name)
    ]
    return program, problems


def _fields(expression: str) -> set[str]:
    """The fields that an expression takes of `person` by name, outside of quotes."""
    return set(_FIELD.findall(_QUOTED.sub('""', expression)))


def _unknown_field(name: str) -> str:
    near = get_close_matches(name, ALL_FIELDS, n=1)
    advice = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(sorted(ALL_FIELDS))}"
    return f"person has no field {name!r}: {advice} Attributes of your HR system's own are person.custom.NAME"


def new_context(tables: Tables) -> cel.Context:
    """A context with every function that expressions have. It is dear: make one and keep it."""
    context = cel.Context()
    stdlib.add_stdlib_to_context(context)
    for name, function in library(tables).items():
        context.add_function(name, function)
    return context


def bound_names(expression: str) -> set[str]:
    """Names that comprehension macros bind: `x` in `list.map(x, ...)`."""
    return set(re.findall(r"\.(?:map|filter|all|exists|exists_one)\(\s*([A-Za-z_]\w*)\s*,", expression))


@lru_cache(maxsize=1024)
def is_function(name: str) -> bool:
    """Whether CEL or its standard library has the function. Operators come by names such as `_+_`."""
    return not name.replace(".", "").isidentifier() or name in _FUNCTIONS


def _functions() -> frozenset[str]:
    return _CORE_FUNCTIONS | frozenset(new_context({}).functions)


def first_line(error: Exception) -> str:
    """What the compiler says, without its drawing."""
    return str(error).splitlines()[0]


def is_of_types(error: Exception) -> bool:
    """Whether an expression fails because of the types in it, and so for everybody who comes to that place."""
    return isinstance(error, TypeError) or str(error).startswith(_UNDEFINED)


def failure(error: Exception, expression: str) -> str:
    """Why an expression fails, without the person's values, which the library quotes in some of its messages."""
    text = str(error.args[0]) if error.args else ""
    if isinstance(error, KeyError):
        if re.search(rf"[.'\"]{re.escape(text)}\b", expression):
            return f"the person has no {text!r}: test it with has() first"
        return "looks up a key that is not there: test it with `in` first"
    ours = _OUR_COMPLAINT.match(text)
    if ours and ours.group(1) in library({}):
        return f"{ours.group(1)} {ours.group(2)}"
    if is_of_types(error):
        return text.splitlines()[0]
    return f"cannot be evaluated for this person ({type(error).__name__})"


_FUNCTIONS = _functions()
