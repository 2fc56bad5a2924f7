"""Domain values as database records, and back."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import RowMapping

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.breaker import Held
from orchestrator.domain.history import History, Stated, Statement
from orchestrator.domain.person import ContractStatement, Decision, End, Engagement, Person, Warned, Window, Withdrawal
from orchestrator.domain.sealing import Subject
from orchestrator.ports import ApplicationHealth, OperatorStop
from schemas.envelope import Message


def person_record(person: Person) -> str:
    """Everything stated of a person, as JSON. What few people have is left out for all others."""
    record: dict[str, Any] = {
        "history": person.history.statements,
        "engagements": [
            [one.id, *(_fact(fact) for fact in (one.start, one.kind, one.contract_end, one.end))]
            for one in person.engagements.values()
        ],
        "ends": [_fact(one) for one in person.ends],
        "contracts": [[fact and _fact(fact) for fact in (one.contract_end, one.kind)] for one in person.contracts],
        "decision": person.decision,
    }
    if person.entitlements:
        record["entitlements"] = [[*place, _fact(fact)] for place, fact in person.entitlements.items()]
    if person.withdrawn:
        record["withdrawn"] = [[key, *by] for key, by in person.withdrawn.items()]
    if person.warned:
        record["warned"] = person.warned
    if person.identities:
        record["identities"] = [[app, _fact(fact)] for app, fact in person.identities.items()]
    return orjson.dumps(record, default=_named_tuple).decode()


def _fact(fact: Stated[Any]) -> list[Any]:
    """The statement that counts, then those that it superseded, if there are any."""
    earlier = [list(one[:3]) for one in fact.earlier]
    return [*fact[:3], earlier] if earlier else list(fact[:3])


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
        entitlements={(app, group): _stated(fact, _window) for app, group, fact in fields.get("entitlements", ())},
        withdrawn={key: Withdrawal(instant(stated), by) for key, stated, by in fields.get("withdrawn", ())},
        decision=Decision(instant(decision[0]), *decision[1:]) if decision else None,
        warned=tuple(
            Warned(kind, app, group, instant(due), days) for kind, app, group, due, days in fields.get("warned", ())
        ),
        identities={app: _stated(fact, dict) for app, fact in fields.get("identities", ())},
    )


def _stated(fact: Sequence[Any], read: Any) -> Stated[Any]:
    """A fact as it was kept before there were earlier statements, or with them."""
    value, stated, event_id, *more = fact
    earlier = tuple(_stated(one, read) for one in more[0]) if more else ()
    return Stated(None if value is None else read(value), datetime.fromisoformat(stated), event_id, earlier)


def _window(value: Sequence[Any]) -> Window:
    starts, ends = value
    return Window(_end(starts), None if ends is None else _end(ends))


def _day(text: str) -> date:
    return date.fromisoformat(text)


def _end(text: str) -> End:
    return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)


def desired(account: Account) -> str:
    """The desired resource and groups, as JSON."""
    return orjson.dumps([account.resource, account.groups]).decode()


def observed(progress: Progress) -> str:
    """The resource and groups as last seen, then candidates, left groups, and when the account was opened, where there
    is something to say, as JSON."""
    opened = tuple(_microseconds(at) for at in (progress.appeared_at, progress.reopened_at))
    more: list[tuple[Any, ...]] = [progress.candidates, progress.left_groups, opened if any(opened) else ()]
    while more and not more[-1]:
        more.pop()
    return orjson.dumps([progress.resource, progress.groups, *more]).decode()


def read_observed(text: str | None) -> dict[str, Any]:
    """The inverse of `observed`: the fields of `Progress` that it holds."""
    resource, groups, *more = orjson.loads(text) if text else ({}, [])
    candidates, left, opened = (*more, (), (), ())[:3]
    appeared, reopened = opened or (None, None)
    return {
        "resource": resource,
        "groups": tuple(groups),
        "candidates": tuple(candidates),
        "left_groups": tuple(left),
        "appeared_at": _instant(appeared),
        "reopened_at": _instant(reopened),
    }


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _microseconds(at: datetime | None) -> int | None:
    return None if at is None else (at - _EPOCH) // _MICROSECOND


def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + microseconds * _MICROSECOND


def read_account(row: RowMapping, known_as: Subject | None = None) -> Account:
    """The resolver's side of an account row; `known_as` is the person in the audit log."""
    return _account(row, row["issued_at"], known_as)


