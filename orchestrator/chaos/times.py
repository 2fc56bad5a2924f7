"""How long things took, from the evidence of the verdict: until leavers were out, and until blows were got over."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from orchestrator.chaos.evidence import Blow, Evidence, seconds, worker_of
from orchestrator.chaos.plan import SOURCE, end_of, expected

RECOVERED_SECONDS = 120.0
"""What was not seen at work by then had nothing to do, which is no recovery."""


class Left(NamedTuple):
    """A leaver's way out of one application, in seconds since 1970."""

    person: str
    app: str
    received: float
    effective: float
    out: float

    @property
    def took(self) -> float:
        """From when the end was both known and due."""
        return self.out - max(self.received, self.effective)

    @property
    def foreseen(self) -> bool:
        """Whether the end was known before it came, so that a timer brought it about."""
        return self.effective > self.received


def departures(evidence: Evidence) -> Iterator[Left]:
    """Every leaver and application where the account was closed after the end was known and due."""
    people = expected(evidence.told, evidence.judged_at)
    received = {entry["event_id"]: seconds(entry["at"]) for entry in evidence.of("event_received")}
    ends = {
        one.person: (received[event], end_of(one).timestamp())
        for one in evidence.told
        if one.kind == "left" and (event := f"{SOURCE}#{one.id}") in received and not people[one.person].engaged
    }
    for app in evidence.deeds:
        for person, deeds in evidence.changes(app).items():
            closed = [
                deed.at
                for deed in deeds
                if deed.before and deed.before.active and not (deed.after and deed.after.active)
            ]
            if person in ends and closed and closed[-1] >= max(ends[person]):
                yield Left(person, app, *ends[person], closed[-1])


def recoveries(evidence: Evidence) -> dict[str, list[float]]:
    """By kind of blow, the seconds from its end until the first sign that what was hit works again.

    A sign is work: a connector's call, an entry of a role, for broker and database an event taken in. So the figure
    holds the wait for something to do as well, and a blow after which there was nothing to do has none.
    """
    signs = _signs(evidence)
    found: dict[str, list[float]] = defaultdict(list)
    for blow in evidence.blows:
        at = _after(signs.get(_subject(blow), []), blow.end)
        others = [one.begin for one in evidence.blows if one.worker == blow.worker and one.begin >= blow.end]
        if at is not None and at - blow.end <= RECOVERED_SECONDS and at <= min(others, default=at):
            found[blow.kind].append(at - blow.end)
    return dict(sorted(found.items()))


def _subject(blow: Blow) -> str:
    return blow.worker if blow.worker else "event"


def _signs(evidence: Evidence) -> dict[str, list[float]]:
    """By role or service, when it was seen at work."""
    signs: dict[str, list[float]] = defaultdict(list)
    for found in evidence.deeds.values():
        for deed in found:
            signs[deed.caller.partition(".")[0]].append(deed.at)
    for entry in evidence.entries:
        at = seconds(entry["at"])
        signs[worker_of(entry["writer"], evidence.workers)].append(at)
        if entry["kind"] == "event_received":
            signs["event"].append(at)
    return {name: sorted(times) for name, times in signs.items()}


def _after(times: Sequence[float], instant: float) -> float | None:
    place = bisect_left(times, instant)
    return times[place] if place < len(times) else None
