"""Whose an account may be: the other direction of `flows.finding`, by the same rules, for a batch of accounts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from orchestrator.domain.correlation import (
    RULES,
    Candidate,
    Correlation,
    by_attributes,
    candidates,
    handles,
    recognize,
)
from orchestrator.domain.expressions import ExpressionError
from orchestrator.domain.person import Person
from orchestrator.errors import UserError
from orchestrator.ports import PlanStore

BY_ATTRIBUTES = by_attributes(*RULES)


class Recognized(NamedTuple):
    """For each account whose it may be, the surest first; and the persons who are known among those it names."""

    candidates: list[list[Candidate]]
    persons: Mapping[str, Person]


async def recognized(
    app: str,
    rows: Sequence[Mapping[str, Any]],
    store: PlanStore,
    correlation: Correlation,
    more_ids: Iterable[str] = (),
) -> Recognized:
    """Whose these accounts may be. Looked for are those who have one of an account's texts as worker id, or one of its
    e-mail addresses; `more_ids` are worker ids that are asked for as well.

    Raises UserError for a rule that fails.
    """
    found = [handles(row, correlation) for row in rows]
    ids = sorted({*more_ids, *(one for each in found for one in each.ids)})
    emails = sorted({email for each in found for email in each.emails})
    by_email = await store.correlate_emails(emails) if emails else {}
    further = sorted({one for owners in by_email.values() for one in owners} - set(ids))
    known = {person.id: (person, accounts) for person, accounts in await store.named([*ids, *further])}
    persons = {person_id: person for person_id, (person, _) in known.items()}
    ranked = []
    try:
        sought = {
            person_id: correlation.sought(accounts.get(app), person) for person_id, (person, accounts) in known.items()
        }
        for row, each in zip(rows, found, strict=True):
            maybe = {*each.ids, *(one for email in each.emails for one in by_email.get(email, ()))} & sought.keys()
            named = recognize(row, correlation, {one: sought[one] for one in sorted(maybe)})
            ranked.append(candidates(each, persons, by_email, named))
    except ExpressionError as error:
        raise UserError(f"the accounts of {app} cannot be correlated: {error}") from None
    return Recognized(ranked, persons)
