"""What of the connector's transaction in memory is about accounts that refer to others."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from orchestrator.domain.account import AccountStatus
from orchestrator.testing.tables import Transaction

ACCOUNT = "account"


class References:
    """A part of `store.MemoryConvergeTransaction`."""

    _transaction: Transaction

    async def remote_ids(self, app: str, person_ids: Sequence[str]) -> dict[str, str | None]:
        """The ids in the application of these accounts, which `lock` has locked."""
        await self._transaction.statement()
        rows = {one: self._transaction.get(ACCOUNT, (one, app)) for one in person_ids}
        return {one: row.progress.remote_id for one, row in rows.items() if row is not None}

    async def look_again(self, app: str, referred: Sequence[str], *, now: datetime) -> None:
        """Have those accounts looked at that are done and refer to one of `referred`, whose id is new."""
        await self._transaction.statement()
        wanted = frozenset(referred)
        keys = [
            key
            for key, row in self._transaction.scan(ACCOUNT)
            if key[1] == app and row.progress.refers_to in wanted and row.progress.status is AccountStatus.APPLIED
        ]
        for key in await self._transaction.lock_free(ACCOUNT, sorted(keys), len(keys)):
            await self._transaction.upsert(ACCOUNT, key, lambda row: row and replace(row, attention_at=now))
