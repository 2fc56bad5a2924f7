"""The figures of a run, as JSON."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from orchestrator.bench.quantiles import spread
from orchestrator.chaos.evidence import Evidence
from orchestrator.chaos.times import Left, departures, recoveries


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that is over. Instants are seconds since 1970: the calm while began, the blows began, peace came."""

    seed: int
    evidence: Evidence
    violations: list[str]
    calm_at: float
    started_at: float
    healed_at: float
    settle_seconds: float

    def calm(self) -> list[Left]:
        """Who was out before anything went wrong."""
        return [one for one in departures(self.evidence) if one.out <= self.started_at]

    def troubled(self) -> list[Left]:
        """Who got out when things went wrong, or after that."""
        return [one for one in departures(self.evidence) if one.out > self.started_at]


def figures(outcome: Outcome, command: str) -> dict[str, Any]:
    """All of them; `command` plays the run again."""
    evidence = outcome.evidence
    deeds = [deed for found in evidence.deeds.values() for deed in found]
    kinds = Counter(entry["kind"] for entry in evidence.entries)
    return {
        "seed": outcome.seed,
        "command": command,
        "violations": outcome.violations,
        "people": len({one.person for one in evidence.told}),
        "applications": len(evidence.deeds),
        "events": len({one.id for one in evidence.told}),
        "duplicates_sent": len(evidence.told) - len({one.id for one in evidence.told}),
        "duplicates_suppressed": kinds["event_duplicated"],
        "unreadable_records": evidence.spoiled,
        "blows": dict(sorted(Counter(blow.kind for blow in evidence.blows).items())),
        "faults": dict(sorted(Counter(deed.fault for deed in deeds if deed.fault).items())),
        "calls": len(deeds),
        "calls_by_method": dict(sorted(Counter(deed.method for deed in deeds).items())),
        "accounts_changed": sum(deed.changed for deed in deeds),
        "audit_entries": len(evidence.entries),
        "commands": {
            kind: kinds[f"command_{kind}"] for kind in ("issued", "applied", "superseded", "retried", "parked")
        },
        "timers_fired": kinds["timer_fired"],
        "seconds": round(outcome.healed_at - outcome.started_at, 1),
        "settle_seconds": round(outcome.settle_seconds, 1),
        "deprovision_calm": times(outcome.calm()),
        "deprovision_troubled": times(outcome.troubled()),
        "recovery": {kind: spread(took) for kind, took in recoveries(evidence).items()},
    }


def times(left: list[Left]) -> dict[str, Any]:
    """Time to deprovision: from the effective instant where the end was known before, else from the received one."""
    return {
        "from_effective": spread([one.took for one in left if one.foreseen]),
        "from_received": spread([one.took for one in left if not one.foreseen]),
    }
