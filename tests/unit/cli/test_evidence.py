"""`jml audit search|export`, `jml access` and `jml report`: what auditors type, on a log and on a copy of it."""

import asyncio
import csv
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from orchestrator.cli import access, services
from orchestrator.config import Config
from orchestrator.evidence.entries import Keyring
from orchestrator.evidence.reports import REPORTS
from schemas.envelope import timestamp
from tests.audit_log import write_log
from tests.forge import forge
from tests.unit.cli.console import Jml
from tests.unit.evidence.story import ANN, BOB, START, Keys, Story, at, seal
from tests.unit.evidence.test_account_changes import validator
from tests.unit.flows.resolving import Office


def story() -> Story:
    """Ann joins and leaves; Bob's account is parked, and an operator looks at it."""
    told = Story()
    told.issued(0, ANN, "crm", 1, "active", "staff", event_id="hr#1")
    told.applied(2, ANN, "crm", 1, "active", groups_added=["staff"], sealed=seal(account="r-1"))
    told.issued(5, BOB, "wiki", 1, "active", event_id="hr#2")
    told.tell(6, "command_parked", BOB, "wiki", revision=1, code="rejected", event_id="hr#2")
    told.issued(10, ANN, "crm", 2, "inactive", event_id="hr#3", effective_at=at(9))
    told.applied(12, ANN, "crm", 2, "inactive", groups_removed=["staff"])
    told.tell(20, "operator_acted", BOB, "wiki", actor="operator:eve", action="retry_parked", reason="=fixed")
    return told


