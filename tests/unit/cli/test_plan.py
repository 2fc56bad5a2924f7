"""`jml plan`: what would be sent under this policy or another, with nothing written."""

import sqlite3
from pathlib import Path

import pytest

from orchestrator.adapters.kafka.embedded import EmbeddedBroker
from tests.unit.cli.console import Jml

GREETING = """
[apps.crm.attributes]
userName = "person.id"
title = "person.title"

[apps.wiki]
base_url = "http://127.0.0.1:1/scim/v2"
scope = 'person.department == "Research"'
groups = '["readers"]'
attributes = { userName = "person.id" }
"""


@pytest.fixture
def candidate(world: str) -> Path:
    """Another policy over the same store: crm with a title, wiki for research with a group."""
    text = Path("jml.toml").read_text()
    path = Path("new.toml")
    before, _, _ = text.partition("[apps.wiki]")
    path.write_text(before.replace('attributes = { userName = "person.user_name" }', "") + GREETING)
    return path


def rows() -> list[tuple[object, ...]]:
    """Everything a plan could have changed."""
    with sqlite3.connect("state/jml.db") as database:
        return [
            row
            for table in ("person", "account", "timer", "outbox", "inbox")
            for row in database.execute(f"select * from {table}")  # noqa: S608  # names from the line above
        ]


def test_a_plan_names_each_attribute_and_group_that_would_change(jml: Jml, candidate: Path) -> None:
    before = rows()
    shown = jml("plan", "--person", "4711", "--config", candidate, "--json").json
    assert (shown["persons"], shown["touched"]) == (1, 1)
    crm, wiki = shown["planned"]
    assert (crm["app"], crm["kind"], crm["groups_removed"]) == ("crm", "patch", ["staff"])
    assert crm["attributes"]["title"] == {"before": None, "after": "Fellow"}
    assert crm["attributes"]["userName"] == {"before": "ada", "after": "4711"}
    assert (wiki["kind"], wiki["groups_added"]) == ("patch", ["readers"])
    assert rows() == before, "a plan writes nothing"


def test_the_totals_are_of_all_whoever_is_shown(jml: Jml, candidate: Path) -> None:
    shown = jml("plan", "--all", "--config", candidate, "--limit", "0", "--json").json
    assert shown["planned"] == []
    assert shown["persons"] == 3
    assert shown["commands"]["wiki"] == {"patch": 1}
    assert sum(kinds.get("deactivate", 0) for kinds in shown["commands"].values()) == 1, "4712 has no engagement"


def test_people_read_it_as_a_table_and_one_line(jml: Jml, candidate: Path) -> None:
    shown = jml("plan", "--all", "--config", candidate)
    assert shown.code == 0
    assert "nothing was sent" in shown.out
    assert "+readers" in shown.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("--person ID", "--all")),
        (("--all", "--person", "1"), ("--person ID", "--all")),
        (("--person", "nobody"), ("nobody has the worker id 'nobody', or not any more", "worker ids")),
        (("--person", "zz", "--person", "4711", "--person", "aa"), ("the worker ids 'aa', 'zz', or not",)),
        (("--replay", "7d", "--all"), ("leave out",)),
        (("--replay", "7d"), ("same policy",)),
    ],
)
@pytest.mark.usefixtures("world")
def test_a_mistake_is_one_line(jml: Jml, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    jml("plan", *arguments).refused(*words)


@pytest.mark.parametrize("since", ["soon", "7w", "2026-01-01T09:00"])
def test_a_beginning_that_is_no_instant_is_one_line(jml: Jml, candidate: Path, since: str) -> None:
    jml("plan", "--replay", since, "--config", candidate).refused(since)


HIRES = [
    (
        f'{{"specversion":"1.0","id":"h{number}","source":"hr/x","type":"jml.worker.joined.v1",'
        f'"time":"2026-03-01T09:00:00Z","data":{{"worker_id":"n{number}","start_date":"2026-01-01",'
        f'"attributes":{{"department":"{department}","user_name":"n{number}"}}}}}}'
    )
    for number, department in enumerate(["Research", "Research", "Sales"])
]


def test_real_events_are_told_to_both_policies(jml: Jml, candidate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = EmbeddedBroker()
    broker.start()
    try:
        monkeypatch.setenv("JML_KAFKA__BOOTSTRAP", broker.bootstrap)
        events = "\n".join([*HIRES, HIRES[0]])  # the last one is a duplicate
        assert jml("events", "send", "-", stdin=events.encode()).code == 0
        before = rows()
        shown = jml("plan", "--replay", "1h", "--config", candidate, "--json").json
        told = jml("plan", "--replay", "2026-03-02T09:15:00.5+01:00", "--config", candidate).out
    finally:
        broker.stop()
    assert "3 events since 2026-03-02 08:15:00Z: 3 of 3 persons" in told
    assert (shown["events"], shown["unreadable"], shown["differing_persons"]) == (3, 0, 3)
    assert shown["present"]["commands"] == {"crm": {"create": 3}, "wiki": {"create": 3}}
    assert shown["candidate"]["commands"] == {"crm": {"create": 3}, "wiki": {"create": 2}}
    assert rows() == before
