"""A mistaken import ends most of the company: what the breaker lets pass, and what an operator does about the rest."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.flows import outbox
from tests.acceptance.company import Company, Work, company, eventually

PEOPLE, LIMIT = 60, 7
NAMES = [f"p{number:03}" for number in range(PEOPLE)]
BREAKER = f"[breaker]\nlimit = {LIMIT}\nshare = 0.0"
ROLES = ("resolver", "connector", "relay", "auditor")


@pytest.fixture(autouse=True)
def quick_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What commands leave in the outbox, nobody but the relay publishes."""
    monkeypatch.setattr(outbox, "ABANDONED_AFTER", timedelta(seconds=2))


async def hired(work: Work, names: list[str]) -> None:
    """They are at work."""
    await work.tell(*(work.company.joins(one) for one in names))
    await work.done()


async def active(one: Company) -> int:
    """How many can sign in, as the application says."""
    return sum((await one.accounts()).values())


async def test_at_most_the_limit_is_out_and_what_is_released_follows(tmp_path: Path) -> None:
    async with company(tmp_path, more=BREAKER) as one, one.at_work(*ROLES) as work:
        await hired(work, NAMES)
        await work.tell(*(one.leaves(name) for name in NAMES[:50]), one.joins("new"))
        await work.done()
        assert Counter((await one.accounts()).values()) == {True: PEOPLE - LIMIT + 1, False: LIMIT}

        held = await one.jml("held", "list", "--app", "directory", "--source", "hr/workday")
        assert held["count"] == 50 - LIMIT

        first = held["held"][0]["person_id"]
        released = await one.jml("held", "release", "--person", first, "--reason", "confirmed by HR")
        assert released["count"] == 1

        async def is_out() -> bool:
            return not (await one.accounts())[first]

        await eventually(is_out)
        assert await active(one) == PEOPLE - LIMIT

        await work.tell(one.leaves(NAMES[55], source="jml/operator/ada"))
        await work.done()
        assert not (await one.accounts())[NAMES[55]], "an urgent end passes"

        assert (await one.jml("held", "release", "--all", "--reason", "they really go", "--yes"))["count"] == 49 - LIMIT

        async def all_are_out() -> bool:
            return await active(one) == PEOPLE - 51 + 1

        await eventually(all_are_out)

        async def recorded() -> bool:
            log = (tmp_path / "audit").rglob("*")
            text = b"".join(path.read_bytes() for path in log if path.is_file())
            return text.count(b'"command_released"') == 50 - LIMIT and b'"confirmed by HR"' in text

        await eventually(recorded)


async def test_what_is_rejected_stays_until_a_newer_decision(tmp_path: Path) -> None:
    async with company(tmp_path, more=BREAKER) as one, one.at_work(*ROLES) as work:
        await hired(work, NAMES[:20])
        again = [one.event("worker.left", name, ends_at="2026-03-01T00:00:00Z") for name in NAMES[:20]]
        await work.tell(*again)
        await work.done()
        rejected = await one.jml("held", "reject", "--source", "hr/workday", "--reason", "empty export", "--yes")
        assert rejected["count"] == 20 - LIMIT
        who = [each["person_id"] for each in rejected["rejected"]]

        # The export comes again the next night, as wrong as before.
        await work.tell(*(one.event("worker.left", name, ends_at="2026-03-01T00:00:00Z") for name in who))
        await work.done()
        assert await active(one) == 20 - LIMIT
        assert (await one.jml("held", "list", "--rejected"))["count"] == 20 - LIMIT

        # HR puts it right, and one of them leaves for good later on.
        await work.tell(*(one.event("worker.left", name, last_day=None) for name in NAMES[:20]))
        await work.done()
        assert await active(one) == 20
        await work.tell(one.leaves(who[0], source="hr/other"))
        await work.done()
        accounts = await one.accounts()
        assert [name for name, signs_in in accounts.items() if not signs_in] == [who[0]]