@pytest.fixture
def log(configured: Path, migrated: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configured log, at a time when nothing of it lies in the future."""
    folder = configured.parent / "state" / "audit"
    forge(folder, story().entries)
    monkeypatch.setattr(services, "now", lambda: START + timedelta(days=30))
    return folder


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Keys:
    """The keyring of the database."""
    ring = Keys()

    @contextmanager
    def opened(config: Config) -> Iterator[Keyring]:
        yield ring

    monkeypatch.setattr(services, "keyring", opened)
    return ring


def positions(jml: Jml, *options: str) -> list[int]:
    return [one["position"] for one in jml("audit", "search", "--json", *options).json]


# --- search -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--person", BOB), [5, 6, 7, 8, 14]),
        (("--app", "wiki"), [7, 8, 14]),
        (("--kind", "command_applied"), [4, 13]),
        (("--actor", "operator:eve"), [14]),
        (("--actor", "operator"), [14]),
        (("--actor", "oper"), []),
        (("--event", "hr#3"), [9, 10, 11]),
        (("--correlation", "case-2"), [11]),
        (("--since", "2026-03-02T08:12:00Z"), [13, 14]),
        (("--until", "2026-03-02T08:02:00Z"), [0, 1, 2, 3]),
        (("--since", "2026-03-03"), []),
        (("--person", ANN, "--kind", "command_issued", "--app", "crm"), [2, 11]),
        (("--person", ANN, "--limit", "2"), [0, 1]),
    ],
)
def test_search_finds_what_fits_all_that_is_asked(
    jml: Jml, log: Path, options: tuple[str, ...], found: list[int]
) -> None:
    assert positions(jml, *options) == found


def test_search_by_worker_id_where_the_keys_are(jml: Jml, log: Path, keys: Keys) -> None:
    assert positions(jml, "--person", "4712") == positions(jml, "--person", BOB) == [5, 6, 7, 8, 14]
    assert " 4712 wiki r1 by hr/example" in jml("audit", "search", "--kind", "command_parked").out
    assert keys.asked == {BOB}, "they were looked up together, and nobody else was"


def test_search_for_people(jml: Jml, log: Path) -> None:
    lines = jml("audit", "search", "--app", "wiki").out.splitlines()
    assert len(lines) == 3
    assert re.search(r"8 2026-03-02T08:06:00.000000Z command_parked +s-bob wiki r1 by hr/example", lines[1])
    for known in (("--app", "wiki"), ("--person", BOB)):
        nothing = jml("audit", "search", *known, "--kind", "command_applied")
        assert (nothing.code, nothing.out, nothing.err) == (0, "", "no entry matches\n")
        assert jml("audit", "search", *known, "--kind", "command_applied", "--json").json == []


def test_an_escape_in_a_record_hides_nothing(jml: Jml, log: Path) -> None:
    """JSON has several ways to write a text once there are backslashes; passing over bytes must not be fooled."""
    forge(log, [one.replace(b'"subject":"s-bob"', b'"subject":"\\u0073-bob"') for one in story().entries])
    assert positions(jml, "--person", BOB) == [5, 6, 7, 8, 14]


def test_a_days_zone_is_the_configured_one(jml: Jml, log: Path, configured: Path) -> None:
    with configured.open("a") as file:
        file.write('\n[time]\ndefault_zone = "Pacific/Kiritimati"\n')  # 14 hours ahead: it is 22:00 there
    assert positions(jml, "--since", "2026-03-03") == []
    assert len(positions(jml, "--until", "2026-03-03")) == 15
    assert len(positions(jml, "--since", "2026-03-02", "--until", "2026-03-03")) == 15


# --- export -----------------------------------------------------------------------------------------------------------


def test_ocsf_and_entra_are_lines_of_json(jml: Jml, log: Path, folder: Path) -> None:
    answer = jml("audit", "export", "--format", "ocsf")
    assert [orjson.loads(line)["type_uid"] for line in answer.out.splitlines()] == [
        *(300101, 300603),
        300101,
        *(300105, 300604),
    ]
    assert answer.err == "5 events from 3 entries exported\n"
    answer = jml("audit", "export", "--format", "entra", "--out", "entra.jsonl")
    lines = (folder / "entra.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["provisioningAction"] for line in lines] == ["create", "create", "disable"]
    assert answer.err == "3 entries exported to entra.jsonl\n"


def test_a_part_is_exported_with_what_was_before_it_in_mind(jml: Jml, log: Path) -> None:
    answer = jml("audit", "export", "--format", "ocsf", "--since", "2026-03-02T08:10:00Z")
    assert [orjson.loads(line)["type_uid"] for line in answer.out.splitlines()] == [300105, 300604]


def test_who_is_not_known_any_more_is_told_apart_from_who_has_no_entry(jml: Jml, log: Path, keys: Keys) -> None:
    """After an erasure a worker id leads nowhere, and silence would look as if nothing had ever happened."""
    for command in (("audit", "search"), ("audit", "export"), ("access",)):
        jml(*command, "--person", "9999").refused("the person '9999'", "nobody is known by that id, or not any more")
    assert jml("audit", "search", "--person", "4711", "--app", "wiki").err == "no entry matches\n"


@pytest.mark.parametrize("command", [("audit", "search"), ("audit", "export"), ("access",)], ids=" ".join)
def test_without_the_database_a_worker_id_is_not_said_to_be_nobodys(
    jml: Jml, log: Path, configured: Path, command: tuple[str, ...]
) -> None:
    (configured.parent / "state" / "jml.db").unlink()
    answer = jml(*command, "--person", "4711")
    assert (answer.code, answer.out) == (2, "")
    assert "nobody is known" not in answer.err
    silent, refused = answer.err.splitlines()
    assert silent.startswith("people are shown by their subjects: ")
    assert "the person '4711'" in refused
    assert refused.endswith("are not at hand: name the subject")
    jml(*command, "--person", "4711", "--log", log).refused("are not at hand: name the subject")


def test_an_export_that_is_refused_leaves_the_file_alone(jml: Jml, log: Path, folder: Path) -> None:
    (folder / "kept.csv").write_text("kept")
    for format_ in ("jsonl", "csv", "ocsf", "entra"):
        jml("audit", "export", "--app", "none", "--format", format_, "--out", "kept.csv").refused("'none'")
    assert (folder / "kept.csv").read_text() == "kept"


def test_the_latest_of_an_application_that_is_none_are_refused(jml: Jml, log: Path) -> None:
    jml("audit", "tail", "--app", "none").refused("the application 'none'", "crm, wiki")
    jml("audit", "tail", "--app", "none", "--log", log, "--follow").refused("the application 'none'")
    nothing = jml("audit", "tail", "--app", "wiki", "--kind", "command_applied")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no entry matches\n")


def test_what_a_source_says_of_an_entitlement_is_exported_without_any_key(jml: Jml, folder: Path) -> None:
    """From the event to the file: the resolver, the auditor's log, the command, the published schema."""

    async def life() -> Office:
        office = Office(None)
        place = {"app": "crm", "group": "on-call"}
        await office.tell(office.joins("ada"))
        await office.tell(office.event("worker.entitlement_granted", "ada", ends="2026-04-01", reason="duty", **place))
        await office.tell(office.event("worker.entitlement_revoked", "ada", **place))
        return office

    office = asyncio.run(life())
    write_log(folder / "copy", [office.records])
    answer = jml("audit", "export", "--format", "ocsf", "--log", folder / "copy")
    found = [orjson.loads(line) for line in answer.out.splitlines()]
    assert [event["type_uid"] for event in found] == [300501, 300502]
    for event in found:
        validator(event["class_uid"]).validate(event)
        assert event["privileges"] == ["on-call"]
        assert event["resources"] == [{"name": "crm", "type": "application"}]
        assert event["user"]["uid"] == office.entries("event_received")[0]["subject"]


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("format_", ["jsonl", "csv", "ocsf", "entra"])
def test_personal_values_have_to_be_asked_for(jml: Jml, log: Path, format_: str) -> None:
    kept = jml("audit", "export", "--format", format_, "--kind", "command_applied").out
    assert ("4711" in kept) == (format_ == "csv"), "a spreadsheet is for people, who know worker ids"
    shown = jml("audit", "export", "--format", format_, "--kind", "command_applied", "--with-values").out
    assert "r-1" in shown
    assert "4711" in shown
    assert ("r-1" in kept) == (format_ in ("jsonl",)), "only the record itself has it, as it was recorded"


@pytest.mark.usefixtures("keys")
def test_a_search_shows_personal_values_where_they_are_asked_for(jml: Jml, log: Path) -> None:
    search = ("audit", "search", "--kind", "command_applied", "--limit", "1")
    (kept,) = jml(*search, "--json").json
    assert not {"person_id", "values"} & set(kept)
    (shown,) = jml(*search, "--json", "--with-values").json
    assert shown == {**kept, "person_id": "4711", "values": {"account": "r-1"}}
    assert '{"account":"r-1"}' in jml(*search, "--with-values").out
    (unknown,) = jml(*search, "--json", "--with-values", "--log", log).json
    assert unknown == kept, "a copy has no keys with it"


# --- access -----------------------------------------------------------------------------------------------------------


def test_access_of_a_person_as_of_an_instant(jml: Jml, log: Path) -> None:
    answer = jml("access", "--person", ANN, "--at", "2026-03-02T08:09:30Z", "--json").json
    (row,) = answer["data"]
    assert (row["app"], row["access"], row["groups"], row["why"]) == ("crm", "yes", "staff", "joiner")
    assert row["known_later"] == "inactive since 2026-03-02 08:09:00Z, recorded 2026-03-02 08:10:00Z"
    assert (answer["cutoff"], answer["entries_up_to_cutoff"]) == ("2026-03-02T08:09:30.000000Z", 9)
    (row,) = jml("access", "--person", ANN, "--json").json["data"]
    assert (row["access"], row["desired"], row["actual"]) == ("no", "inactive", "inactive")


def test_access_for_people(jml: Jml, log: Path) -> None:
    answer = jml("access", "--app", "crm", "--at", "2026-03-02T08:09:30Z")
    assert "Access as of 2026-03-02 08:09:30Z" in answer.out
    assert "known later: s-ann in crm inactive since" in answer.err
    assert answer.code == 0


def test_of_many_that_were_known_later_some_are_told(jml: Jml, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MOST_LATER", 0)
    answer = jml("access", "--app", "crm", "--at", "2026-03-02T08:09:30Z")
    assert answer.err == "known later: 1 more; --json has all of them\n"


def test_a_day_is_its_end(jml: Jml, log: Path) -> None:
    answer = jml("access", "--app", "crm", "--at", "2026-03-02", "--json").json
    assert answer["cutoff"] == "2026-03-03T00:00:00.000000Z"


@pytest.mark.usefixtures("keys")
def test_access_by_worker_id(jml: Jml, log: Path) -> None:
    (row,) = jml("access", "--person", "4712", "--json").json["data"]
    assert (row["person"], row["app"], row["access"]) == ("4712", "wiki", "unsure")


# --- reports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("format_", ["csv", "json", "html"])
def test_every_report_in_every_form(jml: Jml, log: Path, folder: Path, name: str, format_: str) -> None:
    answer = jml("report", name, "--format", format_, "--out", "made")
    assert (answer.code, answer.out) == (0, ""), answer.err
    made = (folder / "made").read_text()
    assert REPORTS[name].title in made
    assert "ISO/IEC 27001:2022" in made
    assert re.fullmatch(r"\d+ rows? in made\n", answer.err)
    if format_ == "json":
        assert orjson.loads(made)["checkpoint_size"] == 15


def test_a_report_of_a_period_with_a_limit(jml: Jml, log: Path) -> None:
    options = ("--from", "2026-03-02", "--to", "2026-03-02", "--limit", "90s", "--format", "json")
    (row,) = jml("report", "leavers", *options).json["data"]
    assert (row["person"], row["seconds"], row["within_limit"]) == (ANN, 120.0, "no")
    assert jml("report", "leavers", "--from", "2026-03-03", "--format", "json").json["data"] == []


def test_a_report_as_a_table_has_what_it_says_of_itself_first(jml: Jml, log: Path) -> None:
    lines = jml("report", "overrides").out.splitlines()
    about = [line for line in lines if line.startswith("# ")]
    assert "# rows: 1" in about
    (row,) = csv.DictReader(io.StringIO("\n".join(line for line in lines if not line.startswith(("# ", '"# ')))))
    assert (row["operator"], row["reason"]) == ("eve", "'=fixed")


@pytest.mark.usefixtures("keys")
def test_a_report_names_people_where_the_keys_are(jml: Jml, log: Path) -> None:
    assert [row["person"] for row in jml("report", "joiners", "--format", "json").json["data"]] == ["4711", "4712"]
    assert jml("report", "joiners", "--person", "4712", "--format", "json").json["rows"] == 1


# --- a copy of the log ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("audit", "search", "--app", "crm"),
        ("audit", "export"),
        ("access", "--app", "crm"),
        ("report", "leavers"),
    ],
)
def test_a_copy_needs_no_configuration(jml: Jml, log: Path, configured: Path, command: tuple[str, ...]) -> None:
    shown = jml(*command).out
    log.rename("copy")
    configured.unlink()
    assert jml(*command, "--log", "copy").out == shown


