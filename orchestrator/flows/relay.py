"""The relay: nothing stays behind. Publishes what a crash left in the outbox and re-issues what needs another look."""

from datetime import timedelta

from orchestrator.domain.account import Account, command_kind
from orchestrator.domain.resolve import Raised
from orchestrator.flows.outbox import OutboxPublisher, publish_leftovers
from orchestrator.flows.resolve import command
from orchestrator.metrics import HELD
from orchestrator.ports import AttentionStore, Clock, OutboxStore, Publisher

SWEEP_LIMIT = 500
NEXT_LOOK = timedelta(minutes=5)
"""When an account that was re-issued is looked at again, should that command get lost too."""


class RelayFlow:
    """Retries that are due, intents without an outcome, commands that never arrived: all are accounts whose
    `attention_at` has come, and all get the same treatment, their present command again."""

    def __init__(
        self,
        attention: AttentionStore,
        outbox_store: OutboxStore,
        outbox: OutboxPublisher,
        publisher: Publisher,
        clock: Clock,
    ) -> None:
        self._attention = attention
        self._outbox_store = outbox_store
        self._outbox = outbox
        self._publisher = publisher
        self._clock = clock
        self._had_held: set[str] = set()

    async def sweep(self) -> tuple[int, int]:
        """Returns how many outbox segments and how many accounts were taken care of.

        Raises StoreUnavailable and BrokerUnavailable; the next sweep tries again.
        """
        segments = await publish_leftovers(self._outbox_store, self._publisher, self._clock)
        accounts = 0
        while True:
            taken = await self._reissue()
            accounts += taken
            if taken < SWEEP_LIMIT:
                return segments, accounts

    async def count_held(self) -> None:
        """Tell the metric what the breaker holds. Raises StoreUnavailable."""
        held = await self._attention.held()
        for app in self._had_held - held.keys():
            HELD.labels(app).set(0)
        for app, number in held.items():
            HELD.labels(app).set(number)
        self._had_held = set(held)

    async def _reissue(self) -> int:
        now = self._clock.now()
        async with self._attention.transaction() as transaction:
            accounts = await transaction.take(now=now, limit=SWEEP_LIMIT)
            if not accounts:
                return 0
            messages = [command(_raised(account), "", now) for account in accounts]
            segment = await transaction.reissued(accounts, messages, next_attention=now + NEXT_LOOK, now=now)
        await self._outbox.submit(segment, messages)
        return len(accounts)


def _raised(account: Account) -> Raised:
    """The command for an account's present state; the connector finds out what is left to do."""
    return Raised(account, command_kind(account, account.state), account.since)
