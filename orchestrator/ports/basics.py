"""What every flow needs: the time, and a way to publish."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from schemas.envelope import Message


class Clock(Protocol):
    """The only source of the current time. All instants are aware and in UTC."""

    def now(self) -> datetime:
        """The current instant."""
        ...

    async def sleep_until(self, moment: datetime) -> None:
        """Return when `now()` has reached `moment`, or earlier when the clock was stepped."""
        ...


class Publisher(Protocol):
    """Writes messages to topics."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish all, in order per key, and return when the broker has confirmed all.

        Raises BrokerUnavailable; some of the messages may then have arrived.
        """
        ...
