"""The one promise that only time shows: a leaver is out at once although joiners stand in line."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

from orchestrator.simulation.oracle import Told
from orchestrator.simulation.roles import Plant
from orchestrator.simulation.scenario import FIRST_DAY, START, Arrival, message, personal
from orchestrator.simulation.world import DAY_SECONDS, World
from orchestrator.testing.scim import Habits

JOINERS = 120
CONCURRENCY = 1
"""Few, so that most of the line has not even been begun when somebody leaves."""
LEAVER = "leaver"
OVERTAKEN_SHARE = 0.1
"""Of those who are in line to get in, at most so many may be served before somebody who gets out."""
AT_ONCE_SECONDS = 6.0
"""A leaver's call waits for one that is under way (up to two on the way, twice), never for the line."""
_RUSH = 2.0
"""The day on which everybody joins and one leaves."""


class Backlog(World):
    """A calm world with slow applications."""

    def __post_init__(self) -> None:
        super().__post_init__()
        apps = self.plan.habits
        self.plan = replace(
            self.plan,
            rate=0.0,
            nemesis=False,
            skew=0.0,
            connectors=2,
            habits=dict.fromkeys(apps, Habits()),
            replica_lag=dict.fromkeys(apps, 0.0),
            slow=dict.fromkeys(apps, 1.0),
        )

    def promises(self) -> Iterator[str]:
        """A leaver overtakes the line."""
        if self.overtaken_by > JOINERS * OVERTAKEN_SHARE:
            yield f"leavers_go_first: {self.overtaken_by} of {JOINERS} who came before the leaver were served first"
        if self.seconds_to_deprovision > AT_ONCE_SECONDS:
            yield f"leavers_go_first: the leaver was out after {self.seconds_to_deprovision:.0f} s"

    def _build(self) -> Plant:
        return replace(super()._build(), concurrency=CONCURRENCY)

    @property
    def seconds_to_deprovision(self) -> float:
        """From the event until the last application has closed the leaver's account; infinite if one never has."""
        closed = [
            min((call.at for call in server.journal if call.person == LEAVER and call.after and not call.after.active),
                default=float("inf"))
            for server in self.plant.apps.values()
        ]  # fmt: skip
        return max(closed) - (_RUSH + 0.02) * DAY_SECONDS

    @property
    def overtaken_by(self) -> int:
        """How many joiners of the line got in before the leaver was out, at the application that let most of them in.
        Those who were in before the leaver's event do not count."""
        told_at = (_RUSH + 0.02) * DAY_SECONDS
        most = 0
        for server in self.plant.apps.values():
            out = [call.at for call in server.journal if call.person == LEAVER and call.after and not call.after.active]
            made = [call.at for call in server.journal if call.method == "POST" and call.person != LEAVER]
            most = max(most, sum(told_at < at < min(out, default=float("inf")) for at in made))
        return most

    def _story(self) -> list[Told]:
        joiners = [joined(f"p{number}", _RUSH) for number in range(JOINERS)]
        blocked = Told("leaver1", LEAVER, "idp_disabled", START + timedelta(days=_RUSH + 0.02), {})
        return [joined(LEAVER, 0.1), *joiners, blocked]

    def _arrivals(self) -> Iterable[Arrival]:
        return [Arrival((one.stated - START) / timedelta(days=1), message(one)) for one in self.told]

    def _create_accounts(self) -> None:
        """Nobody has one."""


def joined(person: str, day: float) -> Told:
    """Somebody is hired."""
    attributes = personal(person, f"{person} title", "eng")
    data = {"engagement_id": "e0", "start_date": FIRST_DAY, "contract_end": None, "attributes": attributes}
    return Told(f"of{person}-0", person, "joined", START + timedelta(days=day), data)
