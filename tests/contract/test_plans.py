"""PostgreSQL reads the rows that are named, and not a whole table for them, however fast the table grew."""

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.converging import SqlConvergeStore, SqlConvergeTransaction
from orchestrator.adapters.sql.engine import Database
from orchestrator.domain.account import Progress
from orchestrator.ports import ProgressUpdate
from tests.contract.rows import NOW, account, save_accounts

MANY = 3000
OFTEN = 8
"""After five times PostgreSQL would keep one plan for all values."""
_READ = sa.text(
    "select coalesce(sum(seq_tup_read + idx_tup_fetch), 0) from pg_stat_xact_user_tables where relname = 'account'"
)


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_handful_of_accounts_is_read_by_their_keys_in_a_table_that_just_grew(database: Database) -> None:
    store = SqlConvergeStore(database)
    await save_accounts(database, [account(f"w{number}") for number in range(3)])
    for version in range(OFTEN):
        await _converge(database, store, "w1", version)
    await save_accounts(database, [account(f"many{number}") for number in range(MANY)])
    assert await _converge(database, store, "w1", OFTEN) < 50


async def _converge(database: Database, store: SqlConvergeStore, person_id: str, version: int) -> int:
    """How many rows of accounts one group commit has PostgreSQL read."""
    async with database.write() as connection:
        before = await _read(connection)
        transaction = SqlConvergeTransaction(connection, database, store)
        await transaction.lock("crm", [person_id])
        update = ProgressUpdate(person_id, Progress(version=version, remote_id="r1"), None)
        await transaction.save("crm", [update], [], now=NOW)
        await transaction.look_again("crm", [person_id], now=NOW)
        return await _read(connection) - before


async def _read(connection: AsyncConnection) -> int:
    return int((await connection.execute(_READ)).scalar_one())
