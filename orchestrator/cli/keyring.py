"""The keyring of the database: who the subjects of the log are, and what is sealed about them, for one command."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, TypeVar

from orchestrator.cli import services
from orchestrator.cli.output import note
from orchestrator.config import Config
from orchestrator.domain.sealing import Subject, Unreadable, unseal
from orchestrator.errors import StoreUnavailable, UserError
from orchestrator.ports import SubjectStore

T = TypeVar("T")

CHUNK = 500


class DatabaseKeys:
    """`evidence.entries.Keyring`. A database that does not answer leaves the subjects as they are, and says so once.

    Keys are kept for as long as the command runs, so that a report is of one moment.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._store: SubjectStore | None = None
        self._silent = False
        self._known: dict[str, Subject | None] = {}

    def __enter__(self) -> "DatabaseKeys":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            self._runner.run(self._stack.aclose())
        self._runner.close()

    @property
    def answers(self) -> bool:
        """Whether the database answered whenever it was asked."""
        return not self._silent

    def know(self, subjects: Iterable[str]) -> None:
        """Look up those that nobody asked for yet."""
        missing = sorted(set(subjects) - self._known.keys())
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            found = self._ask(self._called(chunk)) or {}
            self._known.update({subject: found.get(subject) for subject in chunk})

    def person_of(self, subject: str) -> str | None:
        """The worker id of a subject."""
        self.know((subject,))
        found = self._known[subject]
        return found.person_id if found is not None else None

    def subject_of(self, person_id: str) -> str | None:
        """The subject that stands for a worker id."""
        found = self._ask(self._of(person_id))
        return found.id if found is not None else None

    def open(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is sealed in an entry."""
        subject, sealed = entry.get("subject"), entry.get("sealed")
        if subject is None or not sealed:
            return {}
        self.know((subject,))
        found = self._known[subject]
        if found is None or found.key is None:
            return {}
        try:
            return unseal(found.key, entry["id"], sealed)
        except Unreadable as error:
            return {"unreadable": str(error)}

    def _ask(self, work: Coroutine[Any, Any, T]) -> T | None:
        if self._silent:
            work.close()
            return None
        try:
            return self._runner.run(work)
        except (StoreUnavailable, UserError) as error:
            self._silent = True
            note(f"people are shown by their subjects: {error}")
            return None

    async def _called(self, subjects: list[str]) -> Mapping[str, Subject]:
        return await (await self._open()).called(subjects)

    async def _of(self, person_id: str) -> Subject | None:
        return (await (await self._open()).of_people([person_id])).get(person_id)

    async def _open(self) -> SubjectStore:
        if self._store is None:
            self._store = await self._stack.enter_async_context(services.subject_store(self._config))
        return self._store
