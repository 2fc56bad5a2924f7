"""Who gets an account in an application, with which attributes and groups: CEL over the person.

CEL (Common Expression Language) is small, side-effect free and always terminates. Each application's expressions are
compiled into one program, so deciding a person costs one evaluation per application; only when that fails are the
parts evaluated one by one to name the culprit.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any, Literal, NamedTuple

import cel
import orjson

from orchestrator.domain.account import Account
from orchestrator.domain.expressions import FAILURES, compile_expression, failure, new_context
from orchestrator.domain.expressions import ExpressionError as ExpressionError
from orchestrator.domain.functions import Tables
from orchestrator.domain.lifecycle import Standing, Status
from orchestrator.domain.ownership import Owners
from orchestrator.domain.paths import nest, split_path, with_value_of
from orchestrator.domain.person_fields import ALL_FIELDS, DATES, person_fields
from orchestrator.domain.rehearsal import rehearse
from orchestrator.domain.unique_names import numbered
from schemas.changes import MAX_TEXT
from schemas.commands import DesiredState


class BeforeStart(NamedTuple):
    """Accounts are made so many days before the first day, `inactive` or `active`."""

    days: int
    state: Literal["inactive", "active"] = "inactive"


class TimeRules(NamedTuple):
    """When access ends on a last day (None: with the day), and how many days before an end somebody is warned."""

    access_ends: time | None = None
    contract_end_days: tuple[int, ...] = ()
    entitlement_end_days: tuple[int, ...] = ()


_BY_DAYS = TimeRules()


@dataclass(frozen=True, slots=True)
class ApplicationPolicy:
    """What the configuration says of one application. Expressions are CEL over `person`.

    `attributes` maps SCIM attribute paths (`userName`, `name.givenName`, `enterprise.department`) to expressions.
    """

    app: str
    attributes: Mapping[str, str]
    scope: str = "true"
    groups: str = "[]"
    leave_of_absence: Literal["keep", "deactivate"] = "keep"
    remove_groups: bool = True
    """Whether who loses access is taken out of the groups too."""
    delete_after: timedelta | None = None
    unique: tuple[str, ...] = ()
    """Attribute paths whose value only one account can have: the connector counts on until one is free."""
    write_once: tuple[str, ...] = ()
    """Attribute paths that keep the value with which the account was made."""
    identity_from: str | None = None
    """The application whose account lends a new one here its identity: who moves house keeps the name on the door."""
    identity: tuple[str, ...] = ()
    """Attribute paths that are lent; they are written once too."""
    before_start: BeforeStart | None = None


class Desire(NamedTuple):
    """What a person should have in one application at an instant."""

    state: DesiredState
    resource: Mapping[str, Any]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """`whole` gives `[scope, groups, values]`, or `[false]`; the values are those of `evaluated` in their order.

    Most attributes are plainly a field of the person; those in `copied` need no CEL.
    """

    policy: ApplicationPolicy
    whole: cel.Program
    parts: Mapping[str, cel.Program]
    copied: tuple[tuple[tuple[str, ...], str], ...]
    evaluated: tuple[tuple[tuple[str, ...], str], ...]
    write_once: tuple[tuple[str, ...], ...] = ()
    identity: tuple[tuple[str, ...], ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """All applications' policies, compiled. `digest` names this exact version in commands and audit entries."""

    applications: Mapping[str, _Compiled] = field(repr=False)
    digest: str
    default_zone: str = "UTC"
    time: TimeRules = _BY_DAYS
    fields: frozenset[str] = frozenset()
    """The person's fields that CEL is given."""
    owners: Owners = field(default_factory=Owners)
    reads_dates: bool = False
    """Whether something depends on the first or the last day of an engagement."""
    _context: cel.Context = field(default_factory=lambda: new_context({}), repr=False, compare=False)

    def app_policy(self, app: str) -> ApplicationPolicy | None:
        """The policy of one application, None when the application is no longer connected."""
        compiled = self.applications.get(app)
        return compiled.policy if compiled else None

    def keep_written(self, app: str, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """`wanted` with the write-once attributes as the account already has them."""
        compiled = self.applications.get(app)
        for steps in compiled.write_once if compiled else ():
            wanted = with_value_of(held, wanted, steps)
        return wanted

    def with_identity(self, app: str, desire: Desire | None, accounts: Mapping[str, Account]) -> Desire | None:
        """The desire for an account that is yet to be made, with the identity that another application's has."""
        compiled = self.applications.get(app)
        if desire is None or compiled is None or compiled.policy.identity_from is None:
            return desire
        present, lender = accounts.get(app), accounts.get(compiled.policy.identity_from)
        if lender is None or lender.state == "absent" or (present is not None and present.state != "absent"):
            return desire
        resource = desire.resource
        lent = self.applications.get(lender.app)
        held = numbered(lender.resource, lent.unique if lent else (), lender.number)
        for steps in compiled.identity:
            resource = with_value_of(held, resource, steps)
        return desire._replace(resource=resource)

    @property
    def days_before_start(self) -> set[int]:
        """How many days before the first day some application makes its accounts."""
        found = (compiled.policy.before_start for compiled in self.applications.values())
        return {one.days for one in found if one is not None}

    def desires(
        self, person_id: str, standing: Standing, at: datetime | None = None
    ) -> tuple[dict[str, Desire], list[ExpressionError]]:
        """What the person should have, by application; an application without an entry: no access there.

        Applications whose expressions fail for this person are named in the second part: nothing is known of them.
        """
        if standing.status not in (Status.ACTIVE, Status.ON_LEAVE):
            return self._before_start(person_id, standing, at)
        return self._evaluated(person_id, standing)

    def _before_start(
        self, person_id: str, standing: Standing, at: datetime | None
    ) -> tuple[dict[str, Desire], list[ExpressionError]]:
        """What is made ready for somebody's first day, as the policy will see them then."""
        ahead = standing.ahead
        if ahead is None or at is None:
            return {}, []
        states = {
            app: before.state
            for app, compiled in self.applications.items()
            if (before := compiled.policy.before_start) is not None and ahead.opens(before.days) <= at
        }
        if not states:
            return {}, []
        first_day = Standing(
            Status.PREHIRE,
            at,
            ahead.kind,
            standing.first_attributes,
            start_date=ahead.first_day,
            end_date=ahead.last_day,
        )
        desires, failed = self._evaluated(person_id, first_day, set(states))
        for app, desire in desires.items():
            if states[app] == "inactive":
                desires[app] = Desire("staged", desire.resource, ())
        return desires, failed

    def _evaluated(
        self, person_id: str, standing: Standing, only: Set[str] | None = None
    ) -> tuple[dict[str, Desire], list[ExpressionError]]:
        context = self._context  # made once: each has the whole standard library, each evaluation its own person
        person = person_fields(person_id, standing)
        context.add_variable("person", {name: person[name] for name in self.fields})
        found: dict[str, Desire] = {}
        failed: list[ExpressionError] = []
        for app, compiled in self.applications.items():
            if only is not None and app not in only:
                continue
            if standing.status is Status.ON_LEAVE and compiled.policy.leave_of_absence == "deactivate":
                continue
            try:
                desire = _evaluate(compiled, context, person)
            except ExpressionError as error:
                failed.append(error)
                continue
            if desire is not None:
                found[app] = desire
        return found, failed


def compile_policy(
    policies: list[ApplicationPolicy],
    default_zone: str = "UTC",
    time_rules: TimeRules = _BY_DAYS,
    *,
    tables: Tables | None = None,
    owners: Owners | None = None,
) -> tuple[Policy | None, list[ExpressionError]]:
    """Compile everything; on problems there is no policy, and every problem is returned at once."""
    tables, owners = tables or {}, owners or Owners()
    compiled: dict[str, _Compiled] = {}
    problems: list[ExpressionError] = []
    context = new_context(tables)
    for policy in policies:
        expressions = _expressions(policy)
        parts: dict[str, cel.Program] = {}
        for key, expression in expressions.items():
            program, found = compile_expression(policy.app, key, expression, tables)
            problems += found
            if program is not None:
                parts[key] = program
            if program is not None and not found:
                complaint = rehearse(policy.app, key, expression, program, context)
                problems += [] if complaint is None else [complaint]
        problems += _conflicts(policy)
        problems += [
            ExpressionError(policy.app, key, f"{path} is not among the attributes")
            for key, paths in (
                ("write_once", policy.write_once),
                ("identity", policy.identity),
                ("unique", policy.unique),
            )
            for path in paths
            if path not in policy.attributes
        ]
        if policy.identity_from is not None and policy.identity_from not in {one.app for one in policies} - {
            policy.app
        }:
            reason = f"{policy.identity_from!r} is no other application of the configuration"
            problems.append(ExpressionError(policy.app, "identity_from", reason))
        if len(parts) == len(expressions):
            compiled[policy.app] = _Compiled(
                policy,
                cel.compile(_whole(policy)),
                parts,
                copied=tuple((tuple(split_path(path)), name) for path, name in _copies(policy)),
                evaluated=tuple((tuple(split_path(path)), path) for path in _evaluated(policy)),
                write_once=tuple(
                    tuple(split_path(path)) for path in (*policy.write_once, *policy.identity, *policy.unique)
                ),
                identity=tuple(tuple(split_path(path)) for path in policy.identity),
                unique=tuple(tuple(split_path(path)) for path in policy.unique),
            )
    if problems:
        return None, problems
    described = [
        [
            p.app,
            p.scope,
            p.groups,
            dict(p.attributes),
            p.leave_of_absence,
            None if p.delete_after is None else p.delete_after.total_seconds(),
            p.remove_groups,
            p.write_once,
            p.identity_from,
            p.identity,
            None if p.before_start is None else list(p.before_start),
            p.unique,
        ]
        for p in policies
    ]
    rules = [str(time_rules.access_ends), *time_rules[1:]]
    text = orjson.dumps([default_zone, described, tables, owners.by_attribute, rules], option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(text).hexdigest()[:16]
    named = _fields_named(policies)
    dates = any(name in DATES for one in compiled.values() for _, name in one.copied) or not named.isdisjoint(DATES)
    return Policy(compiled, digest, default_zone, time_rules, named, owners, dates, context), []


def retention_end(policy: ApplicationPolicy, inactive_since: datetime) -> datetime | None:
    """When an account that lost access at `inactive_since` is to be deleted; None: never."""
    if policy.delete_after is None:
        return None
    try:
        return inactive_since + policy.delete_after
    except OverflowError:
        return None


def _copies(policy: ApplicationPolicy) -> list[tuple[str, str]]:
    """Attributes that are plainly a field of the person, with that field."""
    found = []
    for path, expression in policy.attributes.items():
        plain = re.fullmatch(r"\s*person\s*\.\s*([a-z_]+)\s*", expression)
        if plain and plain.group(1) in ALL_FIELDS - {"custom"}:
            found.append((path, plain.group(1)))
    return found


def _evaluated(policy: ApplicationPolicy) -> list[str]:
    """The other attributes."""
    copied = {path for path, _ in _copies(policy)}
    return [path for path in policy.attributes if path not in copied]


def _fields_named(policies: Iterable[ApplicationPolicy]) -> frozenset[str]:
    """Every field that a CEL expression takes by `person.NAME`; all of them where one takes `person` otherwise.

    Only these are handed to CEL, which copies every one.
    """
    named: set[str] = set()
    for policy in policies:
        for expression in (policy.scope, policy.groups, *(policy.attributes[path] for path in _evaluated(policy))):
            for name in re.findall(r"\bperson\b(?:\s*\.\s*([A-Za-z_]\w*))?", expression):
                named.update([name] if name else ALL_FIELDS)
    return frozenset(named & ALL_FIELDS)


def _expressions(policy: ApplicationPolicy) -> dict[str, str]:
    return {
        "scope": policy.scope,
        "groups": policy.groups,
        **{f"attributes.{path}": expression for path, expression in policy.attributes.items()},
    }


def _whole(policy: ApplicationPolicy) -> str:
    values = ", ".join(f"({policy.attributes[path]})" for path in _evaluated(policy))
    return f"({policy.scope}) ? [true, ({policy.groups}), [{values}]] : [false]"


def _evaluate(compiled: _Compiled, context: cel.Context, person: Mapping[str, Any]) -> Desire | None:
    """What the person should have; None outside the scope. Raises ExpressionError."""
    app = compiled.policy.app
    try:
        outcome: list[Any] = compiled.whole.execute(context)
    except FAILURES:
        pass  # the parts say which one it was
    else:
        return _desire(compiled, person, *outcome[1:]) if outcome[0] is True else None
    expressions = _expressions(compiled.policy)
    context.add_variable("person", dict(person))  # the parts name copied fields as well
    for key, program in compiled.parts.items():
        try:
            value = program.execute(context)
        except FAILURES as error:
            raise ExpressionError(app, key, failure(error, expressions[key])) from None
        if key == "scope" and value is False:
            return None
        if key == "scope" and value is not True:
            raise ExpressionError(app, key, "is neither true nor false")
    raise ExpressionError(app, "attributes", "cannot be evaluated as a whole")


def _desire(compiled: _Compiled, person: Mapping[str, Any], groups: Any, values: list[Any]) -> Desire:
    """The outcome as it will come back from the store; a value that JSON lacks would differ at every decision."""
    app = compiled.policy.app
    if not isinstance(groups, list) or not all(isinstance(name, str) for name in groups):
        raise ExpressionError(app, "groups", "is not a list of names")
    if any(len(name) > MAX_TEXT for name in groups):
        raise ExpressionError(app, "groups", f"has a name of more than {MAX_TEXT} characters")
    placed = [(steps, person[name]) for steps, name in compiled.copied]
    for (steps, path), value in zip(compiled.evaluated, values, strict=True):
        placed.append((steps, value if type(value) is str else _as_json(app, path, value)))
    return Desire("active", nest(placed), tuple(sorted({name for name in groups if name})))


def _as_json(app: str, path: str, value: Any) -> Any:
    """The value as JSON has it: an instant becomes text."""
    try:
        return orjson.loads(orjson.dumps(value))
    except TypeError:
        raise ExpressionError(app, f"attributes.{path}", f"is no JSON but {type(value).__name__}") from None


def _conflicts(policy: ApplicationPolicy) -> list[ExpressionError]:
    """Paths that cannot stand in one resource: `name` beside `name.givenName`, or one attribute in two spellings."""
    problems = []
    paths = {path: split_path(path) for path in policy.attributes}
    for path, steps in paths.items():
        if not all(steps):
            problems.append(ExpressionError(policy.app, f"attributes.{path}", "has an empty step in its path"))
        for other, further in paths.items():
            if other != path and further[: len(steps)] == steps:
                reason = f"cannot be mapped beside {path}"
                problems.append(ExpressionError(policy.app, f"attributes.{other}", reason))
    return problems
