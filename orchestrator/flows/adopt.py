"""Persons out of the accounts of an application that was filled before anybody connected it.

Only whoever is new becomes an event. A person who exists already is never overwritten: the connector links the account
by the rules by which it finds all of them, or a person does.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from orchestrator.domain.adoption import NoWorkerError, event_id, snapshot
from orchestrator.domain.correlation import Candidate, Correlation
from orchestrator.domain.person import Person
from orchestrator.domain.scim_diff import is_active
from orchestrator.flows.account_events import AccountEvents, Judged
from orchestrator.flows.recognizing import BY_ATTRIBUTES, recognized
from orchestrator.ports import PlanStore, ReconcileStore
from schemas.changes import WorkerSnapshot
from schemas.envelope import Envelope

SOURCE = "import/"


class Fate(StrEnum):
    """What becomes of an account."""

    NEW = "new"
    """Nobody has it: it becomes a worker."""
    LINKED = "linked"
    """It is on somebody's record already."""
    KNOWN = "known"
    """It is somebody's who is known already: only linked, and not by the import."""
    INACTIVE = "inactive"
    """Nobody can use it: left out unless it is asked for."""
    REFUSED = "refused"
    """It cannot become a worker; the reason says why."""


class Adoption(AccountEvents):
    """One reading of an application for the import."""

    def __init__(
        self,
        app: str,
        store: ReconcileStore,
        persons: PlanStore,
        *,
        worker_id: tuple[str, ...],
        with_inactive: bool,
        now: datetime,
        correlation: Correlation = BY_ATTRIBUTES,
    ) -> None:
        """`worker_id` is the path of the attribute that holds the worker id, `correlation` by which rules accounts are
        found."""
        super().__init__()
        self._app = app
        self._store = store
        self._persons = persons
        self._worker_id = worker_id
        self._with_inactive = with_inactive
        self._now = now
        self._correlation = correlation
        self._taken: set[str] = set()

    async def judge(self, rows: Sequence[Mapping[str, Any]]) -> list[Judged]:
        """See `AccountEvents`."""
        linked = await self._store.by_remote_id(self._app, [str(row["id"]) for row in rows])
        told = {str(row["id"]): self._told(row) for row in rows if str(row["id"]) not in linked}
        ids = {one.worker_id for one in told.values() if isinstance(one, WorkerSnapshot)}
        ranked, persons = await recognized(self._app, rows, self._persons, self._correlation, ids)
        found = []
        for row, maybe in zip(rows, ranked, strict=True):
            remote_id = str(row["id"])
            if remote_id in linked:
                found.append(Judged(Fate.LINKED, remote_id, linked[remote_id][0].person_id))
            else:
                found.append(self._fate(row, told[remote_id], persons, maybe))
        return found

    def _told(self, row: Mapping[str, Any]) -> WorkerSnapshot | str:
        """The worker that the account tells of, or why there is none."""
        try:
            return snapshot(row, self._worker_id, self._now.date())
        except NoWorkerError as error:
            return str(error)

    def _fate(
        self,
        row: Mapping[str, Any],
        told: WorkerSnapshot | str,
        persons: Mapping[str, Person],
        maybe: Sequence[Candidate],
    ) -> Judged:
        remote_id = str(row["id"])
        if isinstance(told, WorkerSnapshot) and told.worker_id in persons:
            return Judged(Fate.KNOWN, remote_id, told.worker_id, "by the worker id")
        if len(maybe) == 1:
            return Judged(Fate.KNOWN, remote_id, maybe[0].person_id, f"by the {_words(maybe[0])}")
        if maybe:
            return Judged(Fate.REFUSED, remote_id, None, f"may be the account of {len(maybe)} persons who are known")
        if is_active(row) is False and not self._with_inactive:
            return Judged(Fate.INACTIVE, remote_id)
        if isinstance(told, str):
            return Judged(Fate.REFUSED, remote_id, None, told)
        if told.worker_id in self._taken:
            return Judged(Fate.REFUSED, remote_id, None, "has the same worker id as another account")
        self._taken.add(told.worker_id)
        data = told.model_dump_json(exclude_unset=True).encode()
        event = Envelope(
            id=event_id(row, told),
            source=f"{SOURCE}{self._app}",
            type=WorkerSnapshot.TYPE,
            time=self._now,
            subject=told.worker_id,
            data=data,
        )
        return Judged(Fate.NEW, remote_id, told.worker_id, event=event, change=told)


def _words(one: Candidate) -> str:
    return {"email": "e-mail address", "userName": "user name"}.get(one.by, one.by)
