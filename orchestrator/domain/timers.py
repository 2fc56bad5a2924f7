"""In which order timers of one instant fire: what takes access away goes ahead of what gives it, mail comes last.

Nothing depends on it for the end: a timer states nothing, and each is decided with all the facts of the moment. It
saves commands, and no leaver waits behind a backlog of joiners.
"""

ENDS = ("contract_end", "termination", "leave_of_absence_start", "entitlement_end")
WARNINGS = ("contract_ends_notice", "entitlement_ends_notice")


def rank(kind: str) -> int:
    """The lower one fires first."""
    return 0 if kind in ENDS else 2 if kind in WARNINGS else 1