def test_what_no_checkpoint_covers_is_left_out(jml: Jml, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = services.audit_source(log)
    monkeypatch.setattr(services, "audit_source", lambda folder: whole._replace(size=9, root=b"\x01" * 32))
    assert len(jml("audit", "search", "--json").json) == 9
    made = jml("report", "leavers", "--format", "json").json
    assert (made["checkpoint_size"], made["rows"]) == (9, 0)
    assert made["checkpoint_root"].startswith("AQEB")


# --- mistakes ---------------------------------------------------------------------------------------------------------

READERS = [
    ("audit", "search"),
    ("audit", "export"),
    ("access", "--app", "crm"),
    ("report", "leavers"),
]


@pytest.mark.parametrize("command", READERS, ids=" ".join)
class TestMistakes:
    """One line that says what to do, exit code 2."""

    def test_no_log(self, jml: Jml, configured: Path, command: tuple[str, ...]) -> None:
        jml(*command).refused("no audit log in state/audit", "--log")

    def test_an_empty_log(self, jml: Jml, log: Path, command: tuple[str, ...]) -> None:
        shutil.rmtree(log)
        log.mkdir()
        jml(*command).refused("has no entries", "auditor")

    def test_a_folder_that_is_no_log(self, jml: Jml, log: Path, command: tuple[str, ...]) -> None:
        jml(*command, "--log", ".").refused("has no entries")

    @pytest.mark.parametrize(
        "damage",
        [b"nonsense", b"[]", b'{"at":"2026-03-02T08:00:00","kind":"x"}', b'{"at":"2026-03-02T08:00:00Z","kind":1}']
        + [b'{"at":"2026-03-02T08:00:00Z","kind":"x",%s}' % more for more in (b'"subject":{}', b'"details":[]')],
    )
    def test_a_damaged_entry(self, jml: Jml, log: Path, command: tuple[str, ...], damage: bytes) -> None:
        forge(log, [*story().entries, damage])
        answer = jml(
            *command, *(("--out", "made") if command != ("audit", "search") and command[0] != "access" else ())
        )
        assert answer.code == 2
        assert "entry 15 of the audit log is damaged" in answer.err
        assert "jml audit verify" in answer.err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("access",), ("--person", "--app")),
        (("access", "--person", "nobody"), ("'nobody'", "worker id")),
        (("access", "--app", "none"), ("'none'", "crm, wiki")),
        (("access", "--app", "crm", "--at", "2026-05-01"), ("--at", "still to come")),
        (("access", "--app", "crm", "--at", "2026-05-01T00:00:00Z"), ("--at", "still to come")),
        (("access", "--app", "crm", "--at", "2026-03-01"), ("before the audit log", "2026-03-02T08:00:00")),
        (("access", "--app", "crm", "--at", "soon"), ("--at 'soon'", "2026-03-02")),
        (("access", "--app", "crm", "--at", "2026-03-02T08:00:00"), ("instant with its zone",)),
        (("report", "nonsense"), ("'nonsense'", "leavers, joiners, access")),
        (("report", "leavers", "--person", "nobody"), ("'nobody'",)),
        (("report", "leavers", "--at", "2026-02-28"), ("before the audit log",)),
        (("report", "leavers", "--limit", "fast"), ("--limit 'fast'", "15min")),
        (("report", "leavers", "--limit", "99999999999999d"), ("--limit",)),
        (("report", "leavers", "--from", "2026-03-09", "--to", "2026-03-02"), ("--from is not before --to",)),
        (("report", "leavers", "--from", "2026-03-09", "--at", "2026-03-03"), ("--from is after --at",)),
        (("report", "leavers", "--to", "2027-01-01"), ("--to", "still to come")),
        (("report", "access", "--from", "2026-03-02"), ("one instant", "--at")),
        (("report", "contractors", "--app", "crm"), ("about no application", "--app")),
        (("report", "leavers", "--out", "missing/x"), ("missing/x cannot be written",)),
        (("report", "leavers", "--format", "pdf"), ("pdf",)),
        (("audit", "search", "--since", "soon"), ("--since 'soon'",)),
        (("audit", "search", "--app", "none"), ("'none'", "crm, wiki")),
        (("audit", "search", "--app", "none", "--json"), ("'none'", "crm, wiki")),
        (("audit", "search", "--person", ANN, "--app", "none"), ("the application 'none'",)),
        (("audit", "search", "--person", "nobody", "--app", "crm"), ("the person 'nobody'",)),
        (("audit", "search", "--since", "2026-03-09", "--until", "2026-03-02"), ("--since is not before --until",)),
        (("audit", "export", "--since", "2026-03-02", "--until", "2026-03-02"), ("--since is not before --until",)),
        (("audit", "search", "--limit", "0"), ("--limit",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_a_mistake_is_told_in_one_line(jml: Jml, log: Path, command: tuple[str, ...], words: tuple[str, ...]) -> None:
    jml(*command).refused(*words)


def test_an_instant_that_is_none_names_its_entry(jml: Jml, log: Path) -> None:
    when = b'"effective_at":"%s"' % timestamp(at(9)).encode()
    forge(log, [one.replace(when, b'"effective_at":"soon"') for one in story().entries])
    jml("access", "--app", "crm").refused("entry 11 of the audit log is damaged")
