"""What the audit log says, with the people it speaks of: as whoever holds the subject table reads it."""

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.subjects import SqlSubjectStore
from orchestrator.domain.sealing import Subject, unseal


async def told(database: Database, entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries with `person_id`, with identifiers as their sources made them, and with what is sealed as `values`."""
    found = list(entries)
    subjects = await SqlSubjectStore(database).called(sorted({one["subject"] for one in found if one.get("subject")}))
    return [_told(one, subjects.get(one.get("subject", ""))) for one in found]


def _told(entry: Mapping[str, Any], subject: Subject | None) -> dict[str, Any]:
    if subject is None or subject.key is None or subject.person_id is None:
        return dict(entry)
    ids = {
        name: entry[name].replace(subject.id, subject.person_id)
        for name in ("event_id", "correlation_id")
        if name in entry
    }
    values = {"values": unseal(subject.key, entry["id"], entry["sealed"])} if entry.get("sealed") else {}
    return {**entry, **ids, "person_id": subject.person_id, **values}
