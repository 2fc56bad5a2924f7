"""What reconciliation found in applications: orphans, and drift from the desired state."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from orchestrator.evidence.entries import Recorded, name_of
from orchestrator.evidence.reports.base import Column, Question, Row, in_order

COLUMNS = (
    Column("recorded_at", "Found"),
    Column("app", "Application"),
    Column("finding", "Finding"),
    Column("account", "Account"),
    Column("person", "Person"),
    Column("attributes", "Attributes"),
    Column("count", "Accounts found"),
    Column("action", "What was done"),
)

ORPHANS = frozenset({"orphan"})
DRIFT = frozenset({"drifted", "missing", "duplicate", "member_missing", "member_extra", "member_foreign"})


class Findings:
    """The findings of some kinds, one row per account where the entry lists them, else one with their number."""

    def __init__(self, question: Question, kinds: frozenset[str]) -> None:
        self._question = question
        self._kinds = kinds
        self._rows: list[Row] = []

    def take(self, one: Recorded) -> None:
        """The next entry."""
        question = self._question
        if one.kind != "reconciled" or one.text("finding") not in self._kinds:
            return
        if not question.covers(one.at) or question.app not in (None, one.app):
            return
        accounts = one.details.get("accounts")
        found = list(_accounts(accounts)) if isinstance(accounts, list) and accounts else [("", one.subject, "")]
        count = one.details.get("count")
        number = count if isinstance(count, int) else len(found)
        for account, subject, attributes in found:
            about = subject or one.subject
            if question.subject not in (None, about):
                continue
            name = name_of(about, question.keys)
            names = attributes or ", ".join(one.names("changed"))
            self._rows.append(
                (one.at, one.app or "", one.text("finding"), account, name, names, number, one.text("action"))
            )

    def rows(self, cutoff: datetime | None) -> Iterable[Row]:
        """One for each account found."""
        return in_order(self._rows)


def _accounts(listed: list[Any]) -> Iterator[tuple[str, str | None, str]]:
    """An account is listed by its id in the application, or as an object with `account`, `subject` and `changed`."""
    for one in listed:
        if isinstance(one, dict):
            changed = one.get("changed")
            names = ", ".join(str(name) for name in changed) if isinstance(changed, list) else ""
            subject = one.get("subject")
            yield str(one.get("account", "")), subject if isinstance(subject, str) else None, names
        else:
            yield str(one), None, ""
