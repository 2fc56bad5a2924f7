"""Whom the audit log speaks of: with the database, subjects become worker ids again and sealed values open."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from orchestrator.cli import services
from orchestrator.cli.options import run_async
from orchestrator.cli.output import note
from orchestrator.config import Config
from orchestrator.domain.sealing import Subject, Unreadable, unseal
from orchestrator.errors import StoreUnavailable, UserError

Found = tuple[int, bytes, dict[str, Any]]
"""An entry: its position, the record as it was written, and what it says."""

CHUNK = 500


def nobody(*person_ids: str, more: str = "ids are the HR system's worker ids") -> UserError:
    """The error for worker ids that nobody has: never had, or has no more since the person was erased."""
    many = "s" if len(person_ids) > 1 else ""
    return UserError(f"nobody has the worker id{many} {', '.join(map(repr, person_ids))}, or not any more; {more}")


class People:
    """Names people as long as the database answers; else, and once somebody was erased, the subject has to do.

    Nothing is kept from one call to the next, so that an erasure counts at once. Without a configuration there is no
    database to ask: whoever reads a copy of the log has subjects only.
    """

    def __init__(self, config: Config | None) -> None:
        self._config = config
        self._silent = False

    def subject(self, person: str) -> str:
        """The subject of a worker id; a subject stands for itself. Raises UserError for somebody unknown."""
        found = None if self._config is None else run_async(self._of(self._config, person))
        if found is not None:
            return found.id
        if len(person) == 32 and not set(person) - set("0123456789abcdef"):
            return person
        if self._config is None:
            raise UserError(
                f"a copy of the log has no worker ids such as {person!r}: say the subject that stands for the person"
            )
        raise nobody(
            person,
            more="the entries about somebody who was erased are found by the subject that `jml person erase` printed",
        )

    def told(self, entries: Iterable[Found], *, values: bool = False) -> Iterator[Found]:
        """The entries with `person_id`, and with what is sealed in them as `values` if that is wanted."""
        remaining = iter(entries)
        while chunk := list(islice(remaining, CHUNK)):
            subjects = self._called(sorted({one["subject"] for _, _, one in chunk if one.get("subject")}))
            for position, record, entry in chunk:
                yield position, record, _told(entry, subjects.get(entry.get("subject", "")), values)

    def _called(self, subject_ids: Sequence[str]) -> dict[str, Subject]:
        if self._config is None or self._silent or not subject_ids:
            return {}
        try:
            return run_async(self._ask(self._config, subject_ids))
        except (StoreUnavailable, UserError) as error:
            self._silent = True
            note(f"people are shown by their subjects: {error}")
            return {}

    async def _ask(self, config: Config, subject_ids: Sequence[str]) -> dict[str, Subject]:
        async with services.subject_store(config) as store:
            return dict(await store.called(subject_ids))

    async def _of(self, config: Config, person: str) -> Subject | None:
        async with services.subject_store(config) as store:
            return (await store.of_people([person])).get(person)


def _told(entry: dict[str, Any], subject: Subject | None, values: bool) -> dict[str, Any]:
    if subject is None:
        return entry
    more: dict[str, Any] = {"person_id": subject.person_id}
    if values and subject.key is not None and entry.get("sealed"):
        try:
            more["values"] = unseal(subject.key, entry["id"], entry["sealed"])
        except Unreadable as error:
            more["values"] = {"unreadable": str(error)}
    return {**entry, **more}
