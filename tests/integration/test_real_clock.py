"""By the clock on the wall: whose contract ends in five seconds is out within two seconds of it, and not before it.

All roles over a real broker and store, an application behind HTTP; the witness is what a GET of the account shows.
"""

import asyncio
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import migrate
from orchestrator.bootstrap import running
from orchestrator.config import Config
from orchestrator.roles import role
from tests.integration.application import TOKEN, TOKEN_ENV, Application, Held
from tests.integration.pipeline import configuration, embedded, event, eventually, fresh_topics, opened

pytestmark = pytest.mark.parametrize(
    ("bootstrap", "database_url"),
    [
        pytest.param("embedded", "sqlite", id="embedded"),
        pytest.param("kafka", "postgres", id="kafka", marks=[pytest.mark.kafka, pytest.mark.postgres]),
    ],
    indirect=True,
)
LATEST = timedelta(seconds=2)
BUSY = 3
SECONDS_LEFT = ("ann", "bob", "cid")


@pytest.fixture
def bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "embedded":
        with embedded() as address:
            yield address
        return
    yield request.getfixturevalue("own_kafka")


async def test_a_contractor_is_out_within_two_seconds_of_the_end_and_not_before(
    request: pytest.FixtureRequest,
    bootstrap: str,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(os.environ, TOKEN_ENV, TOKEN)
    database = Database(database_url)
    await migrate(database)
    await database.close()
    async with Application().served() as application:
        config = configuration(
            bootstrap,
            database_url,
            tmp_path / "audit",
            base_url=application.base_url,
            auth={"token_env": TOKEN_ENV},
        )
        if "kafka" in request.node.callspec.id:
            await fresh_topics(config)
        late = await _last_seconds(config, Held(application.base_url))
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    if min(late) > LATEST and busy > BUSY:
        pytest.skip(f"others keep this machine busy ({busy:.0f} runnable per core): out after {min(late)}")
    assert min(late) <= LATEST


async def _last_seconds(config: Config, held: Held) -> list[timedelta]:
    """How long after the end the account was seen closed, of several contractors one after another: a machine may be
    busy for a moment, and nobody may be out before the end."""
    clock = SystemClock()
    people = ["early", *SECONDS_LEFT, "late"]
    late: list[timedelta] = []
    names = ("resolver", "connector", "scheduler", "relay", "auditor")
    async with opened(config) as runtime, running(runtime, [role(name)(runtime) for name in names]) as failed:
        for person in people:
            hired = {"worker_id": person, "start_date": "2026-01-05", "kind": "contractor", "engagement_id": "1"}
            hired["attributes"] = {"user_name": person}  # type: ignore[assignment]
            await runtime.publisher.publish([event("worker.joined", hired, event_id=f"join-{person}", at=clock.now())])

        async def all_in() -> bool:
            return all([await held.active(person) for person in people])

        async def end(person: str, ends_at: datetime) -> None:
            left = {"worker_id": person, "engagement_id": "1", "ends_at": ends_at.isoformat()}
            await runtime.publisher.publish([event("worker.left", left, event_id=f"left-{person}", at=clock.now())])

        await eventually(all_in, seconds=90)
        await end("early", clock.now() - timedelta(days=1))
        await end("late", clock.now() + timedelta(days=1))
        for person in SECONDS_LEFT:
            ends_at = clock.now() + timedelta(seconds=5)
            await end(person, ends_at)
            while (looked_at := clock.now()) < ends_at + timedelta(seconds=60):
                seen = await held.active(person)
                assert seen or clock.now() >= ends_at, "the contract has not ended yet"
                if not seen:
                    late.append(looked_at - ends_at)
                    break
                await asyncio.sleep(0.05)
            if late[-1:] and late[-1] <= LATEST:
                break
        assert await held.active("early") is False, "an end in the past ends access at once"
        assert await held.active("late"), "a contract of tomorrow goes on"
        assert not failed.done()
    return late
