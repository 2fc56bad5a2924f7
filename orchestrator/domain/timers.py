"""In which order timers of one instant fire: what takes access away goes ahead of what gives it, mail comes last.

Nothing depends on it for the end: a timer states nothing, and each is decided with all the facts of the moment. It
saves commands, and no leaver waits behind a backlog of joiners.
"""

import hashlib
from datetime import datetime, timedelta

ENDS = ("contract_end", "termination", "leave_of_absence_start", "entitlement_end")
WARNINGS = ("contract_ends_notice", "entitlement_ends_notice")

POLICY_CHANGED = "policy_changed"
"""Somebody is decided anew because the policy changed."""


def policy_event(version: str) -> str:
    """The event that such a timer names as its cause: the policy it is about."""
    return f"jml/policy#{version}"


def spread(person_id: str, version: str, begin: datetime, over: timedelta) -> datetime:
    """When somebody's turn comes under a new policy: always at the same part of the whole time."""
    part = int.from_bytes(hashlib.sha256(f"{version}/{person_id}".encode()).digest()[:6]) / (1 << 48)
    return begin + over * part


def rank(kind: str) -> int:
    """The lower one fires first."""
    return 0 if kind in ENDS else 2 if kind in WARNINGS else 1
