"""`jml person erase`: refused with every reason, asked for, done once, and written down."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.domain.account import AccountStatus, Progress
from orchestrator.domain.history import History, Stated, Statement
from orchestrator.domain.person import Decision, Engagement, Person
from orchestrator.ports import ProgressUpdate, ResolveChanges
from schemas.audit import AuditEntry
from tests.unit.cli.console import NOW, Jml
from tests.unit.cli.test_operating import outbox


@pytest.fixture
def leaver(world: str) -> str:
    """4713 has left, and the account is closed and gone."""
    asyncio.run(_closed(world))
    return world


async def _closed(url: str) -> None:
    database = Database(url)
    left = History((Statement(NOW, NOW, "hr#4", {"email": "bob@example.com"}),))
    day = (NOW - timedelta(days=30)).date()
    engagement = Engagement("e1", start=Stated(day, NOW, "hr#4"), end=Stated(day, NOW, "hr#4"))
    bob = Person("4713", left, {"e1": engagement}, decision=Decision(NOW, "left", "employee", "p1"))
    async with SqlResolveStore(database).transaction() as transaction:
        await transaction.load(["4713"])
        await transaction.save(ResolveChanges(persons=[bob]), now=NOW)
    gone = Progress(version=1, applied_revision=4, status=AccountStatus.APPLIED)
    async with SqlConvergeStore(database).transaction() as commit:
        await commit.save("crm", [ProgressUpdate("4713", gone, None)], [], now=NOW)
    await database.close()


@pytest.mark.usefixtures("world")
def test_erasing_somebody_with_open_accounts_names_every_reason(jml: Jml) -> None:
    answer = jml("person", "erase", "4711", "--reason", "request 118", "--yes")
    assert (answer.code, answer.out) == (2, "")
    lines = answer.err.splitlines()
    assert [line.startswith("jml: 4711 cannot be erased: ") for line in lines] == [True] * 3
    assert "the person is active" in lines[0]
    assert "the account in crm is active" in lines[1]
    assert jml("person", "show", "4711").code == 0


def test_an_erased_person_is_unknown_and_erasing_again_is_harmless(
    jml: Jml, leaver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JML_OPERATOR", "grace")
    answer = jml("person", "erase", "4713", "--reason", "request 118", "--yes")
    assert answer.code == 0, answer.err
    assert answer.out == f"4713 is erased; the audit log's entries are found by the subject {'d' * 32}\n"
    jml("person", "show", "4713").refused("nobody has the worker id '4713', or not any more")
    ((message,),) = outbox(leaver)
    assert (message.topic, message.key) == ("audit.entries", b"d" * 32)
    entry = AuditEntry.model_validate_json(message.value)
    assert (entry.kind.value, entry.actor, entry.details["reason"]) == (
        "subject_erased",
        "operator:grace",
        "request 118",
    )
    again = jml("person", "erase", "4713", "--reason", "request 118", "--yes", "--json")
    assert (again.code, again.json) == (0, {"erased": False})
    assert len(outbox(leaver)) == 1


@pytest.mark.usefixtures("leaver")
def test_erasing_asks_first_and_wants_a_reason(jml: Jml) -> None:
    declined = jml("person", "erase", "4713", "--reason", "request 118", stdin=b"n\n", terminal=True)
    assert (declined.code, declined.err.endswith("nothing was erased\n")) == (2, True)
    jml("person", "erase", "4713", "--reason", " ", "--yes").refused("--reason is empty")
    assert jml("person", "erase", "4713", "--yes").code == 2
    assert jml("person", "show", "4713").code == 0
    confirmed = jml("person", "erase", "4713", "--reason", "request 118", "--json", stdin=b"y\n", terminal=True)
    assert confirmed.json["erased"] is True


@pytest.mark.usefixtures("leaver")
def test_where_nobody_can_be_asked_it_has_to_be_confirmed_by_an_option(jml: Jml) -> None:
    erase = ("person", "erase", "4713", "--reason", "request 118")
    for stdin in (b"", b"y\n"):
        jml(*erase, stdin=stdin).refused("erase 4713", "add --yes to confirm where nobody can be asked")
    assert jml("person", "show", "4713").code == 0


@pytest.mark.usefixtures("leaver")
def test_nobody_is_asked_about_what_cannot_be_erased(jml: Jml) -> None:
    refused = jml("person", "erase", "4711", "--reason", "request 118", stdin=b"y\n", terminal=True)
    assert refused.code == 2
    assert "the person is active" in refused.err
    assert "for good?" not in refused.err
    unknown = jml("person", "erase", "9999", "--reason", "request 118", terminal=True)
    assert (unknown.code, unknown.out, unknown.err) == (
        0,
        "nothing is kept of 9999: erased before, or never there\n",
        "",
    )


@pytest.mark.usefixtures("leaver")
def test_a_retention_rule_forbids_it_until_a_date(jml: Jml, folder: Path) -> None:
    with (folder / "jml.toml").open("a") as file:
        file.write("\n[privacy]\nretention_days_after_end = 36500\n")
    jml("person", "erase", "4713", "--reason", "request 118", "--yes").refused(
        "have to be kept until 2126-", "[privacy]"
    )
