"""Domain values as database records, and back."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import orjson
from sqlalchemy import RowMapping

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.history import History, Stated, Statement
from orchestrator.domain.person import ContractStatement, Decision, End, Engagement, Person
from schemas.envelope import Message


def person_record(person: Person) -> str:
    """Everything stated of a person, as JSON."""
    return orjson.dumps(
        {
            "history": person.history.statements,
            "engagements": [
                [one.id, one.start, one.kind, one.contract_end, one.end] for one in person.engagements.values()
            ],
            "ends": person.ends,
            "contracts": [[one.contract_end, one.kind] for one in person.contracts],
            "decision": person.decision,
        },
        default=_named_tuple,
    ).decode()


def _named_tuple(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    raise TypeError


def read_person(person_id: str, record: str) -> Person:
    """The inverse of `person_record`."""
    fields = orjson.loads(record)
    instant = datetime.fromisoformat
    decision = fields["decision"]
    return Person(
        id=person_id,
        history=History(
            tuple(
                Statement(instant(effective), instant(stated), event_id, values, _day(day) if day else None)
                for effective, stated, event_id, values, day in fields["history"]
            )
        ),
        engagements={
            one[0]: Engagement(
                one[0],
                start=_stated(one[1], _day),
                kind=_stated(one[2], str),
                contract_end=_stated(one[3], _day),
                end=_stated(one[4], _end),
            )
            for one in fields["engagements"]
        },
        ends=tuple(_stated(fact, _end) for fact in fields["ends"]),
        contracts=tuple(
            ContractStatement(
                contract_end=_stated(contract_end, _day) if contract_end else None,
                kind=_stated(kind, str) if kind else None,
            )
            for contract_end, kind in fields["contracts"]
        ),
        decision=Decision(instant(decision[0]), *decision[1:]) if decision else None,
    )


def _stated(fact: Sequence[Any], read: Any) -> Stated[Any]:
    value, stated, event_id = fact
    return Stated(None if value is None else read(value), datetime.fromisoformat(stated), event_id)


def _day(text: str) -> date:
    return date.fromisoformat(text)


def _end(text: str) -> End:
    return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)


def desired(account: Account) -> str:
    """The desired resource and groups, as JSON."""
    return orjson.dumps([account.resource, account.groups]).decode()


def observed(progress: Progress) -> str:
    """The resource and groups as last seen, as JSON."""
    return orjson.dumps([progress.resource, progress.groups]).decode()


def read_account(row: RowMapping) -> Account:
    """The resolver's side of an account row."""
    resource, groups = orjson.loads(row["desired"])
    return Account(
        person_id=row["person_id"],
        app=row["app"],
        revision=row["revision"],
        state=row["state"],
        resource=resource,
        groups=tuple(groups),
        since=row["since"],
        event_id=row["event_id"],
        correlation_id=row["correlation_id"],
        policy=row["policy"],
    )


def read_progress(row: RowMapping) -> Progress:
    """The connector's side of an account row."""
    resource, groups = orjson.loads(row["observed"]) if row["observed"] else ({}, [])
    return Progress(
        version=row["version"],
        applied_revision=row["applied_revision"],
        remote_id=row["remote_id"],
        active=row["active"],
        resource=resource,
        groups=tuple(groups),
        intent=row["intent"],
        status=AccountStatus(row["status"]),
        attempts=row["attempts"],
        error_code=row["error_code"],
        error=row["error"],
        refers_to=row["refers_to"],
    )


def segment(messages: Sequence[Message]) -> bytes:
    """The messages of one transaction as one outbox record.

    Most headers repeat from message to message, so each is kept once and named by its number. Bytes are carried as
    Latin-1 text: every byte has a character there, so quarantined rubbish survives as well.
    """
    numbers: dict[tuple[str, bytes], int] = {}
    number = numbers.setdefault
    rows = [
        [
            message.topic,
            message.key.decode("latin-1"),
            message.value.decode("latin-1"),
            [number(header, len(numbers)) for header in message.headers],
        ]
        for message in messages
    ]
    return orjson.dumps([[[name, value.decode("latin-1")] for name, value in numbers], rows])


def read_segment(record: bytes) -> list[Message]:
    """The inverse of `segment`."""
    known, rows = orjson.loads(record)
    headers = [(name, value.encode("latin-1")) for name, value in known]
    return [
        Message(topic, key.encode("latin-1"), value.encode("latin-1"), tuple(headers[one] for one in numbers))
        for topic, key, value, numbers in rows
    ]
