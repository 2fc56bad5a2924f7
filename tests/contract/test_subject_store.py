"""The contract of what `ports` says about subjects: one for each person, and the first one counts."""

import asyncio
from dataclasses import replace

import pytest

from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.adapters.sql.subjects import SqlSubjectStore
from orchestrator.adapters.sql.sweeping import SqlTimerStore
from orchestrator.domain.sealing import Subject, new_subject
from tests.contract.rows import NOW, TRICKY_IDS, account, save_accounts


async def add(database: Database, *subjects: Subject) -> dict[str, Subject]:
    async with SqlResolveStore(database).transaction() as transaction:
        return dict(await transaction.add_subjects(subjects, now=NOW))


async def test_subjects_come_back_by_person_and_by_name(database: Database) -> None:
    added = {person_id: new_subject(person_id) for person_id in TRICKY_IDS}
    assert await add(database, *added.values()) == added
    store = SqlSubjectStore(database)
    assert await store.of_people([*TRICKY_IDS, "nobody"]) == added
    named = {one.id: one for one in added.values()}
    assert await store.called([*named, "0" * 32]) == named
    assert await store.of_people([]) == await store.called([]) == {}


async def test_the_first_subject_of_a_person_counts(database: Database) -> None:
    first, second, other = new_subject("w1"), new_subject("w1"), new_subject("w2")
    await add(database, first)
    assert await add(database, second, other) == {"w1": first, "w2": other}
    assert await SqlSubjectStore(database).called([second.id]) == {}


async def test_of_two_that_add_a_person_at_once_one_counts(database: Database) -> None:
    found = await asyncio.gather(*(add(database, new_subject("w2"), new_subject("w1")) for _ in range(5)))
    assert all(one == found[0] for one in found)


async def test_whoever_writes_entries_is_told_within_the_transaction(database: Database) -> None:
    subject = new_subject("w1")
    async with SqlResolveStore(database).transaction() as transaction:
        assert await transaction.subjects(["w1"]) == {}
        await transaction.add_subjects([subject], now=NOW)
        assert await transaction.subjects(["w1", "w2"]) == {"w1": subject}
    async with SqlTimerStore(database).transaction() as sweep:
        assert await sweep.subjects(["w1", "w2"]) == {"w1": subject}


async def test_a_transaction_that_is_rolled_back_names_nobody(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with SqlResolveStore(database).transaction() as transaction:
            await transaction.add_subjects([new_subject("w1")], now=NOW)
            raise RuntimeError
    assert await SqlSubjectStore(database).of_people(["w1"]) == {}


async def test_an_account_is_loaded_with_the_subject_and_when_it_was_issued(database: Database) -> None:
    await save_accounts(database, [account("w1"), account("w2")])
    subject = new_subject("w1")
    await add(database, subject)
    rows = await SqlConvergeStore(database).load("crm", ["w1", "w2"])
    assert [rows[one][0].subject for one in ("w1", "w2")] == [subject, None]
    assert rows["w1"][0].issued_at == NOW
    assert rows["w1"][0] == replace(account("w1"), subject=subject)
