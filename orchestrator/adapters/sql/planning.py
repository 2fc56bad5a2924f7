"""Persons with their desired accounts, page by page and without locks, for plans that write nothing."""

from collections.abc import AsyncIterator, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.records import read_account, read_person
from orchestrator.adapters.sql.tables import account, person
from orchestrator.domain.account import Account
from orchestrator.domain.person import Person

PAGE = 500


class SqlPlanStore:
    """`ports.PlanStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        among = database.among
        self._named = sa.select(person.c.id, person.c.record).where(among(person.c.id)).order_by(person.c.id)
        self._accounts = sa.select(account).where(among(account.c.person_id))
        self._emails = sa.select(person.c.email, person.c.id).where(among(person.c.email)).order_by(person.c.id)

    async def everybody(self) -> AsyncIterator[list[tuple[Person, dict[str, Account]]]]:
        """All persons in the order of their ids, in pages: memory does not grow with their number."""
        after = ""
        while True:
            page = sa.select(person.c.id, person.c.record).where(person.c.id > after).order_by(person.c.id).limit(PAGE)
            async with self._database.read() as connection:
                persons = [read_person(row.id, row.record) for row in await connection.execute(page)]
                if not persons:
                    return
                found = await self._with_accounts(connection, persons)
            yield found
            after = persons[-1].id

    async def named(self, person_ids: Sequence[str]) -> list[tuple[Person, dict[str, Account]]]:
        """These persons; those that no event ever named are left out."""
        async with self._database.read() as connection:
            rows = await connection.execute(self._named, self._database.values(sorted(person_ids)))
            return await self._with_accounts(connection, [read_person(row.id, row.record) for row in rows])

    async def correlate_emails(self, emails: Sequence[str]) -> Mapping[str, list[str]]:
        """The persons that hold each of these e-mail addresses (lower case)."""
        found: dict[str, list[str]] = {}
        async with self._database.read() as connection:
            for row in await connection.execute(self._emails, self._database.values(sorted(emails))):
                found.setdefault(row.email, []).append(row.id)
        return found

    async def _with_accounts(
        self, connection: AsyncConnection, persons: Sequence[Person]
    ) -> list[tuple[Person, dict[str, Account]]]:
        accounts: dict[str, dict[str, Account]] = {one.id: {} for one in persons}
        rows = await connection.execute(self._accounts, self._database.values(list(accounts)))
        for row in rows.mappings():
            accounts[row["person_id"]][row["app"]] = read_account(row)
        return [(one, accounts[one.id]) for one in persons]
