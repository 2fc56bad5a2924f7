"""Which account of an application is a person's: ordered rules that never take somebody else's account.

One implementation for all who ask: the connector that looks for a person's account, and reconciliation and import,
which look for the person of an account. See decision 0029.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from typing import Any, NamedTuple

import cel

from orchestrator.domain.account import Account
from orchestrator.domain.expressions import FAILURES, ExpressionError, compile_expression, failure, new_context
from orchestrator.domain.functions import Tables
from orchestrator.domain.history import EARLIEST
from orchestrator.domain.lifecycle import spans, standing
from orchestrator.domain.paths import split_path
from orchestrator.domain.person import Person
from orchestrator.domain.person_fields import person_fields
from orchestrator.domain.scim_diff import values_at
from orchestrator.domain.unique_names import Paths, numbered

RULES = ("externalId", "userName")
"""Attributes to look an account up by where nobody says otherwise, the surest first."""
EXTERNAL_ID = "externalId"


class RuleText(NamedTuple):
    """A rule as the configuration has it: the attribute to search by, CEL over `person` for the value to search for
    (None: the mapped value of that attribute), and CEL over `person` and `resource` that has to be true as well."""

    search: str
    value: str | None = None
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, compiled. `search` is its attribute as it is written, which names the rule; `filter` is the same for a
    filter of the application."""

    search: str
    steps: tuple[str, ...] = ()
    filter: str = ""
    value: cel.Program | None = None
    where: cel.Program | None = None
    text: RuleText | None = None

    @property
    def compares_plainly(self) -> bool:
        """Whether it holds what is mapped against what is shown, and nothing else."""
        return self.value is None and self.where is None


class Sought(NamedTuple):
    """Whose account is looked for: its mapped attributes, and the fields of the person where a rule needs them."""

    wanted: Mapping[str, Any]
    person: Mapping[str, Any] | None = None


def plain_rule(search: str) -> Rule:
    """The rule that compares one attribute."""
    steps = tuple(split_path(search))
    return Rule(search, steps, filter_path(steps))


@dataclass(frozen=True, slots=True)
class Correlation:
    """The rules of one application.

    `configured`: an operator has chosen them, so they are asked before the first account of somebody is made. `unique`
    are the paths of names that are made to collide: such a name alone says nothing about whose account it is.
    """

    rules: tuple[Rule, ...]
    configured: bool = False
    unique: Paths = ()
    default_zone: str = "UTC"
    access_ends: time | None = None
    app: str = ""
    _context: cel.Context | None = field(default=None, repr=False, compare=False)

    @property
    def needs_person(self) -> bool:
        """Whether a rule has an expression."""
        return any(not rule.compares_plainly for rule in self.rules)

    def fields_of(self, person: Person) -> Mapping[str, Any]:
        """The person as expressions saw one at the last decision: the account is what was decided then."""
        at = person.decision.at if person.decision is not None else EARLIEST
        engaged = spans(person, self.default_zone, access_ends=self.access_ends)
        return person_fields(person.id, standing(person, self.default_zone, at, engaged))

    def sought(self, account: Account | None, person: Person) -> Sought:
        """What to look for on behalf of a person who is known, and who may have an account on record."""
        present = account is not None and account.state != "absent"
        wanted = numbered(account.resource, self.unique, account.number) if account is not None and present else {}
        return Sought(wanted, self.fields_of(person) if self.needs_person else None)

    def is_name(self, rule: Rule) -> bool:
        """Whether the rule compares a name that is made to collide."""
        return rule.compares_plainly and rule.steps[:1] in {steps[:1] for steps in self.unique}

    def value(self, rule: Rule, sought: Sought) -> str | None:
        """What the rule searches for; None where it does not apply to this person. Raises ExpressionError."""
        if rule.value is not None:
            value = self._evaluate(rule, "value", rule.value, sought, {})
            if not isinstance(value, str):
                raise ExpressionError(self.app, self._key(rule), "value is no text")
            return value or None
        return next(iter(values_at(sought.wanted, rule.steps)), None)

    def matches(self, found: Iterable[Any], rule: Rule, sought: Sought) -> list[Mapping[str, Any]]:
        """Those of the application's resources that the rule takes for the person's account. Raises ExpressionError.

        The application's filter is not trusted: some ignore a filter they do not understand and answer with everybody.
        Where a rule only compares, an account with the right value and another externalId belongs to somebody else.
        """
        value = self.value(rule, sought)
        if value is None:
            return []
        return [one for one in found if isinstance(one, Mapping) and self._takes(one, rule, value, sought)]

    def recognized(self, resource: Mapping[str, Any], sought: Sought) -> str | None:
        """The first rule that takes the account for the person's, by name; None: no rule does."""
        for rule in self.rules:
            if self.matches([resource], rule, sought) and not (self.is_name(rule) and untagged(resource)):
                return rule.search
        return None

    def handles(self, resource: Mapping[str, Any]) -> list[str]:
        """Every text of an account that a rule would search for: who has one of them may be its owner."""
        return [value for rule in self.rules for value in values_at(resource, rule.steps)]

    def _takes(self, resource: Mapping[str, Any], rule: Rule, value: str, sought: Sought) -> bool:
        folded = value.lower()
        if not resource.get("id") or folded not in {one.lower() for one in values_at(resource, rule.steps)}:
            return False
        if rule.compares_plainly:
            return not anothers(resource, sought.wanted)
        if rule.where is None:
            return True
        try:
            held = self._evaluate(rule, "where", rule.where, sought, resource)
        except LookupError:  # an attribute that this account does not show
            return False
        if not isinstance(held, bool):
            raise ExpressionError(self.app, self._key(rule), "where is neither true nor false")
        return held

    def _evaluate(
        self, rule: Rule, part: str, program: cel.Program, sought: Sought, resource: Mapping[str, Any]
    ) -> Any:
        context = self._context
        assert context is not None, "an expression is compiled together with its context"
        context.add_variable("person", dict(sought.person or {}))
        context.add_variable("resource", dict(resource))
        try:
            return program.execute(context)
        except FAILURES as error:
            if part == "where" and isinstance(error, LookupError):
                raise  # an attribute that the account does not show
            reason = failure(error, str(getattr(rule.text, part, "")))
            raise ExpressionError(self.app, self._key(rule), f"{part} {reason}") from None

    def _key(self, rule: Rule) -> str:
        return f"correlate.{self.rules.index(rule) + 1}"


