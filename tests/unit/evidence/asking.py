"""Asks reports about a story."""

from typing import Any

from orchestrator.evidence.reports import REPORTS
from orchestrator.evidence.reports.base import Finished, Question, make
from orchestrator.evidence.tables import document
from schemas.envelope import timestamp
from tests.unit.evidence.story import ANN, Keys, Story, at

ROOT_HASH = bytes(range(32))


def finished(story: Story, name: str, **question: Any) -> Finished:
    """A report about the story."""
    question.setdefault("keys", Keys())
    return make(REPORTS[name], Question(**question), story.read(), len(story.entries), ROOT_HASH)


def rows(story: Story, name: str, **question: Any) -> list[dict[str, Any]]:
    """Its rows, by the names of columns."""
    found: list[dict[str, Any]] = document(finished(story, name, **question))["data"]
    return found


def only(row: dict[str, Any], *names: str) -> tuple[Any, ...]:
    """Some cells of a row."""
    return tuple(row[name] for name in names)


def t(minutes: float) -> str:
    """An instant of the story as reports write it."""
    return timestamp(at(minutes))


def leaver(effective: float, heard: float, done: float | None) -> Story:
    """Ann has access and leaves."""
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.applied(1, ANN, "crm", 1, "active")
    story.issued(heard, ANN, "crm", 2, "inactive", event_id="hr#9", effective_at=at(effective))
    if done is not None:
        story.applied(done, ANN, "crm", 2, "inactive", sent_at=at(done - 0.05))
    return story
