"""The breaker in the resolver: what a mass change does, and what operators make of it."""

from collections import Counter
from datetime import datetime, timedelta

import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.breaker import removal
from orchestrator.domain.policy import retention_end
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.flows.holding import reject, release
from schemas.envelope import Envelope, Message
from schemas.topics import LIFECYCLE_TIMERS
from tests.unit.flows.fakes import NOW
from tests.unit.flows.resolving import WINDOW, Office, breaker_policy, people, policy_of

MINUTE = timedelta(minutes=1)


async def office_of(number: int, limit: int, total: int = 1000, *, share: float = 0.0) -> Office:
    """That many people at work."""
    office = Office(breaker_policy(limit, total, share=share))
    await office.tell(*(office.joins(one) for one in people(number)))
    return office


async def releases(office: Office, *, person_id: str | None = None) -> int:
    holds = office.store.holds
    chosen = await holds.held(person_id=person_id) + await holds.held(person_id=person_id, rejected=True)
    writer = AuditWriter("operator", NOW)
    done = await release(
        holds,  # type: ignore[arg-type]  # the part that decides about holds
        chosen,
        writer,
        office.policy,
        operator="ada",
        reason="meant",
        now=office.clock.now(),
    )
    return len(done)


async def rejects(office: Office, *, person_id: str | None = None) -> int:
    holds = office.store.holds
    chosen = await holds.held(person_id=person_id)
    writer = AuditWriter("operator", NOW)
    done = await reject(holds, chosen, writer, operator="ada", reason="mistake", now=office.clock.now())  # type: ignore[arg-type]  # same
    return len(done)


async def test_a_batch_is_held_exactly_from_the_limit_on() -> None:
    office = await office_of(40, 7)
    with structlog.testing.capture_logs() as logs:
        await office.tell(*(office.leaves(one) for one in people(40)))
    assert Counter(office.states().values()) == {"inactive": 7, "active": 33}
    assert [one["person_id"] for one in office.commands("deactivate")] == list(people(7))
    assert len(office.held) == len(office.entries("command_held")) == 33
    assert [one["event"] for one in logs].count("breaker_tripped") == 1
    assert office.entries("command_held")[0]["details"]["removes"] == "deactivate"


async def test_batch_after_batch_and_person_after_person_count_together() -> None:
    office = await office_of(20, 7)
    for one in people(20):
        await office.tell(office.leaves(one))
    assert Counter(office.states().values()) == {"inactive": 7, "active": 13}


async def test_the_share_of_the_population_counts_where_it_is_more() -> None:
    office = await office_of(40, 3, share=0.25)
    await office.tell(*(office.leaves(one) for one in people(40)))
    assert Counter(office.states().values()) == {"inactive": 10, "active": 30}


async def test_sources_count_apart_and_all_together() -> None:
    office = await office_of(20, 4, 6)
    await office.tell(*(office.leaves(one, source="hr/a") for one in list(people(20))[:10]))
    await office.tell(*(office.leaves(one, source="idp/b") for one in list(people(20))[10:]))
    passed = Counter(one["event_id"].partition("#")[0] for one in office.commands("deactivate"))
    assert passed == {"hr/a": 4, "idp/b": 2}


async def test_the_window_slides() -> None:
    office = await office_of(20, 5)
    await office.tell(*(office.leaves(one) for one in list(people(20))[:5]))
    office.passes(WINDOW - MINUTE)
    await office.tell(office.leaves("p0005"))
    assert office.states()["p0005"] == "active"
    office.passes(2 * MINUTE)
    await office.tell(office.leaves("p0006"))
    assert office.states()["p0006"] == "inactive"


async def test_joiners_and_movers_go_on() -> None:
    office = await office_of(10, 0)
    await office.tell(office.leaves("p0000"), office.joins("new"), office.moves("p0001", title="boss"))
    assert office.states()["new"] == "active"
    assert office.accounts["p0001", "crm"].resource["title"] == "boss"
    assert office.held.keys() == {("p0000", "crm")}


