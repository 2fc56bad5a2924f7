"""The figures of a run, as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.chaos.evidence import Evidence
from orchestrator.chaos.judge import deprovision_seconds
from orchestrator.chaos.nemesis import Blow


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that is over. Instants are seconds since 1970."""

    seed: int
    evidence: Evidence
    blows: list[Blow]
    violations: list[str]
    started_at: float
    healed_at: float
    settle_seconds: float


def figures(outcome: Outcome, command: str) -> dict[str, Any]:
    """All of them; `command` plays the run again."""
    evidence = outcome.evidence
    deeds = [deed for found in evidence.deeds.values() for deed in found]
    kinds = Counter(entry["kind"] for entry in evidence.entries)
    took = deprovision_seconds(evidence)
    return {
        "seed": outcome.seed,
        "command": command,
        "violations": outcome.violations,
        "people": len({one.person for one in evidence.told}),
        "applications": len(evidence.deeds),
        "events": len({one.id for one in evidence.told}),
        "duplicates_sent": len(evidence.told) - len({one.id for one in evidence.told}),
        "duplicates_suppressed": kinds["event_duplicated"],
        "kills": dict(Counter(_role(blow) for blow in outcome.blows if blow.what == "kill")),
        "pauses": dict(Counter(_role(blow) for blow in outcome.blows if blow.what == "pause")),
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
        "deprovision": {
            "measured": len(took),
            **{f"p{share}": round(quantile(took, share / 100), 3) for share in (50, 95, 99) if took},
            **({"max": round(took[-1], 3)} if took else {}),
        },
    }


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return ordered[max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1)]


def _role(blow: Blow) -> str:
    return blow.whom.rpartition("-")[0]
