"""Where a benchmark runs: the embedded or a real broker, SQLite or PostgreSQL, with topics and tables of its own."""

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy.engine import URL, make_url

from orchestrator.adapters.kafka.embedded import EmbeddedBroker
from orchestrator.adapters.kafka.reaching import explained
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import migrate
from orchestrator.adapters.topic_admin import create_topics, list_topics
from orchestrator.config import EMBEDDED, Config
from orchestrator.errors import Unreachable, UserError
from schemas.topics import topics

SQLITE = "sqlite"
PARTITIONS = 6


@dataclass(frozen=True, slots=True)
class Place:
    """A configuration whose broker and database are up and empty; `bootstrap` is the broker's real address."""

    config: Config
    bootstrap: str
    broker: str
    store: str
    folder: Path
    """Of the run, removed after it."""
    apps: Mapping[str, Any]
    """The applications' settings, as they were given."""
    embedded: EmbeddedBroker | None = None


def application_policy(base_url: str = "http://127.0.0.1:1/scim/v2", **settings: Any) -> dict[str, Any]:
    """An application such as companies have: eight mapped attributes, two groups."""
    return {
        "base_url": base_url,
        "allow_private": True,
        "groups": '["all staff", "dept " + person.department]',
        "attributes": {
            "userName": "person.user_name",
            "externalId": "person.id",
            "name.givenName": "person.given_name",
            "name.familyName": "person.family_name",
            "displayName": "person.display_name",
            "title": "person.title",
            "emails": '[{"value": person.email, "type": "work", "primary": true}]',
            "enterprise.department": "person.department",
        },
        **settings,
    }


@asynccontextmanager
async def open_place(kafka: str, store: str, apps: Mapping[str, Any]) -> AsyncIterator[Place]:
    """Make it, and remove it at the end. Raises UserError where it would touch what is not the benchmark's."""
    folder = Path(tempfile.mkdtemp(prefix="jml-bench-"))
    try:
        async with _store(store, folder) as url, _broker(kafka) as embedded:
            bootstrap = embedded.bootstrap if embedded else kafka
            config = Config.model_validate(
                {
                    "kafka": {"bootstrap": kafka, "partitions": PARTITIONS},
                    "store": {"url": url},
                    "audit": {"dir": folder / "audit"},
                    "breaker": {"enabled": False},  # half of a benchmark's people change departments within seconds
                    "apps": apps,
                }
            )
            if embedded is None:
                await _fresh_topics(config)
            try:
                broker = "embedded" if embedded else "kafka"
                yield Place(config, bootstrap, broker, url.split("+")[0], folder, apps, embedded)
            finally:
                if embedded is None:
                    await _delete_topics(config)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _broker(kafka: str) -> AsyncIterator[EmbeddedBroker | None]:
    if kafka != EMBEDDED:
        yield None
        return
    broker = EmbeddedBroker()
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


async def _fresh_topics(config: Config) -> None:
    states = await list_topics(config.kafka, topics(tuple(config.apps)))
    if taken := [state.topic.name for state in states if state.present is not None]:
        raise UserError(
            f"the broker has a topic {taken[0]} already: a benchmark needs a broker of its own, not to disturb this one"
        )
    await create_topics(config.kafka, topics(tuple(config.apps)))


async def _delete_topics(config: Config) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=config.kafka.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic.name for topic in topics(tuple(config.apps))])
    except OSError as error:
        raise explained(config.kafka.bootstrap, error) from error
    finally:
        await admin.close()


@asynccontextmanager
async def _store(store: str, folder: Path) -> AsyncIterator[str]:
    if store == SQLITE:
        url = f"sqlite+aiosqlite:///{folder / 'jml.db'}"
        await _migrated(url)
        yield url
        return
    name = f"jml_bench_{uuid.uuid4().hex[:10]}"
    server = make_url(store).set(drivername="postgresql")
    await _order(server, f'create database "{name}"')
    try:
        url = make_url(store).set(database=name).render_as_string(hide_password=False)
        await _migrated(url)
        yield url
    finally:
        await _order(server, f'drop database if exists "{name}" with (force)')


async def _order(server: URL, statement: str) -> None:
    """One statement on a connection of its own: a chaos run stops the server in between."""
    try:
        connection = await asyncpg.connect(server.render_as_string(hide_password=False))
    except (OSError, asyncpg.PostgresError) as error:
        raise Unreachable(
            f"PostgreSQL at {server.render_as_string()} does not answer: {type(error).__name__}"
        ) from error
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _migrated(url: str) -> None:
    database = Database(url)
    await migrate(database)
    await database.close()