async def test_a_mover_keeps_the_groups_until_they_may_go() -> None:
    office = await office_of(3, 0)
    await office.tell(office.moves("p0000", title="boss", department="ops"))
    moved = office.accounts["p0000", "crm"]
    assert (moved.groups, moved.resource["title"]) == (("eng", "ops"), "boss")
    await office.tell(office.moves("p0000", title="chief"))
    again = office.accounts["p0000", "crm"]
    assert (again.groups, again.resource["title"]) == (("eng", "ops"), "chief")
    assert await releases(office) == 1
    released = office.accounts["p0000", "crm"]
    assert (released.groups, released.resource["title"], office.held) == (("ops",), "chief", {})


async def test_an_urgent_end_by_an_operator_passes() -> None:
    office = await office_of(3, 0)
    await office.tell(office.leaves("p0000", source="jml/operator/ada"))
    assert office.states()["p0000"] == "inactive"


async def test_an_urgent_end_by_an_operator_passes_even_what_was_held_and_rejected() -> None:
    office = await office_of(3, 0)
    await office.tell(office.leaves("p0000"))
    await rejects(office)
    office.passes(MINUTE)
    await office.tell(office.leaves("p0000", source="jml/operator/ada"))
    assert office.states()["p0000"] == "inactive"
    assert office.held == {}


async def test_contract_ends_pass_and_scheduled_terminations_do_not() -> None:
    office = Office(breaker_policy(0))
    due = NOW + timedelta(days=2)
    await office.tell(
        office.event("worker.joined", "contractor", start_date="2026-01-05", contract_end="2026-03-03", attributes={}),
        office.joins("leaver"),
        office.event("worker.left", "leaver", last_day="2026-03-03"),
    )
    office.passes(timedelta(days=2))
    for who, kind in (("contractor", "contract_end"), ("leaver", "termination")):
        at = due.replace(hour=0, minute=0)
        envelope = Envelope(id=f"{who}/{kind}", source="jml/scheduler", type="jml.timer.fired.v1", time=at, subject=who)
        body = f'{{"worker_id": "{who}", "kind": "{kind}", "due": "{at.isoformat()}"}}'.encode()
        await office.tell(Message(LIFECYCLE_TIMERS, who.encode(), body, envelope.headers()))
    assert office.states() == {"contractor": "inactive", "leaver": "active"}


async def test_a_correction_clears_the_hold() -> None:
    office = await office_of(5, 0)
    await office.tell(*(office.leaves(one) for one in people(5)))
    assert len(office.held) == 5
    office.passes(MINUTE)
    await office.tell(*(office.stays(one) for one in people(5)))
    assert office.held == {}
    assert set(office.states().values()) == {"active"}
    assert office.commands("deactivate", "delete") == []


async def test_released_commands_are_as_if_they_had_never_been_held() -> None:
    office = await office_of(5, 0)
    await office.tell(*(office.leaves(one) for one in people(5)))
    assert await releases(office) == 5
    assert set(office.states().values()) == {"inactive"}
    assert {one.revision for one in office.accounts.values()} == {2}
    assert office.held == {}


async def test_what_changed_since_the_operator_looked_is_not_decided() -> None:
    office = await office_of(1, 0)
    await office.tell(office.moves("p0000", department="ops"))
    seen = await office.store.holds.held()
    await office.tell(office.leaves("p0000"))
    done = await reject(
        office.store.holds,  # type: ignore[arg-type]  # same
        seen,
        AuditWriter("operator", NOW),
        operator="ada",
        reason="mistake",
        now=NOW,
    )
    assert done == []


async def test_a_rejected_end_said_again_has_no_effect_and_a_later_one_has() -> None:
    office = await office_of(1, 0)
    first = office.clock.now()
    await office.tell(office.leaves("p0000", at=first))
    assert await rejects(office) == 1
    office.passes(3 * WINDOW)
    await office.tell(office.leaves("p0000", at=first), office.moves("p0000", title="boss"))
    assert office.states() == {"p0000": "active"}
    assert [one.rejected_at is not None for one in office.held.values()] == [True]
    await office.tell(office.leaves("p0000"))
    assert [one.rejected_at for one in office.held.values()] == [None], "another end: it is judged anew"


