"""Looks at an application before its first account: do the credentials work, what can it do, does the mapping fit?"""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.domain.discovery import Trouble, misalignments
from orchestrator.domain.outcome import classify
from orchestrator.errors import Rejected
from orchestrator.flows.application import Application
from orchestrator.flows.calling import Caller
from orchestrator.flows.discovery import discover
from orchestrator.ports import ScimRequest


@dataclass(frozen=True, slots=True)
class Examined:
    """What an examination found. `users` is None where the application does not say how many it holds."""

    users: int | None
    answered: tuple[str, ...]
    troubles: list[tuple[str, Trouble]] | None
    """Attributes that do not fit; None when the application shows no schema to compare with."""


async def examine(caller: Caller, application: Application, mapped: Iterable[str]) -> Examined:
    """Read one row with the credentials, discover, and compare the mapping with the schema. It changes nothing.

    Raises the ScimError that the first read ended in.
    """
    answer = await caller.look(ScimRequest("GET", application.found.users, query={"count": "1", "startIndex": "1"}))
    error = classify(answer.status, answer.body, answer.headers, caller.clock.now())
    if error is not None:
        raise error
    page = application.page(answer)
    if page is None:
        raise Rejected(f"the application answers a list of users with {answer.status} and no list: check base_url")
    found, _ = await discover(caller, application, schemas=True)
    application.learn(found)
    troubles = None if found.attributes is None else misalignments(mapped, found.attributes)
    return Examined(page.total, found.answered, troubles)
