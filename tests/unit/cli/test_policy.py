"""`jml policy`: what would change is said first, too much of it needs a word, and it is on record."""

import asyncio
import sqlite3
from pathlib import Path

import orjson
import pytest

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.config import load_config
from tests.unit.cli.console import NOW, Jml

BREAKER = "\n[breaker]\nlimit = {limit}\nshare = 0.0\nmin_population = 0\n"


def timers() -> list[tuple[str, str, str]]:
    with sqlite3.connect("state/jml.db") as database:
        select = "select person_id, event_id, due from timer where kind = 'policy_changed' order by person_id"
        return list(database.execute(select))


def limited(path: Path, limit: int) -> None:
    path.write_text(path.read_text() + BREAKER.format(limit=limit))


def acted(url: str) -> list[dict[str, object]]:
    """The operator's entries in the outbox."""

    async def look() -> list[dict[str, object]]:
        database = Database(url)
        segments = await SqlOutbox(database).leftover(older_than=NOW.replace(year=2100), limit=10)
        await database.close()
        return [orjson.loads(message.value) for _, messages in segments for message in messages]

    return [one for one in asyncio.run(look()) if one["kind"] == "operator_acted"]


def test_a_dry_run_says_what_a_plan_says_and_changes_nothing(jml: Jml, world: str) -> None:
    planned = jml("plan", "--all", "--json").json
    shown = jml("policy", "apply", "--dry-run", "--json").json
    names = ("policy", "persons", "touched", "commands", "problems")
    assert {name: shown[name] for name in names} == {name: planned[name] for name in names}
    assert (shown["undecided"], shown["scheduled"]) == (3, None)
    assert shown["removals"] == {"crm": 2}, "4712 is to be closed, 4711 loses a group"
    assert (timers(), acted(world)) == ([], [])


def test_everybody_is_scheduled_once_and_it_is_on_record(jml: Jml, world: str, configured: Path) -> None:
    limited(configured, 100)
    version = load_config(configured).policy().digest
    assert jml("policy", "apply", "--over", "1h", "--json").json["scheduled"] == 3
    first = timers()
    assert [(one, cause) for one, cause, _ in first] == [
        (one, f"jml/policy#{version}") for one in ("4711", "4712", "4713")
    ]
    (entry,) = acted(world)
    assert entry["policy"] == version
    assert entry["details"] == {
        "action": "apply_policy",
        "version": version,
        "persons": 3,
        "touched": 2,
        "commands": {"crm": {"deactivate": 1, "patch": 1}, "wiki": {"patch": 1}},
        "over_seconds": 3600,
    }
    again = jml("policy", "apply", "--json").json
    assert (again["scheduled"], again["waiting"]) == (0, 3)
    assert timers() == first


def test_more_than_the_breaker_lets_pass_needs_a_word(jml: Jml, world: str, configured: Path) -> None:
    limited(configured, 1)
    refused = jml("policy", "apply")
    assert refused.code == 2
    assert "crm: access of 2 accounts would be taken away, the breaker lets 1 pass" in refused.err
    assert "--yes" in refused.err
    assert (timers(), acted(world)) == ([], [])
    shown = jml("policy", "apply", "--yes", "--json").json
    assert shown["past_breaker"] == [{"app": "crm", "removals": 2, "limit": 1}]
    assert (shown["scheduled"], len(timers())) == (3, 3)


def test_without_a_breaker_every_loss_of_access_needs_a_word(jml: Jml, world: str, configured: Path) -> None:
    configured.write_text(configured.read_text() + "\n[breaker]\nenabled = false\n")
    refused = jml("policy", "apply")
    assert (refused.code, timers()) == (2, [])
    assert "no breaker would hold any of it" in refused.err


def test_show_names_the_version_and_who_is_behind(jml: Jml, world: str, configured: Path) -> None:
    shown = jml("policy", "show", "--json").json
    version = load_config(configured).policy().digest
    assert shown == {
        "policy": version,
        "undecided": 3,
        "waiting": 0,
        "versions": [{"version": "p1", "persons": 3}],
    }
    table = jml("policy", "show")
    assert "3 persons are not decided by it yet" in table.out


@pytest.mark.parametrize("over", ["soon", "400d", "-1h"])
def test_a_time_that_is_none_is_refused(jml: Jml, world: str, over: str) -> None:
    jml("policy", "apply", "--over", over).refused("--over")
