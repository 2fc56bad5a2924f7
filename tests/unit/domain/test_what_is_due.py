"""Stories of what time brings: days and hours, entitlements for a while, first days, warnings, corrections."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from orchestrator.domain.days import days_before, end_of
from orchestrator.domain.lifecycle import Status
from orchestrator.domain.policy import BeforeStart, TimeRules, compile_policy
from orchestrator.domain.resolve import Resolution
from schemas.changes import (
    Change,
    ChangeWithdrawn,
    ContractChanged,
    EntitlementGranted,
    EntitlementRevoked,
    IdpAccountDisabled,
    TimerFired,
    WorkerAttributes,
    WorkerJoined,
    WorkerLeft,
    WorkerMoved,
    WorkerRehired,
    WorkerSnapshot,
)
from tests.unit.domain.story import Story, app

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
MELBOURNE, BERLIN = "Australia/Melbourne", "Europe/Berlin"


def at(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def joined(
    start: str = "2026-01-05",
    end: str | None = None,
    kind: str = "contractor",
    engagement: str = "e1",
    **attributes: str,
) -> WorkerJoined:
    return WorkerJoined.model_validate(
        {
            "worker_id": "w1",
            "engagement_id": engagement,
            "kind": kind,
            "start_date": start,
            "contract_end": end,
            "attributes": attributes,
        }
    )


def contract(end: str | None, engagement: str | None = "e1", **more: str) -> ContractChanged:
    return ContractChanged.model_validate({"worker_id": "w1", "engagement_id": engagement, "contract_end": end, **more})


def granted(group: str = "night shift", **when: str) -> EntitlementGranted:
    return EntitlementGranted.model_validate({"worker_id": "w1", "app": "directory", "group": group, **when})


def revoked(group: str = "night shift") -> EntitlementRevoked:
    return EntitlementRevoked(worker_id="w1", app="directory", group=group)


def withdrawn(event: str) -> ChangeWithdrawn:
    source, _, number = event.partition("#")
    return ChangeWithdrawn(worker_id="w1", source=source, id=number)


def story(*applications: object, **rules: object) -> Story:
    found = applications or (app(groups='["all"]'),)
    compiled, problems = compile_policy(list(found), "UTC", TimeRules(**rules))  # type: ignore[arg-type]
    assert compiled is not None, problems
    return Story(compiled)


def groups(told: Story) -> tuple[str, ...]:
    return told.accounts["directory"].groups


# --- the meaning of a date --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "where", "hour", "ends"),
    [
        ("2026-06-30", MELBOURNE, None, "2026-06-30T14:00Z"),
        ("2026-06-30", MELBOURNE, "18:00", "2026-06-30T08:00Z"),
        # Clocks jump from 02:00 to 03:00: half past two is left out, access ends when they jump over it.
        ("2026-03-29", BERLIN, "02:30", "2026-03-29T01:00Z"),
        ("2026-03-29", BERLIN, "03:00", "2026-03-29T01:00Z"),
        ("2026-03-29", BERLIN, "18:00", "2026-03-29T16:00Z"),
        # Half past two comes twice: the first time it is half past two, access is over.
        ("2026-10-25", BERLIN, "02:30", "2026-10-25T00:30Z"),
        ("2026-10-25", BERLIN, "18:00", "2026-10-25T17:00Z"),
        # 30 December 2011 was left out in Samoa: whatever hour of it, it ends when it would have begun.
        ("2011-12-30", "Pacific/Apia", "18:00", "2011-12-30T10:00Z"),
        ("2011-12-30", "Pacific/Apia", None, "2011-12-30T10:00Z"),
        ("2011-12-29", "Pacific/Apia", "18:00", "2011-12-30T04:00Z"),
        ("2011-12-31", "Pacific/Apia", "18:00", "2011-12-31T04:00Z"),
        ("1993-08-21", "Pacific/Kwajalein", "12:00", "1993-08-21T12:00Z"),
        # Brazil had summer time until 2019, Turkey changed for good in 2016, Morocco is odd in Ramadan.
        ("2018-12-01", "America/Sao_Paulo", None, "2018-12-02T02:00Z"),
        ("2019-12-01", "America/Sao_Paulo", None, "2019-12-02T03:00Z"),
        ("2015-12-01", "Europe/Istanbul", "18:00", "2015-12-01T16:00Z"),
        ("2016-12-01", "Europe/Istanbul", "18:00", "2016-12-01T15:00Z"),
        ("2026-03-01", "Africa/Casablanca", "18:00", "2026-03-01T18:00Z"),
        ("2026-05-01", "Africa/Casablanca", "18:00", "2026-05-01T17:00Z"),
        # Midnight was left out when clocks went from 23:30 to 00:30.
        ("1919-03-30", "America/Toronto", None, "1919-03-31T04:30Z"),
    ],
)
def test_a_last_day_ends_where_the_worker_is(day: str, where: str, hour: str | None, ends: str) -> None:
    assert end_of(date.fromisoformat(day), ZoneInfo(where), hour and time.fromisoformat(hour)) == at(ends)


def test_access_may_end_at_an_hour_of_the_last_day() -> None:
    told = story(access_ends=time(18))
    told.tell(joined(end="2026-06-30", time_zone=MELBOURNE), at("2026-01-05"))
    told.wait_until(at("2026-06-30T18:00+10:00") - SECOND)
    assert told.state() == "active"
    told.wait_until(at("2026-06-30T18:00+10:00"))
    assert told.state() == "inactive"


def test_who_goes_on_the_next_morning_is_not_put_out_in_the_evening() -> None:
    told = story(access_ends=time(18))
    told.tell(joined(end="2026-06-30"), at("2026-01-05"))
    told.tell(joined("2026-07-01", "2026-08-31", engagement="e2"), at("2026-06-01"))
    told.wait_until(at("2026-08-31T18:00") - SECOND)
    assert told.kinds() == ["create"]
    told.wait_until(at("2026-08-31T18:00"))
    assert told.state() == "inactive"


def test_days_before_an_end_are_days_on_the_wall() -> None:
    """Across the change of clocks in March a day of Berlin has 23 hours."""
    end = at("2026-03-30T00:00+02:00")
    assert days_before(end, 1, ZoneInfo(BERLIN)) == at("2026-03-29T00:00+01:00")
    assert days_before(datetime.min.replace(tzinfo=UTC), 30, ZoneInfo(BERLIN)).year == 1


# --- entitlements for a while -----------------------------------------------------------------------------------------


def test_a_group_for_three_weeks() -> None:
    told = story()
    told.tell(joined(kind="employee", time_zone=MELBOURNE), at("2026-01-05"))
    told.tell(granted(starts="2026-02-02", ends="2026-02-22"), at("2026-01-20"))
    assert told.due() == {
        "entitlement_start": at("2026-02-02T00:00+11:00"),
        "entitlement_end": at("2026-02-23T00:00+11:00"),
    }
    told.wait_until(at("2026-02-02T00:00+11:00") - SECOND)
    assert groups(told) == ("all",)
    told.wait_until(at("2026-02-02T00:00+11:00"))
    assert groups(told) == ("all", "night shift")
    told.wait_until(at("2026-02-23T00:00+11:00") - SECOND)
    assert groups(told) == ("all", "night shift")
    told.wait_until(at("2026-02-23T00:00+11:00"))
    assert (groups(told), told.timers) == (("all",), {})


def test_a_grant_begins_when_it_is_stated_and_lasts_until_it_is_revoked() -> None:
    told = story()
    told.tell(joined(kind="employee"), at("2026-01-05"))
    told.tell(granted(), at("2026-02-01"))
    assert (groups(told), told.timers) == (("all", "night shift"), {})
    told.tell(revoked(), at("2026-03-01"))
    assert groups(told) == ("all",)


def test_a_revocation_before_the_end_cancels_the_timer_and_one_that_is_older_does_nothing() -> None:
    told = story()
    told.tell(joined(kind="employee"), at("2026-01-05"))
    told.tell(granted(ends="2026-03-31"), at("2026-02-01"))
    late = told.tell(revoked(), at("2026-02-02"), stated=at("2026-01-31"))
    assert (groups(told), late.superseded_by) == (("all", "night shift"), ("hr#0002",))
    told_now = told.tell(revoked(), at("2026-02-03"))
    assert [one.kind for one in told_now.timers_cancelled] == ["entitlement_end"]
    assert (groups(told), told_now.supersedes) == (("all",), ("hr#0002",))


def test_a_leaver_takes_no_entitlement_along_and_who_has_no_account_gets_none() -> None:
    told = story(app(groups='["all"]', scope='person.department == "R&D"'))
    told.tell(joined(end="2026-02-10", department="R&D"), at("2026-01-05"))
    told.tell(granted(ends="2026-03-31"), at("2026-01-10"))
    told.wait_until(at("2026-02-11"))
    assert (told.state(), groups(told)) == ("inactive", ())
    other = story(app(groups='["all"]', scope='person.department == "R&D"'))
    other.tell(joined(), at("2026-01-05"))
    other.tell(granted(), at("2026-01-06"))
    assert other.state() == "none"


# --- the first day ----------------------------------------------------------------------------------------------------

PREPARED = app(
    groups='person.department == "" ? [] : [person.department]', before_start=BeforeStart(3), delete_after=30 * DAY
)


def test_accounts_are_staged_before_the_first_day_and_open_on_it() -> None:
    told = story(PREPARED, app("badges", before_start=BeforeStart(1, "active")), app("late"))
    told.tell(joined("2026-02-02", title="Welder", department="Yard", time_zone=MELBOURNE), at("2026-01-05"))
    starts = at("2026-02-02T00:00+11:00")
    assert sorted(due for kind, due in told.timers if kind == "pre_start") == [starts - 3 * DAY, starts - DAY]
    told.wait_until(starts - 3 * DAY - SECOND)
    assert told.accounts == {}
    told.wait_until(starts - 3 * DAY)
    staged = told.accounts["directory"]
    assert (staged.state, staged.groups, staged.resource["title"]) == ("staged", (), "Welder")
    assert (told.kinds(), told.state("badges")) == (["create"], "none")
    told.wait_until(starts - DAY)
    assert (told.state(), told.state("badges"), told.state("late")) == ("staged", "active", "none")
    told.wait_until(starts)
    assert {name: one.state for name, one in told.accounts.items()} == dict.fromkeys(
        ("directory", "badges", "late"), "active"
    )
    assert groups(told) == ("Yard",)
    assert [(one.account.app, one.kind) for one in told.raised] == [
        ("directory", "create"),
        ("badges", "create"),
        ("directory", "reactivate"),
        ("late", "create"),
    ]
    assert told.timers == {}


def test_a_hire_that_is_known_late_is_staged_at_once() -> None:
    told = story(PREPARED)
    told.tell(joined("2026-02-02"), at("2026-02-01"))
    assert (told.state(), sorted(told.due())) == ("staged", ["engagement_start"])


def test_a_first_day_that_is_put_off_or_called_off_closes_what_was_made_ready() -> None:
    told = story(PREPARED, app("badges", before_start=BeforeStart(3, "active")))
    told.tell(joined("2026-02-02"), at("2026-02-01"), event="hr#hire")
    assert (told.state(), told.state("badges")) == ("staged", "active")
    later = joined("2026-03-02")
    told.tell(later, at("2026-02-01T12:00"))
    assert (told.state(), told.state("badges")) == ("inactive", "inactive")
    told.wait_until(at("2026-02-27"))
    assert (told.state(), told.state("badges")) == ("staged", "active")
    told.tell(withdrawn("hr#hire"), at("2026-02-28"))
    told.tell(withdrawn("hr#0002"), at("2026-02-28"))
    assert (told.state(), told.state("badges")) == ("inactive", "inactive")
    told.wait_until(at("2026-06-01"))
    assert (told.state(), told.kinds().count("reactivate")) == ("absent", 1)


def test_a_blocked_newcomer_gets_nothing_before_the_block_is_lifted() -> None:
    told = story(app(before_start=BeforeStart(3, "active")))
    told.tell(IdpAccountDisabled(worker_id="w1"), at("2026-01-01"))
    told.tell(joined("2026-02-02"), at("2026-02-01"))
    assert told.accounts == {}


def test_a_rehire_is_staged_before_retention_deletes_the_account() -> None:
    told = story(PREPARED)
    told.tell(joined(end="2026-01-31", title="Welder"), at("2026-01-05"))
    told.wait_until(at("2026-02-10"))
    assert told.state() == "inactive"
    told.tell(
        WorkerRehired(worker_id="w1", start_date=date(2026, 3, 4), attributes=WorkerAttributes(title="Lead")),
        at("2026-02-10"),
    )
    told.wait_until(at("2026-03-01"))
    assert (told.state(), told.accounts["directory"].resource["title"]) == ("staged", "Lead")
    told.wait_until(at("2026-03-04"))
    assert (told.state(), told.kinds()) == ("active", ["create", "deactivate", "patch", "reactivate"])


def test_what_is_granted_for_a_while_waits_for_the_first_day() -> None:
    told = story(app(groups='["all"]', before_start=BeforeStart(3, "active")))
    told.tell(joined("2026-02-02"), at("2026-01-05"))
    told.tell(granted(), at("2026-01-06"))
    told.wait_until(at("2026-02-01"))
    assert groups(told) == ("all",)
    told.wait_until(at("2026-02-02"))
    assert groups(told) == ("all", "night shift")


# --- corrections ------------------------------------------------------------------------------------------------------


def test_a_transfer_effective_next_monday_is_withdrawn() -> None:
    told = story(app(attributes={"userName": "person.id", "title": "person.title"}))
    told.tell(joined(title="Welder"), at("2026-01-05"))
    move = WorkerMoved(worker_id="w1", effective=date(2026, 2, 9), attributes=WorkerAttributes(title="Lead"))
    told.tell(move, at("2026-02-04"), event="hr#transfer")
    taken_back = told.tell(withdrawn("hr#transfer"), at("2026-02-06"))
    assert [one.kind for one in taken_back.timers_cancelled] == ["scheduled_change"]
    assert taken_back.supersedes == ("hr#transfer",)
    told.wait_until(at("2026-03-01"))
    assert (told.kinds(), told.accounts["directory"].resource["title"]) == (["create"], "Welder")


def test_a_withdrawal_that_comes_first_leaves_nothing_of_what_comes_after() -> None:
    told = story()
    told.tell(joined(end="2026-06-30"), at("2026-01-05"))
    told.tell(withdrawn("hr#end"), at("2026-02-02"), event="hr#no")
    late = told.tell(contract("2026-01-31"), at("2026-02-03"), stated=at("2026-02-01"), event="hr#end")
    assert (late.superseded_by, late.raised, told.state()) == (("hr#no",), (), "active")


@pytest.mark.parametrize(
    "end",
    [contract("2026-01-31"), contract("2026-01-31", None), WorkerLeft(worker_id="w1", last_day=date(2026, 1, 31))],
)
def test_an_end_that_is_withdrawn_gives_back_what_was_stated_before(end: Change) -> None:
    told = story()
    told.tell(joined(end="2026-06-30"), at("2026-01-05"))
    told.tell(end, at("2026-02-02"), event="hr#end")
    assert told.state() == "inactive"
    told.tell(withdrawn("hr#end"), at("2026-02-03"))
    assert (told.state(), told.due()) == ("active", {"contract_end": at("2026-07-01")})


def test_what_is_withdrawn_with_a_zone_moves_the_days_back() -> None:
    told = story()
    told.tell(joined(end="2026-06-30", time_zone=BERLIN), at("2026-01-05"))
    move = WorkerMoved(worker_id="w1", attributes=WorkerAttributes(time_zone=MELBOURNE))
    told.tell(move, at("2026-02-01"), event="hr#move")
    title = WorkerMoved(worker_id="w1", effective=date(2026, 4, 1), attributes=WorkerAttributes(title="Lead"))
    told.tell(title, at("2026-02-01T12:00"))
    ends, moves = at("2026-07-01T00:00+10:00"), at("2026-04-01T00:00+11:00")
    assert told.due() == {"contract_end": ends, "scheduled_change": moves}
    told.tell(withdrawn("hr#move"), at("2026-02-02"))
    ends, moves = at("2026-07-01T00:00+02:00"), at("2026-04-01T00:00+02:00")
    assert told.due() == {"contract_end": ends, "scheduled_change": moves}


def test_a_withdrawal_cannot_be_withdrawn() -> None:
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        told = story()
        told.tell(joined(), at("2026-01-05"))
        for number in order:
            change = [contract("2026-01-31"), withdrawn("hr#end"), withdrawn("hr#no")][number]
            event = ["hr#end", "hr#no", "hr#yes"][number]
            told.tell(change, at("2026-02-05"), stated=at("2026-02-01") + number * DAY, event=event)
        assert told.state() == "active"


def test_a_person_of_whom_all_was_withdrawn_is_unknown() -> None:
    told = story()
    told.tell(joined(end="2026-06-30"), at("2026-01-05"), event="hr#1")
    assert told.tell(withdrawn("hr#1"), at("2026-01-06")).status is Status.UNKNOWN
    assert (told.state(), told.timers, told.person.engagements) == ("inactive", {}, {})


def test_the_timeline_names_what_was_superseded_and_by_what() -> None:
    told = story()
    told.tell(joined(end="2026-06-30"), at("2026-01-05"), event="hr#hire")
    extended = told.tell(contract("2026-09-30"), at("2026-03-01"), event="hr#extended")
    assert (extended.superseded_by, extended.supersedes) == ((), ("hr#hire",))
    late = told.tell(contract("2026-04-30"), at("2026-03-02"), stated=at("2026-02-01"), event="hr#shortened")
    assert (late.superseded_by, late.supersedes) == (("hr#extended",), ())
    unnamed = told.tell(contract("2026-05-31", None), at("2026-03-03"), stated=at("2026-02-02"), event="hr#unnamed")
    assert unnamed.superseded_by == ("hr#extended",)
    leave = WorkerLeft(worker_id="w1", last_day=date(2026, 8, 31))
    told.tell(leave, at("2026-04-01"), event="hr#leaves")
    rescinded = told.tell(WorkerLeft(worker_id="w1"), at("2026-04-02"), event="hr#stays")
    assert rescinded.supersedes == ("hr#leaves",)
    old = told.tell(leave, at("2026-04-03"), stated=at("2026-03-15"), event="hr#would-leave")
    assert old.superseded_by == ("hr#leaves",)
    title = told.tell(
        WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="x")), at("2026-05-01"), event="hr#title"
    )
    assert (title.superseded_by, title.supersedes) == ((), ())
    older = told.tell(
        WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="y")),
        at("2026-05-02"),
        stated=at("2026-04-01"),
        event="hr#older",
    )
    assert older.superseded_by == ("hr#title",)


def test_a_nightly_feed_supersedes_nothing_and_does_not_grow_the_person() -> None:
    told = story()
    snapshot = WorkerSnapshot(worker_id="w1", engagement_id="e1", start_date=date(2026, 1, 5))
    for night in range(100):
        again = told.tell(snapshot, at("2026-01-05") + night * DAY)
        assert (again.superseded_by, again.supersedes) == ((), ())
    assert [len(fact.earlier) for fact in told.person.engagements["e1"].facts] == [1, 1, 1, 1]


def test_two_contracts_that_overlap_or_follow_each_other_are_one_time_of_access() -> None:
    for second in ("2026-06-01", "2026-07-01"):
        told = Warned((7,))
        told.tell(joined(end="2026-06-30"), at("2026-01-05"))
        told.tell(joined(second, "2026-09-30", engagement="e2"), at("2026-05-01"))
        told.wait_until(at("2026-10-01") - SECOND)
        assert told.kinds() == ["create"]
        assert [moment for moment, *_ in told.warnings] == [at("2026-09-24")], "nobody is warned of an end that is none"
        told.wait_until(at("2026-10-01"))
        assert told.state() == "inactive"


def test_a_gap_between_two_contracts_is_a_gap() -> None:
    told = story()
    told.tell(joined(end="2026-06-30"), at("2026-01-05"))
    told.tell(joined("2026-07-02", "2026-09-30", engagement="e2"), at("2026-05-01"))
    told.wait_until(at("2026-07-01"))
    assert told.state() == "inactive"
    told.wait_until(at("2026-07-02"))
    assert told.state() == "active"


# --- warnings ---------------------------------------------------------------------------------------------------------


class Warned(Story):
    """Remembers the warnings, each with the instant of its decision."""

    def __init__(self, days: tuple[int, ...] = (30, 14, 7, 1), entitlement_days: tuple[int, ...] = (7, 1)) -> None:
        super().__init__(story(contract_end_days=days, entitlement_end_days=entitlement_days).rules)
        self.warnings: list[tuple[datetime, str, int]] = []

    def tell(self, change: Change, now: datetime, *, stated: datetime | None = None, event: str = "") -> Resolution:
        """As `Story`."""
        resolution = super().tell(change, now, stated=stated, event=event)
        decided = resolution.person.decision
        assert decided is not None
        self.warnings += [(decided.at, one.ending.kind, one.days) for one in resolution.warnings]
        return resolution


def test_warnings_come_thirty_fourteen_seven_and_one_days_before() -> None:
    told = Warned()
    told.tell(joined(end="2026-06-30"), at("2026-01-05"))
    told.wait_until(at("2026-07-01"))
    end = at("2026-07-01")
    assert told.warnings == [(end - days * DAY, "contract_ends", days) for days in (30, 14, 7, 1)]
    assert (told.person.warned, told.timers) == ((), {})


def test_an_extension_cancels_the_warnings_and_the_new_end_has_its_own() -> None:
    told = Warned()
    told.tell(joined(end="2026-06-30"), at("2026-01-05"))
    told.wait_until(at("2026-06-20"))
    extended = told.tell(contract("2026-12-31"), at("2026-06-20"))
    cancelled = [one.kind for one in extended.timers_cancelled]
    assert sorted(cancelled) == ["contract_end", "contract_ends_notice", "contract_ends_notice"]
    told.wait_until(at("2026-12-20"))
    assert [days for _, _, days in told.warnings] == [30, 14, 30, 14]


def test_warnings_that_were_missed_collapse_to_the_nearest() -> None:
    """The end becomes known ten days before it; and after a downtime the backlog does not say everything twice."""
    told = Warned()
    told.tell(joined(), at("2026-01-05"))
    told.tell(contract("2026-06-30"), at("2026-06-21"))
    assert told.warnings == [(at("2026-06-21"), "contract_ends", 14)]
    told.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="x")), at("2026-06-22"))
    assert len(told.warnings) == 1
    behind = Warned()
    behind.tell(joined(end="2026-06-30"), at("2026-01-05"))
    for kind, due in sorted(behind.timers, key=lambda one: one[1]):
        if due < at("2026-06-25"):
            del behind.timers[kind, due]
            behind.tell(TimerFired(worker_id="w1", kind=kind, due=due), at("2026-06-25"), event=f"timer#{due}")
    assert behind.warnings == [(at("2026-06-25"), "contract_ends", 7)]


def test_nobody_is_warned_before_the_first_day_or_of_a_termination_or_of_what_goes_on() -> None:
    short = Warned()
    short.tell(joined("2026-02-02", "2026-02-04"), at("2026-01-05"))
    short.wait_until(at("2026-02-06"))
    assert [(moment, days) for moment, _, days in short.warnings] == [(at("2026-02-02"), 7), (at("2026-02-04"), 1)]
    leaver = Warned()
    leaver.tell(joined(), at("2026-01-05"))
    leaver.tell(WorkerLeft(worker_id="w1", last_day=date(2026, 3, 31)), at("2026-03-30"))
    leaver.wait_until(at("2026-04-30"))
    assert leaver.warnings == []


def test_a_warning_of_an_entitlement_names_its_group() -> None:
    told = Warned()
    told.tell(joined(kind="employee"), at("2026-01-05"))
    told.tell(granted(ends="2026-02-28"), at("2026-02-01"))
    told.wait_until(at("2026-03-01"))
    end = at("2026-03-01")
    assert told.warnings == [(end - days * DAY, "entitlement_ends", days) for days in (7, 1)]
    gone = Warned()
    gone.tell(joined(end="2026-02-10"), at("2026-01-05"))
    gone.tell(granted(ends="2026-02-28"), at("2026-02-01"))
    gone.wait_until(at("2026-03-01"))
    assert {kind for _, kind, _ in gone.warnings} == {"contract_ends"}, "it ends with the contract"
