"""The breaker's decision: what passes, what is held, and what of a change goes on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.account import Account
from orchestrator.domain.breaker import (
    LONGEST_SOURCE,
    BreakerPolicy,
    Held,
    Removal,
    Rule,
    Verdict,
    Window,
    bucket,
    judge,
    oldest_bucket,
    removal,
    source_key,
)
from schemas.commands import DesiredState

NOW = datetime(2026, 3, 2, 8, 15, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
RULE = Rule(limit=5, share=0.05, total_limit=8, total_share=0.1)


def account(
    state: DesiredState = "active", *groups: str, revision: int = 1, title: str = "", since: datetime = NOW
) -> Account:
    return Account("ada", "crm", revision, state, {"title": title}, groups, since, "hr#1", "c", "p")


def decide(decided: Account, issued: Account | None, before: Held | None = None, *, has_room: bool = False) -> Verdict:
    return judge(decided, issued, before, source="hr/a", effective_at=NOW, has_room=has_room, now=NOW)


def hold(decided: Account, issued: Account, *, rejected: bool = False) -> Held:
    found = decide(decided, issued).held
    assert found is not None
    return replace(found, held_at=NOW - HOUR, rejected_at=NOW if rejected else None)


def test_an_account_that_is_ready_for_a_first_day_is_opened_closed_and_staged_again() -> None:
    assert removal(account("staged"), account("active")) is None
    assert removal(account("staged"), account("inactive")) is None, "nobody could sign in with it"
    assert removal(account("inactive"), account("staged")) is None
    assert removal(account("active"), account("staged")) == "deactivate"
    assert removal(account("staged"), account("absent")) == "delete"


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("population", "passed", "room"),
    [
        (10, {"hr/a": 4}, True),
        (10, {"hr/a": 5}, False),
        (10, {"hr/b": 5}, True),
        (10, {"hr/a": 4, "hr/b": 4}, False),
        (200, {"hr/a": 9}, True),
        (200, {"hr/a": 10}, False),
        (200, {"hr/a": 9, "hr/b": 11}, False),
    ],
)
def test_the_limit_or_the_share_whichever_is_more(population: int, passed: dict[str, int], room: bool) -> None:
    assert Window(population, passed).has_room(RULE, "hr/a") is room


def test_a_small_application_is_left_alone_where_the_policy_says_so() -> None:
    assert Window(19, {"hr/a": 500}).has_room(replace(RULE, min_population=20), "hr/a")
    assert not Window(20, {"hr/a": 500}).has_room(replace(RULE, min_population=20), "hr/a")


def test_what_is_exempt() -> None:
    policy = BreakerPolicy(HOUR, RULE, {"wiki": replace(RULE, limit=1)}, frozenset({"contract_end", "operator"}))
    assert policy.is_exempt("jml/scheduler", "contract_end")
    assert not policy.is_exempt("jml/scheduler", "termination")
    assert policy.is_exempt("jml/operator/ada", None)
    assert not policy.is_exempt("hr/jml/operator/ada", None)
    assert policy.rule_of("wiki").limit == 1
    assert policy.rule_of("crm") == RULE


def test_a_bucket_leaves_the_window_when_all_of_it_is_past() -> None:
    passed_at = bucket(NOW, HOUR)
    assert passed_at <= NOW < passed_at + timedelta(minutes=1)
    assert passed_at >= oldest_bucket(NOW + HOUR, HOUR)
    assert passed_at < oldest_bucket(NOW + HOUR + timedelta(minutes=1), HOUR)


def test_a_window_has_sixty_parts_of_a_second_at_least() -> None:
    assert bucket(NOW, HOUR) == NOW.replace(second=0)
    assert bucket(NOW, timedelta(hours=2)) == NOW.replace(minute=14, second=0)
    assert bucket(NOW, timedelta(seconds=30)) == NOW


def test_a_source_of_any_length_can_be_counted() -> None:
    long, other = "hr/" + "x" * 500, "hr/" + "x" * 501
    assert len(source_key(long)) == LONGEST_SOURCE
    assert source_key(long) != source_key(other)
    assert source_key("hr/a\x00") == "hr/a\ufffd"


# --- what is taken away -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issued", "decided", "expected"),
    [
        (None, account("inactive"), None),
        (account("absent"), account("active"), None),
        (account("active"), account("inactive"), "deactivate"),
        (account("active"), account("absent"), "delete"),
        (account("inactive"), account("absent"), "delete"),
        (account("inactive", "a"), account("inactive"), None),
        (account("inactive"), account("active"), None),
        (account("active", "a", "b"), account("active", "b", "c"), "groups"),
        (account("active", "a"), account("active", "a", "b", title="new"), None),
    ],
)
def test_what_takes_access_away(issued: Account | None, decided: Account, expected: Removal | None) -> None:
    assert removal(issued, decided) == expected


# --- issue or hold ----------------------------------------------------------------------------------------------------


def test_within_the_limits_it_is_issued_and_counts() -> None:
    out = account("inactive", revision=2)
    assert decide(out, account(), has_room=True) == Verdict(out, None, counts=True)


def test_past_them_it_is_held_and_the_account_stays() -> None:
    found = decide(account("inactive", revision=2), account())
    assert found.issue is None
    assert found.held is not None
    assert (found.held.removal, found.held.kind, found.held.source) == ("deactivate", "deactivate", "hr/a")
    assert found.held.decided.hold == "held"
    assert not found.counts


def test_nothing_of_a_held_end_goes_on() -> None:
    """Whatever else changed of the account meanwhile: the decision as a whole waits."""
    issued = account("active", "staff", title="was")
    for state in ("inactive", "absent"):
        found = decide(account(state, revision=2, title="is"), issued)
        assert found.issue is None
        assert found.held is not None
        assert found.held.account.revision == 2


def test_what_joins_a_hold_keeps_its_source_and_its_time() -> None:
    issued = account("active", "a", "b")
    before = replace(hold(account("active", "a", revision=2), issued), source="hr/b")
    joined = decide(account("inactive", revision=3), issued, before).held
    assert joined is not None
    assert (joined.source, joined.held_at, joined.decided.hold) == ("hr/b", NOW - HOUR, "held")
    assert hold(account("inactive", revision=2), issued, rejected=True).decided.hold == "rejected"


def test_what_gives_access_always_passes_and_ends_the_hold() -> None:
    held = hold(account("inactive", revision=2), account())
    back = account("active", revision=3, title="new")
    assert decide(back, account(), held) == Verdict(back, None)


def test_of_a_move_only_the_removal_of_groups_is_held() -> None:
    issued = account("active", "old", "staff", title="was", since=NOW - HOUR)
    found = decide(account("active", "new", "staff", revision=2, title="is"), issued)
    assert found.issue is not None
    assert (found.issue.revision, found.issue.groups, found.issue.resource) == (
        2,
        ("new", "old", "staff"),
        {"title": "is"},
    )
    assert found.held is not None
    assert (found.held.account.revision, found.held.account.groups) == (3, ("new", "staff"))


def test_where_groups_are_all_that_changes_nothing_is_issued() -> None:
    found = decide(account("active", "staff", revision=2), account("active", "old", "staff"))
    assert found.issue is None
    assert found.held is not None
    assert found.held.account.revision == 2


def test_what_takes_more_away_joins_the_hold_even_when_there_is_room() -> None:
    issued = account("active", "a", "b")
    held = hold(account("active", "a", revision=2), issued)
    found = decide(account("inactive", revision=3), issued, held, has_room=True)
    assert found.issue is None
    assert not found.counts
    assert found.held is not None
    assert (found.held.removal, found.held.held_at) == ("deactivate", held.held_at)


def test_a_rejected_decision_said_again_stays_rejected_and_a_newer_one_does_not() -> None:
    issued = account("active", "a", "b")
    out = hold(account("inactive", revision=2), issued, rejected=True)
    again = decide(account("inactive", revision=3), issued, out, has_room=True).held
    assert again is not None
    assert again.rejected_at == NOW
    newer = account("inactive", revision=3, since=NOW + HOUR)
    assert decide(newer, issued, out, has_room=True) == Verdict(newer, None, counts=True)
    held_anew = decide(newer, issued, out).held
    assert held_anew is not None
    assert held_anew.rejected_at is None


def test_a_rejected_deactivation_does_not_cover_a_deletion() -> None:
    """Of the same day: nobody has said no to it, so it is held for a person, or passes and counts."""
    issued = account("active", "a")
    rejected = hold(account("inactive", revision=2), issued, rejected=True)
    gone = account("absent", revision=3)
    assert decide(gone, issued, rejected, has_room=True) == Verdict(gone, None, counts=True)
    held = decide(gone, issued, replace(rejected, source="hr/b")).held
    assert held is not None
    assert (held.removal, held.rejected_at, held.held_at, held.source) == ("delete", None, NOW, "hr/a")
    deletion = hold(gone, issued, rejected=True)
    out = account("inactive", revision=4)
    assert decide(out, issued, deletion, has_room=True) == Verdict(out, None, counts=True)


def test_what_is_held_is_found_by_person_and_application() -> None:
    assert hold(account("inactive", revision=2), account()).key == ("ada", "crm")


def test_a_rejected_removal_of_groups_does_not_cover_others() -> None:
    issued = account("active", "a", "b", "c")
    rejected = hold(account("active", "a", "b", revision=2), issued, rejected=True)
    more = account("active", "a", revision=3)
    assert decide(more, issued, rejected, has_room=True) == Verdict(more, None, counts=True)
    same = decide(account("active", "a", "b", revision=3, title="new"), issued, rejected, has_room=True)
    assert same.issue is not None
    assert same.issue.groups == ("a", "b", "c")
    assert same.held is not None
    assert same.held.rejected_at == NOW