def untagged(resource: Mapping[str, Any]) -> bool:
    """Whether an account shows no externalId, so that its name is all there is to go by."""
    return not resource.get(EXTERNAL_ID)


def anothers(resource: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an account shows an externalId that is not the one wanted."""
    ours, theirs = wanted.get(EXTERNAL_ID), resource.get(EXTERNAL_ID)
    return bool(ours and theirs) and str(theirs) != str(ours)


def by_attributes(*searches: str, unique: Paths = ()) -> Correlation:
    """Rules that only compare."""
    return Correlation(tuple(map(plain_rule, searches)), unique=unique)


def compile_rules(
    app: str,
    texts: Sequence[RuleText],
    *,
    by_default: Sequence[str] = RULES,
    attributes: Iterable[str],
    tables: Tables,
    unique: Paths = (),
    default_zone: str = "UTC",
    access_ends: time | None = None,
) -> tuple[Correlation, list[ExpressionError]]:
    """The rules that an operator chose, or else the attributes `by_default`; and everything that is wrong with them."""
    rules: list[Rule] = []
    problems: list[ExpressionError] = []
    mapped = set(attributes)
    for number, text in enumerate(texts, 1):
        key = f"correlate.{number}"
        value = where = None
        if text.value is not None:
            value, found = compile_expression(app, key, text.value, tables)
            problems += found
        elif text.search not in mapped and text.search.rpartition(".")[0] not in mapped:
            problems.append(ExpressionError(app, key, f"{text.search} is not among the attributes: give it a value"))
        if text.where is not None:
            where, found = compile_expression(app, key, text.where, tables, frozenset({"person", "resource"}))
            problems += found
        steps = tuple(split_path(text.search))
        rules.append(Rule(text.search, steps, filter_path(steps), value, where, text))
    chosen = tuple(rules) or tuple(map(plain_rule, by_default))
    context = new_context(tables) if rules else None
    return Correlation(chosen, bool(rules), unique, default_zone, access_ends, app, context), problems


def filter_path(steps: Sequence[str]) -> str:
    """The steps of an attribute as a filter of an application names it."""
    first, *rest = steps
    joined = ".".join(rest)
    return f"{first}:{joined}" if first.startswith("urn:") else ".".join(steps)


# --- whose account it is ----------------------------------------------------------------------------------------------


class Candidate(NamedTuple):
    """A person whose account an orphan may be, and the rule or attribute that says so."""

    person_id: str
    by: str


class Handles(NamedTuple):
    """What an account gives to recognize its owner by, in lower case where case says nothing."""

    external_id: str | None
    user_name: str | None
    emails: tuple[str, ...]
    others: tuple[str, ...] = ()
    """What the rules of the application search for."""

    @property
    def ids(self) -> set[str]:
        """Texts that may be worker ids."""
        return {one for one in (self.external_id, self.user_name, *self.others) if one}


def handles(resource: Mapping[str, Any], correlation: Correlation | None = None) -> Handles:
    """The handles of an account; whatever is no text counts as absent."""
    emails = resource.get("emails")
    values = [one.get("value") for one in emails if isinstance(one, Mapping)] if isinstance(emails, list) else []
    user_name = _text(resource.get("userName"))
    others = tuple(correlation.handles(resource)) if correlation is not None else ()
    found = [value.lower() for value in values if isinstance(value, str) and value]
    found += [value.lower() for value in (user_name, *others) if value and "@" in value]
    return Handles(_text(resource.get(EXTERNAL_ID)), user_name, tuple(dict.fromkeys(found)), others)


def candidates(
    found: Handles,
    persons: Mapping[str, Person],
    by_email: Mapping[str, Sequence[str]],
    recognized: Iterable[Candidate] = (),
) -> list[Candidate]:
    """Whose account it may be, the surest first: whom a rule names, then by the worker id as externalId, as userName,
    then by e-mail."""
    ranked = list(recognized)
    if found.external_id in persons:
        ranked.append(Candidate(str(found.external_id), EXTERNAL_ID))
    if found.user_name in persons:
        ranked.append(Candidate(str(found.user_name), "userName"))
    ranked += [Candidate(person_id, "email") for email in found.emails for person_id in by_email.get(email, ())]
    unique: dict[str, Candidate] = {}
    for one in ranked:
        unique.setdefault(one.person_id, one)
    return list(unique.values())


def recognize(resource: Mapping[str, Any], correlation: Correlation, sought: Mapping[str, Sought]) -> list[Candidate]:
    """Whom the rules name as the owner of an account, in the order of the rules. Raises ExpressionError."""
    found = [
        Candidate(person_id, rule)
        for person_id, one in sought.items()
        if (rule := correlation.recognized(resource, one)) is not None
    ]
    order = [rule.search for rule in correlation.rules]
    return sorted(found, key=lambda one: (order.index(one.by), one.person_id))


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None
