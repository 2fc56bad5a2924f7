"""What becomes of each account of an application that is given up, and what the new one keeps of it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import orjson
import pytest

from orchestrator.domain.account import Account, Progress
from orchestrator.domain.carrying import NothingKeptError, kept_values
from orchestrator.domain.policy import ApplicationPolicy
from orchestrator.flows import reconcile
from orchestrator.flows.account_events import Judged
from orchestrator.flows.migrate import Migration, Moved
from orchestrator.ports import PlanStore, ReconcileStore
from schemas.changes import ChangeWithdrawn, IdentityKept, WorkerAttributes, WorkerJoined, WorkerLeft, WorkerMoved
from tests.unit.domain.story import Story, app, policy
from tests.unit.flows.fakes import NOW

MAIL = '[{"value": person.email, "type": "work"}]'
OLD = app("old", attributes={"userName": "person.user_name"})
NEW = app(
    "new",
    scope='person.title != "Trainee"',
    attributes={"userName": "person.user_name + '@new'", "externalId": "person.id", "emails": MAIL},
)


def joined(person_id: str, rules: Sequence[ApplicationPolicy] = (OLD,), **attributes: str) -> Story:
    """Somebody with what the policy gives."""
    story = Story(policy(*rules), person_id)
    stated = WorkerAttributes(**{"user_name": person_id, "email": f"{person_id}@example.com", **attributes})
    began = (NOW - timedelta(days=30)).date()
    story.tell(WorkerJoined(worker_id=person_id, start_date=began, attributes=stated), NOW - timedelta(days=1))
    return story


class Company:
    """People and their links, as both stores show them."""

    def __init__(self, *stories: Story, links: Mapping[tuple[str, str], str] | None = None) -> None:
        self.stories = {one.person.id: one for one in stories}
        self.links = dict(links or {})

    async def by_remote_id(self, of: str, remote_ids: Sequence[str]) -> dict[str, tuple[Account, Progress]]:
        return {
            remote_id: (self.stories[person_id].accounts[of], Progress())
            for (where, person_id), remote_id in self.links.items()
            if where == of and remote_id in remote_ids
        }

    async def remote_ids(self, of: str, person_ids: Sequence[str]) -> dict[str, str]:
        return {one: self.links[of, one] for one in person_ids if (of, one) in self.links}

    async def named(self, person_ids: Sequence[str]) -> list[Any]:
        return [(self.stories[one].person, self.stories[one].accounts) for one in person_ids if one in self.stories]

    async def correlate_emails(self, emails: Sequence[str]) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for one in self.stories.values():
            email = str(one.person.history.at(NOW).get("email")).lower()
            if email in emails:
                found.setdefault(email, []).append(one.person.id)
        return found


class Rows:
    """A listing."""

    complete, skipped = True, 0

    def __init__(self, *rows: dict[str, Any]) -> None:
        self._rows = rows

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Its rows."""
        for row in self._rows:
            yield row


async def moved(company: Company, *rows: dict[str, Any], keep: Sequence[str] = ("userName",)) -> list[Judged]:
    run = Migration(
        "old",
        "new",
        cast(ReconcileStore, company),
        cast(PlanStore, company),
        policy(OLD, NEW),
        keep=keep,
        now=NOW,
    )
    found = [one async for batch in run.find(Rows(*rows)) for one in batch]
    assert sum(run.counts.values()) == len(rows)
    return found


def row(remote_id: str, **attributes: Any) -> dict[str, Any]:
    return {"id": remote_id, "userName": f"{remote_id}.old", **attributes}


async def test_each_account_has_its_fate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "BATCH", 3)
    there = joined("there", (OLD, NEW))
    left = joined("left")
    left.tell(WorkerLeft(worker_id="left", last_day=(NOW - timedelta(days=2)).date()), NOW - timedelta(hours=1))
    people = [joined(one) for one in ("ann", "bob", "eve")]
    twins = [joined(one, email="shared@example.com") for one in ("twin1", "twin2")]
    linked = {("old", one): f"r-{one}" for one in ("ann", "there", "left", "young")}
    company = Company(
        *people, there, left, joined("young", title="Trainee"), *twins, links={**linked, ("new", "there"): "n1"}
    )
    found = await moved(
        company,
        row("r-ann"),
        row("r-there"),
        row("r-left"),
        row("r-young"),
        row("second", externalId="ann"),
        row("r-bob", externalId="bob"),
        row("again", externalId="bob"),
        row("mail", emails=[{"value": "EVE@example.com"}]),
        row("either", emails=[{"value": "shared@example.com"}]),
        row("stray"),
    )
    assert {one.account: (one.fate.value, one.person_id) for one in found} == {
        "r-ann": ("carried", "ann"),
        "r-there": ("there", "there"),
        "r-left": ("refused", "left"),
        "r-young": ("refused", "young"),
        "second": ("refused", "ann"),
        "r-bob": ("carried", "bob"),
        "again": ("refused", "bob"),
        "mail": ("ambiguous", "eve"),
        "either": ("ambiguous", None),
        "stray": ("orphan", None),
    }
    assert "no account in new" in next(one.reason for one in found if one.account == "r-young")


