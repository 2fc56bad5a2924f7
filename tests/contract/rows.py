"""Rows that the suites of the stores write and read."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.domain.account import Account
from orchestrator.domain.history import History, Statement
from orchestrator.domain.person import Decision, Person
from orchestrator.ports import ResolveChanges, Timer
from schemas.commands import DesiredState
from schemas.envelope import Message

NOW = datetime(2026, 3, 2, 8, 15, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

TRICKY_IDS = ["a", "B", "é", "Z-9", "z_9", "z9", "10", "9", "ß", "ſ", "E", "𝔘", "\ufffd"]
"""Dictionaries, UTF-16 and code points disagree about the order of these."""


def person(person_id: str, **attributes: str | None) -> Person:
    statement = Statement(NOW, NOW, "hr#1", attributes)
    history = History((statement,)) if attributes else History()
    return Person(person_id, history, decision=Decision(NOW, "active", "employee", "p1"))


def account(person_id: str, app: str = "crm", state: DesiredState = "active", revision: int = 1) -> Account:
    resource = {"userName": person_id, "name": {"givenName": "Zoë"}, "emails": [{"value": "z@example.com"}]}
    return Account(person_id, app, revision, state, resource, ("staff", "dept R&D"), NOW, "hr#1", "case-1", "p1")


def timer(person_id: str, kind: str = "contract_end", due: datetime = NOW) -> Timer:
    return Timer(person_id, kind, due, "hr#1", kind)


def message(text: str = "x") -> Message:
    return Message("scim.crm.provision", text.encode(), b"{}")


async def save(database: Database, changes: ResolveChanges, now: datetime = NOW) -> int | None:
    """One transaction of a resolver that knows what it writes."""
    async with SqlResolveStore(database).transaction() as transaction:
        await transaction.load(sorted({one.id for one in changes.persons}))
        return await transaction.save(changes, now=now)


async def save_accounts(database: Database, accounts: Sequence[Account], now: datetime = NOW) -> None:
    """These accounts, and the persons they belong to."""
    persons = [person(person_id) for person_id in sorted({one.person_id for one in accounts})]
    await save(database, ResolveChanges(persons=persons, accounts=list(accounts)), now)


def another(database: Database) -> Database:
    """The same database as another process sees it."""
    return Database(database.url.render_as_string(hide_password=False))
