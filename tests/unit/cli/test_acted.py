"""What operators do reaches the topic of the audit log when the command ends, and by the relay where no broker is."""

import asyncio
from collections.abc import Iterator

import orjson
import pytest

from orchestrator.adapters.kafka.embedded import EmbeddedBroker
from orchestrator.adapters.kafka.replaying import read_since
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.ports import ResolveChanges
from schemas.envelope import Message
from schemas.topics import AUDIT_ENTRIES
from tests.unit.cli.console import NOW, Jml
from tests.unit.cli.test_erasing import leaver
from tests.unit.cli.test_held_and_apps import breaking
from tests.unit.cli.test_operating import outbox

__all__ = ["breaking", "leaver"]

OF_OTHERS = Message(
    AUDIT_ENTRIES, b"k", b'{"id":"resolver@elsewhere/1/1"}', (("ce_source", b"jml/resolver@elsewhere"),)
)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A broker that the configuration names."""
    embedded = EmbeddedBroker()
    embedded.start()
    monkeypatch.setenv("JML_KAFKA__BOOTSTRAP", embedded.bootstrap)
    yield embedded.bootstrap
    embedded.stop()


async def _leave(url: str) -> None:
    """A segment that another process is publishing."""
    database = Database(url)
    async with SqlResolveStore(database).transaction() as transaction:
        await transaction.load([])
        await transaction.save(ResolveChanges(outbox=[OF_OTHERS]), now=NOW)
    await database.close()


async def _published(bootstrap: str) -> list[str]:
    records = [one async for one in read_since(bootstrap, (AUDIT_ENTRIES,), NOW.replace(year=2000))]
    return [orjson.loads(one.value or b"")["kind"] for one in records]


@pytest.mark.usefixtures("breaking", "leaver")
def test_what_an_operator_does_is_published_at_once_and_nothing_of_others(jml: Jml, world: str, broker: str) -> None:
    asyncio.run(_leave(world))
    for command in (
        ("apps", "pause", "crm", "--reason", "maintenance"),
        ("apps", "resume", "crm"),
        ("held", "release", "--person", "4711", "--app", "crm", "--reason", "meant"),
        ("held", "reject", "--person", "4712", "--reason", "mistake"),
        ("parked", "retry", "4712"),
        ("accounts", "unlink", "crm", "--person", "4711", "--reason", "her namesake's", "--yes"),
        ("policy", "apply", "--yes"),
        ("person", "erase", "4713", "--reason", "request 118", "--yes"),
    ):
        answer = jml(*command)
        assert answer.code == 0, answer.err
        assert "relay" not in answer.err
    assert outbox(world) == [[OF_OTHERS]]
    assert asyncio.run(_published(broker)) == [
        "application_paused",
        "application_resumed",
        "command_released",
        "command_issued",
        "command_rejected",
        "operator_acted",
        "account_unlinked",
        "operator_acted",
        "subject_erased",
    ]


def test_without_a_broker_it_is_done_all_the_same_and_waits_for_the_relay(jml: Jml, world: str) -> None:
    answer = jml("apps", "pause", "crm", "--reason", "maintenance")
    assert answer.code == 0
    assert "the audit log has it once the broker answers, by `jml run relay`" in answer.err
    assert [len(messages) for messages in outbox(world)] == [1]


def test_a_command_that_did_nothing_asks_no_broker(jml: Jml, world: str) -> None:
    assert "relay" not in jml("parked", "retry", "4711").err
