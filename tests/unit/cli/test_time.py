"""What operators see of time: due, overdue, timers, notices; and what extend and end refuse."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import orjson
import pytest

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.notices import SqlNoticeStore
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.domain.account import Account
from orchestrator.domain.history import History, Stated, Statement
from orchestrator.domain.notices import Receiver, notice_key
from orchestrator.domain.person import Decision, Engagement, Person
from orchestrator.domain.sealing import new_subject, unseal
from orchestrator.ports import ResolveChanges, Timer
from orchestrator.ports.noticing import Issued, Settled
from schemas.notices import Notice
from tests.unit.cli.console import Jml

NOW = SystemClock().now().replace(microsecond=0)
STATED = NOW - timedelta(days=30)
TODAY = NOW.date()
SUBJECT = new_subject("4711")


def day(number: int) -> date:
    return TODAY + timedelta(days=number)


def worker(person_id: str, *engagements: Engagement, zone: str = "Asia/Tokyo") -> Person:
    values = {"user_name": person_id, "time_zone": zone}
    history = History((Statement(STATED, STATED, "hr#1", values),))
    known = {one.id: one for one in engagements}
    return Person(person_id, history, known, decision=Decision(STATED, "active", "contractor", "p1"))


def contract(engagement_id: str, end: date | None, *, kind: str = "contractor", start: int = -30) -> Engagement:
    return Engagement(
        engagement_id,
        start=Stated(day(start), STATED, "hr#1"),
        kind=Stated(kind, STATED, "hr#1"),
        contract_end=Stated(end, STATED, "hr#1"),
    )


def account(person_id: str, app: str = "crm", since: datetime = STATED) -> Account:
    return Account(person_id, app, 1, "active", {"userName": person_id}, (), since, "hr#1", "case", "p1")


def tokyo(last_day: date) -> datetime:
    """The end of a day in Tokyo, which has had no daylight saving since 1951."""
    return datetime(last_day.year, last_day.month, last_day.day, 15, tzinfo=NOW.tzinfo)


@pytest.fixture
def people(migrated: str) -> str:
    """Two contractors whose contracts end, an employee, a contractor with two contracts."""
    ends = {"4711": day(3), "4712": day(20)}
    persons = [
        *(worker(one, contract("e1", end)) for one, end in ends.items()),
        worker("4713", contract("e1", None, kind="employee")),
        worker("4714", contract("e1", day(40)), contract("e2", day(50))),
        worker("4715", contract("e1", day(-3), start=-20)),
    ]
    timers = [Timer(one, "contract_end", tokyo(end), "hr#1", "contract_end") for one, end in ends.items()]
    _save(migrated, ResolveChanges(persons=persons, accounts=[account(one) for one in ends], timers_set=timers))
    return migrated


def _save(url: str, changes: ResolveChanges, now: datetime = STATED) -> None:
    async def save() -> None:
        database = Database(url)
        async with SqlResolveStore(database).transaction() as transaction:
            await transaction.load([])
            await transaction.save(changes, now=now)
        await database.close()

    asyncio.run(save())


@pytest.mark.usefixtures("people")
def test_due_lists_what_comes_in_both_zones_with_what_it_will_touch(jml: Jml) -> None:
    shown = jml("due", "--json").json
    (one,) = shown["due"]
    assert (one["person_id"], one["kind"], one["event_id"]) == ("4711", "contract_end", "hr#1")
    assert one["due"] == tokyo(day(3)).isoformat().replace("+00:00", "Z")
    assert (one["local"], one["time_zone"]) == (f"{day(4)}T00:00:00+09:00", "Asia/Tokyo")
    assert one["applications"] == {"crm": "inactive"}, "wiki has no account of theirs"
    assert [one["person_id"] for one in jml("due", "--within", "5w", "--json").json["due"]] == ["4711", "4712"]
    assert jml("due", "--within", "5w", "--app", "wiki", "--json").json["due"] == []
    table = jml("due", "--within", "30d")
    assert "crm inactive" in table.out
    assert "Asia/Tokyo" in table.out


@pytest.mark.usefixtures("people")
def test_due_says_when_there_is_more(jml: Jml) -> None:
    answer = jml("due", "--within", "5w", "--limit", 1)
    assert ("4711" in answer.out, "4712" in answer.out) == (True, False)
    assert "--limit" in answer.err


def test_what_one_timer_does_the_next_one_finds_done(jml: Jml, people: str) -> None:
    """Somebody who starts tomorrow and ends in three days has no account yet, and is to lose it all the same."""
    newcomer = worker("4720", contract("e1", day(3), start=1))
    newcomer = replace_decision(newcomer, "prehire")
    timers = [
        Timer("4720", "engagement_start", tokyo(day(0)), "hr#1", "engagement_start"),
        Timer("4720", "contract_end", tokyo(day(3)), "hr#1", "contract_end"),
    ]
    _save(people, ResolveChanges(persons=[newcomer], timers_set=timers))
    found = [one for one in jml("due", "--json").json["due"] if one["person_id"] == "4720"]
    assert [one["applications"] for one in found] == [
        {"crm": "active", "wiki": "active"},
        {"crm": "inactive", "wiki": "inactive"},
    ]


def replace_decision(person: Person, status: str) -> Person:
    return person._replace(decision=Decision(STATED, status, "contractor", "p1"))


def test_overdue_ends_are_listed_and_alarm_in_status(jml: Jml, people: str) -> None:
    assert jml("due", "--overdue", "--json").json["count"] == 0
    late = replace(account("4715", since=NOW - timedelta(hours=3)), state="inactive", revision=2)
    _save(people, ResolveChanges(accounts=[late]))
    (one,) = jml("due", "--overdue", "--json").json["overdue"]
    assert (one["person_id"], one["app"], one["status"], one["access"]) == ("4715", "crm", "pending", "unknown")
    assert 3 * 3600 <= one["overdue_seconds"] < 4 * 3600
    assert jml("due", "--overdue", "--app", "wiki", "--json").json["count"] == 0
    assert "3 h" in jml("due", "--overdue").out
    assert jml("status", "--json").json["overdue"]["crm"]["ends"] == 1
    assert "ALARM: 1 end overdue in crm, the oldest for 3 h" in jml("status").out


def test_timers_show_open_and_fired_ones_with_event_and_rule(jml: Jml, people: str) -> None:
    shown = jml("timers", "show", "4711", "--json").json
    assert [(one["kind"], one["state"], one["event_id"], one["rule"]) for one in shown["timers"]] == [
        ("contract_end", "open", "hr#1", "contract_end")
    ]
    assert "contract_end" in jml("timers", "show", "4711").out
    jml("timers", "show", "9999").refused("nobody has the worker id '9999', or not any more")


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("extend", "nobody", "--until", "2099-01-01"), "nobody has the worker id 'nobody', or not any more"),
        (("extend", "4713", "--until", "2099-01-01"), "no contractor's engagement that runs"),
        (("extend", "4715", "--until", "2099-01-01"), "no contractor's engagement that runs"),
        (("extend", "4714", "--until", "2099-01-01"), "--engagement (e1, e2)"),
        (("extend", "4714", "--until", "2099-01-01", "--engagement", "e3"), "no contractor's engagement 'e3'"),
        (("extend", "4711", "--until", "2026-01-31"), "is over in Asia/Tokyo: with --yes access ends at once"),
        (("extend", "4711", "--until", str(day(2))), "with --yes it ends earlier"),
        (("end", "nobody", "--now", "--yes"), "nobody has the worker id 'nobody', or not any more"),
        (("end", "4715", "--now", "--yes"), "no engagement of 4715 runs"),
        (("end", "4711", "--now"), "that is not the id: nothing was done"),
    ],
)
def test_what_cannot_be_stated_is_refused_before_anything_is_sent(
    jml: Jml, arguments: Sequence[str], words: str
) -> None:
    answer = jml(*arguments, "--reason", "x", stdin=b"4712\n")
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err.splitlines()[-1]


@pytest.fixture
def notices(migrated: str) -> str:
    """Three deliveries: one parked, one waiting, one delivered."""

    async def fill() -> None:
        database = Database(migrated)
        async with SqlResolveStore(database).transaction() as transaction:
            await transaction.load([])
            await transaction.add_subjects([SUBJECT], now=NOW)
        store = SqlNoticeStore(database)
        for number in range(3):
            told = Notice(id=f"n{number}", kind="contract_ends", person_id="4711", due=NOW, event_id="hr#1")
            await store.accept([Issued(notice_key(told), told, NOW, [Receiver("webhook", "webhook")])], [], now=NOW)
        claimed = await store.claim("webhook", now=NOW, until=NOW + timedelta(minutes=5), limit=2)
        await store.settle(
            [
                Settled(claimed[0], "parked", NOW, None, "refused", "hooks.example.com refuses the notice (400)"),
                Settled(claimed[1], "delivered", NOW),
            ]
        )
        await database.close()

    asyncio.run(fill())
    return migrated


def test_notices_that_nobody_took_are_listed_and_tried_again(jml: Jml, notices: str) -> None:
    shown = jml("notices", "list", "--json").json["deliveries"]
    assert sorted(one["status"] for one in shown) == ["parked", "waiting"]
    assert len(jml("notices", "list", "--all", "--json").json["deliveries"]) == 3
    assert "refused: hooks.example.com" in " ".join(jml("notices", "list").out.split())
    parked = next(one["key"] for one in shown if one["status"] == "parked")
    waiting = next(one["key"] for one in shown if one["status"] == "waiting")
    jml("notices", "retry", waiting).refused("has no parked delivery")
    assert jml("notices", "retry", parked, "--reason", "address corrected", "--json").json["count"] == 1
    assert {one["status"] for one in jml("notices", "list", "--json").json["deliveries"]} == {"waiting"}
    (acted,) = [one for one in asyncio.run(_entries(notices)) if one["kind"] == "operator_acted"]
    assert (acted["subject"], acted["details"]["reason"]) == (SUBJECT.id, "address corrected")
    assert unseal(SUBJECT.key or b"", acted["id"], acted["sealed"]) == {"notice_id": parked}
    again = jml("notices", "retry", "--all")
    assert (again.code, again.err) == (0, "nothing is parked\n")


async def _entries(url: str) -> list[dict[str, Any]]:
    database = Database(url)
    found = await SqlOutbox(database).leftover(older_than=SystemClock().now() + timedelta(minutes=1), limit=9)
    await database.close()
    return [orjson.loads(message.value) for _, messages in found for message in messages]
