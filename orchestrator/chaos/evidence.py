"""What a verdict rests on: files that the applications, the load and the auditor wrote while it happened.

`APP.deeds.jsonl` is the inner witness of an application: what a request really did, in the order in which it did it.
`APP.journal.jsonl` is the outer one: what was answered, and when. A fault lies between the two.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from orchestrator.chaos.plan import Told

WRITES = ("POST", "PUT", "PATCH", "DELETE")
DEPARTMENT = "eng"


@dataclass(frozen=True, slots=True)
class State:
    """An account as its application holds it."""

    active: bool
    title: str


@dataclass(frozen=True, slots=True)
class Deed:
    """One request and what it did. Times are seconds since 1970."""

    at: float
    caller: str
    method: str
    path: str
    status: int
    fault: str = ""
    allowed_at: float | None = None
    """Before this instant the caller was asked not to call again."""
    person: str = ""
    account: str = ""
    before: State | None = None
    after: State | None = None
    group: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    arrived_at: float | None = None
    """When the request came. `at` is when it was carried out, which is later where the application was slow."""

    @property
    def changed(self) -> bool:
        """Whether an account was another one afterwards."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Pause:
    """A process that was stopped for a while and went on as if nothing had happened."""

    caller: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Blow:
    """Something that was done to a role, to one of its links or its clock, or to a service. Times as a deed's."""

    what: str
    whom: str
    begin: float
    end: float
    by: float = 0.0
    """Of a clock: the seconds by which it was wrong."""

    @property
    def kind(self) -> str:
        """What is alike over several of them: `kill connector`, `cut database`."""
        return f"{self.what} {self.whom.rpartition(' to ')[2] if self.what == 'cut' else self.whom.partition('-')[0]}"

    @property
    def worker(self) -> str:
        """The process that was hit; empty where it was a service."""
        return self.whom.partition(" to ")[0] if "-" in self.whom else ""

    def about(self, begin: float, end: float) -> bool:
        """Whether it overlaps a span."""
        return self.begin <= end and begin <= self.end


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it. `logs` holds what must not hold any of the `canaries`, by name."""

    told: list[Told]
    entries: list[dict[str, Any]]
    deeds: dict[str, list[Deed]]
    journals: dict[str, list[dict[str, Any]]]
    departments: Mapping[str, str | None]
    """By application, the one department that has access to it; None where everybody has."""
    judged_at: datetime
    pauses: list[Pause] = field(default_factory=list)
    blows: list[Blow] = field(default_factory=list)
    logs: Mapping[str, bytes] = field(default_factory=dict)
    canaries: tuple[str, ...] = ()
    exits: tuple[str, ...] = ()
    """Roles that ended although nobody had asked or killed them."""
    spoiled: int = 0
    """Records that nobody can read, each of which belongs into quarantine."""
    workers: Mapping[int, str] = field(default_factory=dict)
    """By process id, the role that it was: `connector-2`."""

    def of(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """The audit entries of some kinds, in the order of the log."""
        return (entry for entry in self.entries if entry["kind"] in kinds)

    def changes(self, app: str) -> dict[str, list[Deed]]:
        """By person, the deeds that changed an account."""
        found: dict[str, list[Deed]] = {}
        for deed in self.deeds[app]:
            if deed.changed and deed.person:
                found.setdefault(deed.person, []).append(deed)
        return found


def worker_of(writer: str, workers: Mapping[int, str]) -> str:
    """The process that wrote an audit entry, from its writer's name `role@host-pid-random`."""
    found = re.search(r"-(\d+)-[0-9a-f]+$", writer)
    return workers.get(int(found.group(1)), "") if found else ""


def set_right(entries: list[dict[str, Any]], blows: Sequence[Blow], workers: Mapping[int, str]) -> None:
    """The true instants of entries whose writer had a clock that was stepped. Of the instants that an entry may have
    been written at, the one next to its predecessor's counts."""
    steps: dict[str, list[Blow]] = {}
    for blow in blows:
        if blow.by:
            steps.setdefault(blow.worker, []).append(blow)
    last: dict[str, float] = {}
    for entry in entries:
        stepped = steps.get(worker_of(entry["writer"], workers), [])
        if not stepped:
            continue
        at = seconds(entry["at"])
        right = [at] if not any(blow.begin < at < blow.end for blow in stepped) else []
        right += [at - blow.by for blow in stepped if blow.begin - 1 <= at - blow.by <= blow.end + 1]
        before = last.get(entry["writer"], min(right, default=at))
        at = min(right, key=lambda one: abs(one - before), default=at)
        last[entry["writer"]] = at
        entry["at"] = datetime.fromtimestamp(at, UTC).isoformat()


def lines(path: Path) -> list[Any]:
    """The whole lines of a file that another process may be writing."""
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def with_people(entries: list[dict[str, Any]], told: Iterable[Told], source: str) -> list[dict[str, Any]]:
    """Audit entries with the person each is about, as `person_id`.

    The log names people by subjects, and only our database says who they are. That is not asked: the event that a
    subject received was told of somebody, and the list of what was told says of whom.
    """
    about = {f"{source}#{one.id}": one.person for one in told}
    people = {one["subject"]: about.get(one["event_id"]) for one in entries if one["kind"] == "event_received"
              and one.get("event_id") in about}  # fmt: skip
    return [{**one, "person_id": people.get(one.get("subject"), one.get("subject"))} for one in entries]


def deeds(path: Path) -> list[Deed]:
    """What an application wrote of itself."""
    return [deed(line) for line in lines(path)]


def deed(line: dict[str, Any]) -> Deed:
    """One line of it."""
    states = {name: State(**line[name]) for name in ("before", "after") if line.get(name)}
    lists = {name: tuple(line.get(name, ())) for name in ("added", "removed")}
    return Deed(**{**line, **states, **lists})


def seconds(instant: str) -> float:
    """An instant of an audit entry or a journal."""
    return datetime.fromisoformat(instant).timestamp()