async def test_what_is_carried_is_an_event_that_makes_the_account_with_the_kept_values() -> None:
    ann = joined("ann")
    company = Company(ann, links={("old", "ann"): "r1"})
    shown = row("r1", externalId="X-17", emails=[{"value": "a@old", "primary": True, "$ref": "x"}], displayName="no")
    (one,) = await moved(company, shown, keep=("userName", "externalId", "emails"))
    assert one.event is not None
    assert b"ann" not in one.event.id.encode()
    assert one.event.key == f"migrate/old#{one.event.id}"
    change = IdentityKept.model_validate_json(one.event.data)
    ann.rules = policy(OLD, NEW)
    ann.tell(change, NOW, event=one.event.key)
    kept = {"userName": "r1.old", "externalId": "X-17", "emails": [{"value": "a@old", "primary": True}]}
    assert ann.accounts["new"].resource == kept

    company.links["new", "ann"] = "n1"
    ann.tell(WorkerMoved(worker_id="ann", attributes=WorkerAttributes(email="new@example.com")), NOW)
    assert ann.accounts["new"].resource == kept, "they are kept whatever HR says"
    ann.tell(IdentityKept(worker_id="ann", app="new", values={}), NOW + timedelta(seconds=1))
    assert ann.accounts["new"].resource == {
        "userName": "ann@new",
        "externalId": "ann",
        "emails": [{"value": "new@example.com", "type": "work"}],
    }, "and the mapping decides again when nothing is kept"


async def test_run_again_it_is_the_same_event_until_that_was_taken_in() -> None:
    ann = joined("ann")
    company = Company(ann, links={("old", "ann"): "r1"})
    first, again = [(await moved(company, row("r1")))[0] for _ in range(2)]
    assert first.event is not None
    assert again.event is not None
    assert first.event.id == again.event.id

    ann.tell(first.change or pytest.fail("no change"), NOW, event=first.event.key)  # before the resolver knew of `new`
    (third,) = await moved(company, row("r1"))
    assert third.event is not None
    assert third.event.id != first.event.id, "else it were dropped as a duplicate and nothing came of it"

    ann.rules = policy(OLD, NEW)
    ann.tell(third.change or pytest.fail("no change"), NOW + timedelta(seconds=1), event=third.event.key)
    assert (await moved(company, row("r1")))[0].fate is Moved.UNDER_WAY
    company.links["new", "ann"] = "n1"
    assert (await moved(company, row("r1")))[0].fate is Moved.THERE


async def test_an_account_in_the_new_application_keeps_what_it_has() -> None:
    ann = joined("ann", (OLD, NEW))
    company = Company(ann, links={("old", "ann"): "r1", ("new", "ann"): "n1"})
    (one,) = await moved(company, row("r1"))
    assert (one.fate, one.event) == (Moved.THERE, None)
    ann.accounts["new"] = replace(ann.accounts["new"], state="absent")
    assert (await moved(company, row("r1")))[0].fate is Moved.CARRIED


def test_a_withdrawn_identity_is_as_if_it_had_never_been_stated() -> None:
    ann = joined("ann", (OLD, NEW))
    ann.tell(IdentityKept(worker_id="ann", app="new", values={"userName": "kept"}), NOW, event="migrate/old#1")
    assert ann.accounts["new"].resource["userName"] == "kept"
    ann.tell(ChangeWithdrawn(worker_id="ann", source="migrate/old", id="1"), NOW)
    assert ann.accounts["new"].resource["userName"] == "ann@new"
    assert ann.person.identities == {}


@pytest.mark.parametrize(
    ("resource", "kept"),
    [
        ({"userName": "ann", "externalId": 17, "emails": []}, {"userName": "ann", "externalId": "17"}),
        ({"emails": [{"value": "a", "type": 3}, {"type": "work"}, "b"]}, {"emails": [{"value": "a"}]}),
        ({"userName": " ", "externalId": True, "emails": None}, None),
    ],
)
def test_values_are_kept_as_they_are_shown(resource: dict[str, Any], kept: dict[str, Any] | None) -> None:
    if kept is None:
        with pytest.raises(NothingKeptError, match="has none of"):
            kept_values(resource, ("userName", "externalId", "emails"))
    else:
        assert kept_values(resource, ("userName", "externalId", "emails")) == kept


async def test_a_value_that_is_too_long_is_refused_by_its_name() -> None:
    (one,) = await moved(Company(joined("ann"), links={("old", "ann"): "r1"}), row("r1") | {"userName": "x" * 401})
    assert (one.fate, one.reason) == (Moved.REFUSED, "has a value that cannot be kept: userName")
    assert orjson.dumps(one.reason).count(b"xxx") == 0
