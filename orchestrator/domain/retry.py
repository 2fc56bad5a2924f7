"""How long to wait before the next attempt: exponential with jitter, the application's own wish honoured."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays from `base` on, doubling up to `most` seconds, each taken at random between half and all of it.

    Jitter keeps the accounts that failed together from coming back together.
    """

    base: float = 2.0
    most: float = 900.0

    def delay(self, attempt: int, chance: random.Random) -> float:
        """Seconds before the attempt after the `attempt`-th (1 is the first)."""
        whole = min(self.base * 2.0 ** min(attempt - 1, 30), self.most)
        return whole * (0.5 + chance.random() / 2)

    def next_attempt(
        self, attempt: int, now: datetime, chance: random.Random, not_before: datetime | None = None
    ) -> datetime:
        """The instant of the next attempt; never before the application allows it."""
        wanted = now + timedelta(seconds=self.delay(attempt, chance))
        return wanted if not_before is None else max(wanted, not_before)