async def test_retention_does_not_delete_what_is_held_and_begins_with_the_release() -> None:
    policy = policy_of("crm", delete_after=timedelta(days=30))
    office = Office(breaker_policy(0), policy=policy)
    await office.tell(office.joins("p0000"))
    await office.tell(office.leaves("p0000"))
    office.passes(timedelta(days=40))
    due = office.clock.now()
    envelope = Envelope(id="t", source="jml/scheduler", type="jml.timer.fired.v1", time=due, subject="p0000")
    body = f'{{"worker_id": "p0000", "kind": "retention_end", "due": "{due.isoformat()}"}}'.encode()
    await office.tell(Message(LIFECYCLE_TIMERS, b"p0000", body, envelope.headers()))
    assert office.states() == {"p0000": "active"}
    assert [one.removal for one in office.held.values()] == ["deactivate"]
    await releases(office)
    account = office.accounts["p0000", "crm"]
    assert (account.state, account.since) == ("inactive", office.clock.now())
    app_policy = policy.app_policy("crm")
    assert app_policy is not None
    end = retention_end(app_policy, account.since)
    assert any(key == ("p0000", "retention_end", end) for key in office.store.tables.table("timer"))


async def test_without_a_breaker_nothing_is_held() -> None:
    office = Office(None)
    await office.tell(*(office.joins(one) for one in people(5)))
    await office.tell(*(office.leaves(one) for one in people(5)))
    assert set(office.states().values()) == {"inactive"}


# --- any story -------------------------------------------------------------------------------------------------------

LIMIT, TOTAL = 2, 3
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["leaves", "stays", "joins"]), st.integers(0, 4), st.sampled_from(["hr/a", "idp/b"])),
        st.tuples(st.just("moves"), st.integers(0, 4), st.sampled_from(["eng", "ops", "law"])),
        st.tuples(st.sampled_from(["release", "reject"]), st.integers(0, 4), st.just("")),
        st.tuples(st.just("passes"), st.integers(1, 90), st.just("")),
    ),
    max_size=30,
)


class Story:
    """One story, told to an office with a breaker and to one without."""

    def __init__(self) -> None:
        self.office = Office(breaker_policy(LIMIT, TOTAL))
        self.free = Office(None)
        self.operated: set[str] = set()

    async def begin(self) -> None:
        for office in (self.office, self.free):
            await office.tell(*(office.joins(one) for one in people(5)))

    async def step(self, what: str, number: int, which: str) -> None:
        who = f"p{number:04}"
        if what == "release":
            await releases(self.office, person_id=who)
        elif what == "reject":
            await rejects(self.office, person_id=who)
        elif what == "passes":
            for office in (self.office, self.free):
                office.passes(timedelta(minutes=number))
        else:
            for office in (self.office, self.free):
                options = {"department": which} if what == "moves" else {} if what == "joins" else {"source": which}
                await office.tell(getattr(office, what)(who, **options))

    def judge(self) -> None:
        """At no moment is more taken away than the limits say, nor anything given that should not be."""
        for key, account in self.office.accounts.items():
            decided = self.office.held[key].account if key in self.office.held else account
            wanted = self.free.accounts[key]
            assert (decided.state, decided.resource, set(decided.groups)) == (
                wanted.state,
                wanted.resource,
                set(wanted.groups),
            )
            if key in self.office.held:
                assert self.office.held[key].account.revision > account.revision
                assert account.state == "active"
                assert set(account.groups) >= set(decided.groups)


@settings(max_examples=150, deadline=None)
@given(story=steps)
async def test_any_story_comes_to_the_same_decisions_and_takes_away_no_faster(
    story: list[tuple[str, int, str]],
) -> None:
    told = Story()
    await told.begin()
    passed: list[tuple[datetime, str]] = []
    for what, number, which in story:
        before = dict(told.office.accounts)
        await told.step(what, number, which)
        told.judge()
        if what in ("leaves", "moves", "stays", "joins"):
            now = told.office.clock.now()
            source = which if what in ("leaves", "stays") else "hr/a"
            for key, account in told.office.accounts.items():
                was = before.get(key)
                if was and removal(was, account) is not None:
                    passed.append((now, source))
            recent = [one for at, one in passed if at > now - WINDOW]
            assert len(recent) <= TOTAL
            assert max(Counter(recent).values(), default=0) <= LIMIT
    await releases(told.office)
    assert {key: one.state for key, one in told.office.accounts.items()} == {
        key: one.state for key, one in told.free.accounts.items()
    }
    assert told.office.held == {}