def _account(row: RowMapping, issued_at: datetime | None, known_as: Subject | None) -> Account:
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
        issued_at=issued_at,
        subject=known_as,
        number=row.get("name_number", 1),  # what is held beside an account has none of its own
    )


def read_progress(row: RowMapping) -> Progress:
    """The connector's side of an account row."""
    return Progress(
        version=row["version"],
        applied_revision=row["applied_revision"],
        remote_id=row["remote_id"],
        active=row["active"],
        intent=row["intent"],
        status=AccountStatus(row["status"]),
        attempts=row["attempts"],
        error_code=row["error_code"],
        error=row["error"],
        refers_to=row["refers_to"],
        number=row["name_number"],
        **read_observed(row["observed"]),
    )


def read_health(row: Any) -> ApplicationHealth:
    """How an application is doing, and what operators say of it."""
    stop = OperatorStop(row.stopped_by, row.stop_reason, row.stopped_at) if row.stopped_at else None
    return ApplicationHealth(row.state, row.reason, row.since, row.not_before, row.next_probe, stop)


def held_row(held: Held) -> dict[str, Any]:
    """What the breaker holds, as a row."""
    account = held.account
    return {
        "person_id": account.person_id,
        "app": account.app,
        "revision": account.revision,
        "state": account.state,
        "desired": desired(account),
        "since": account.since,
        "event_id": account.event_id,
        "correlation_id": account.correlation_id,
        "policy": account.policy,
        "command": held.kind,
        "removal": held.removal,
        "source": held.source,
        "effective_at": held.effective_at,
        "held_at": held.held_at,
        "rejected_at": held.rejected_at,
    }


def read_held(row: RowMapping, known_as: Subject | None = None) -> Held:
    """The inverse of `held_row`. What is held was not issued yet."""
    return Held(
        _account(row, None, known_as),
        row["command"],
        row["removal"],
        row["source"],
        row["effective_at"],
        row["held_at"],
        row["rejected_at"],
    )


def subject_of(row: RowMapping) -> Subject | None:
    """The person of an account as the log knows one; None before the first event."""
    return None if row["subject"] is None else Subject(row["subject"], row["person_id"], row["key"])


def segment(messages: Sequence[Message]) -> bytes:
    """The messages of one transaction as one outbox record: a line of JSON that says what is where, then all keys and
    values as they are, one after the other.

    Most headers repeat from message to message, so each is kept once and named by its number. Their bytes are carried
    as Latin-1 text: every byte has a character there, so quarantined rubbish survives as well.
    """
    numbers: dict[tuple[str, bytes], int] = {}
    number = numbers.setdefault
    rows, parts = [], [b""]
    for topic, key, value, headers in messages:
        rows.append((topic, len(key), len(value), [number(header, len(numbers)) for header in headers]))
        parts += (key, value)
    known = [(name, value.decode("latin-1")) for name, value in numbers]
    parts[0] = orjson.dumps((known, rows), option=orjson.OPT_APPEND_NEWLINE)
    return b"".join(parts)


def read_segment(record: bytes) -> list[Message]:
    """The inverse of `segment`."""
    line, _, bodies = record.partition(b"\n")
    known, rows = orjson.loads(line)
    headers = [(name, value.encode("latin-1")) for name, value in known]
    found, at = [], 0
    for topic, key, value, numbers in rows:
        if isinstance(key, str):  # as it was kept before: the texts themselves in the place of their lengths
            whole = key.encode("latin-1"), value.encode("latin-1")
        else:
            middle = at + key
            whole, at = (bodies[at:middle], bodies[middle : middle + value]), middle + value
        found.append(Message(topic, *whole, tuple(headers[one] for one in numbers)))
    return found
