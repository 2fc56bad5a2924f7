"""Which entries are wanted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.evidence.entries import needle
from schemas.audit import AuditKind
from schemas.envelope import instant


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted; None wants them all. `since` is included, `until` is not.

    `person` is a worker id or a subject, `subject` the subject of that worker where a keyring knows it. `actor` is
    one actor, or the word before the colon for all of its kind (`operator`).
    """

    person: str | None = None
    app: str | None = None
    kind: AuditKind | None = None
    since: datetime | None = None
    until: datetime | None = None
    subject: str | None = None
    actor: str | None = None
    event: str | None = None
    correlation: str | None = None

    def wants(self, entry: dict[str, Any]) -> bool:
        """Whether an entry is one of them."""
        if self.person is not None and not self._is_about(entry):
            return False
        if self.app is not None and entry.get("app") != self.app:
            return False
        if self.kind is not None and entry.get("kind") != self.kind.value:
            return False
        if self.actor is not None and not _acts(entry.get("actor", ""), self.actor):
            return False
        if self.event is not None and entry.get("event_id") != self.event:
            return False
        if self.correlation is not None and entry.get("correlation_id") != self.correlation:
            return False
        if self.since is None and self.until is None:
            return True
        at = instant(entry["at"])
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def needles(self) -> list[bytes]:
        """What every wanted entry holds; see `entries.recorded`."""
        kind = self.kind.value if self.kind is not None else None
        texts = (self.subject or self.person, self.app, kind, self.event, self.correlation)
        return [found for text in texts if text is not None and (found := needle(text)) is not None]

    def _is_about(self, entry: dict[str, Any]) -> bool:
        return entry.get("subject") in (self.person, self.subject or self.person)


def _acts(actor: str, wanted: str) -> bool:
    return actor == wanted or actor.startswith(f"{wanted}:")
