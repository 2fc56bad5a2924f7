"""Asks an application what it is, once a day, and obeys; one that says nothing works too."""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from orchestrator.domain.discovery import Found, read_attributes, read_capabilities, read_endpoints
from orchestrator.errors import Ambiguous, ApplicationDown, Unavailable
from orchestrator.flows.application import Application
from orchestrator.flows.calling import Caller
from orchestrator.ports import ScimRequest

log = structlog.get_logger()

FRESH_SECONDS = 86_400.0
AGAIN_SECONDS = 60.0
"""After a discovery that nobody answered because the application had other troubles."""
SCHEMAS = "/Schemas"
RESOURCE_TYPES = "/ResourceTypes"


class Discovery:
    """What one application says of itself, for its lanes: cached, and shared by whoever asks."""

    def __init__(self, app: str, caller: Caller, application: Application) -> None:
        self._app = app
        self._caller = caller
        self._application = application
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Return when the application is known as well as it can be."""
        if asyncio.get_running_loop().time() < self._due:
            return
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"discover {self._app}")
        await asyncio.shield(self._task)

    async def _run(self) -> None:
        try:
            found, sure = await discover(self._caller, self._application, schemas=False)
            self._application.learn(found if sure or found.answered else self._application.found)
            self._due = asyncio.get_running_loop().time() + (FRESH_SECONDS if sure else AGAIN_SECONDS)
            log.info("application_discovered", app=self._app, answered=list(found.answered))
        finally:
            self._task = None

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


async def discover(caller: Caller, application: Application, *, schemas: bool) -> tuple[Found, bool]:
    """What the application says of itself, and whether every question was answered, be it by "there is no such thing".

    `schemas` are large and matter only to whoever checks a mapping.
    """
    config, sure = await _look(caller, application.codec.CONFIG_PATH)
    types, more = await _look(caller, RESOURCE_TYPES) if application.dialect.version == "2.0" else (None, True)
    described, most = await _look(caller, SCHEMAS) if schemas else (None, True)
    users, groups = read_endpoints(types)
    answers = {application.codec.CONFIG_PATH: config, RESOURCE_TYPES: types, SCHEMAS: described}
    found = Found(
        read_capabilities(config),
        users,
        groups,
        read_attributes(described),
        tuple(path for path, body in answers.items() if body is not None),
    )
    return found, sure and more and most


async def _look(caller: Caller, path: str) -> tuple[Mapping[str, Any] | None, bool]:
    """One document, and whether its absence means anything. A refusal does: many applications let nobody read these."""
    try:
        answer = await caller.look(ScimRequest("GET", path))
    except (ApplicationDown, Ambiguous, Unavailable):
        return None, False
    if answer.status == 200:
        return answer.body, True
    return None, answer.status not in (401, 408, 425, 429) and (answer.status < 500 or answer.status == 501)
