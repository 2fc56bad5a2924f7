"""Notices as e-mail: what a template may say, and what no name can do to a message."""

import unicodedata
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapters.letters import FIELDS, Letters, load_letters, one_line
from orchestrator.domain.notices import EMAIL, NOBODY, WEBHOOK, Receivers, is_address, notice_key, receivers
from orchestrator.errors import ConfigError
from orchestrator.notice_config import EmailConfig, WebhookConfig
from orchestrator.ports.noticing import Contact, Delivery
from schemas.notices import Notice, NoticeKind

DUE = datetime(2026, 10, 24, 22, tzinfo=UTC)


def delivery(kind: NoticeKind = "contract_ends", days: int | None = 7, **more: str) -> Delivery:
    told = Notice(id="n1", kind=kind, person_id="4711", due=DUE, days_before=days, event_id="hr#1", **more)
    return Delivery(notice_key(told), "email:manager", told, DUE, 1)


@pytest.fixture
def letters() -> Letters:
    return load_letters(None, "jml@example.com", "Europe/Berlin")


@pytest.mark.parametrize("kind", get_args(NoticeKind))
def test_every_kind_of_notice_has_a_letter(letters: Letters, kind: NoticeKind) -> None:
    letter = letters.write(delivery(kind, app="crm", group="staff"), None, "boss@example.com")
    text = f"{letter['Subject']} {letter.get_content()}"
    assert "4711" in text
    assert "2026-10-25 00:00 (Europe/Berlin), which is 2026-10-24 22:00 UTC" in text
    assert "$" not in text


@pytest.mark.parametrize(("days", "words"), [(0, "today"), (1, "tomorrow"), (30, "in 30 days"), (None, "soon")])
def test_when_is_said_as_people_say_it(letters: Letters, days: int | None, words: str) -> None:
    assert letters.write(delivery(days=days), None, "a@b.c")["Subject"] == f"Access of 4711 ends {words}"


@given(st.text(), st.text())
def test_no_name_adds_a_header_or_a_recipient(name: str, zone: str) -> None:
    letters = load_letters(None, "jml@example.com", "UTC")
    letter = letters.write(delivery(), Contact("4711", name, None, zone), "boss@example.com")
    read = message_from_bytes(letter.as_bytes())
    assert sorted(read.keys()) == [
        "Auto-Submitted",
        "Content-Transfer-Encoding",
        "Content-Type",
        "Date",
        "From",
        "MIME-Version",
        "Message-ID",
        "Subject",
        "To",
    ]
    assert read["To"] == "boss@example.com"


@given(st.text())
def test_a_field_is_one_line_of_bounded_length(text: str) -> None:
    line = one_line(text)
    assert len(line) <= 200
    assert line.splitlines() in ([], [line])
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not [one for one in line if unicodedata.category(one) in hidden]


def test_a_folder_overrides_a_template_and_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "contract_ends.txt").write_text("Subject: $$ $name\r\n\r\nBye, $person_id.\r\n")
    letters = load_letters(tmp_path, "jml@example.com", "UTC")
    letter = letters.write(delivery(), Contact("4711", "Ada", None, None), "boss@example.com")
    assert (letter["Subject"], letter.get_content().strip()) == ("$ Ada", "Bye, 4711.")
    assert "may still have access" in letters.write(delivery("access_overdue"), None, "a@b.c")["Subject"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello $name", "does not begin with a line `Subject: ...`"),
        ("Subject: x\nno empty line", "and an empty line"),
        ("Subject: x\n\n${nonsense}", "uses nonsense; the fields are name"),
        ("Subject: $ x\n\n", "write $$"),
        (b"Subject: \xff\n\n", "utf-8"),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_said_at_start(tmp_path: Path, text: str | bytes, words: str) -> None:
    (tmp_path / "contract_ends.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as raised:
        load_letters(tmp_path, "jml@example.com", "UTC")
    assert words in str(raised.value)
    assert "contract_ends.txt" in str(raised.value)


def test_the_fields_are_documented() -> None:
    guide = (Path(__file__).parents[2] / "orchestrator/guide/notices.md").read_text()
    assert [name for name in FIELDS if f"`{name}`" not in guide] == []


# --- who gets it ------------------------------------------------------------------------------------------------------


def test_each_receiver_is_a_delivery_of_its_own() -> None:
    told = delivery(manager_id="boss", sponsor_id="friend").notice
    everything = Receivers(True, True, True, True, ("desk@example.com", "desk@example.com"))
    names = [one.name for one in receivers(told, everything)]
    assert names == ["webhook", "email:manager", "email:sponsor", "email:desk@example.com"]
    assert {one.channel for one in receivers(told, everything)} == {WEBHOOK, EMAIL}
    assert [one.name for one in receivers(told, Receivers())] == [NOBODY]


def test_a_manager_who_is_the_sponsor_gets_one_letter() -> None:
    told = delivery(manager_id="boss", sponsor_id="boss").notice
    assert [one.name for one in receivers(told, Receivers(email=True))] == ["email:manager"]
    only_sponsor = Receivers(email=True, manager=False)
    assert [one.name for one in receivers(told, only_sponsor)] == ["email:sponsor"]


def test_the_key_of_a_notice_fits_a_header_and_names_nobody() -> None:
    key = notice_key(delivery().notice)
    assert key.isascii()
    assert "." not in key
    assert len(key) <= 64
    assert key != notice_key(delivery().notice.model_copy(update={"id": "n2"}))


@pytest.mark.parametrize("text", ["a@b.c", "ada.king+x@example.com", "zoë@exämple.com", "o'hara@example.com"])
def test_an_address(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@b",
        "a@",
        "a@b c",
        "a@b,c@d",
        "a@b;c@d",
        "a@b\nBcc: c@d",
        "<a@b>",
        "a@b@c",
        "a\x00@b",
        "x" * 300 + "@b",
    ],
)
def test_no_address(text: str) -> None:
    assert not is_address(text)


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://hooks.example.com/x", "is not https"),
        ("https://me:secret@hooks.example.com/x", "holds credentials"),
        ("ftp://hooks.example.com/x", "URL scheme"),
    ],
)
def test_a_webhook_that_is_not_private_is_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WebhookConfig.model_validate({"url": url})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"security": "none"}, "only for a server on this machine"),
        ({"host": "localhost", "security": "none", "user": "me"}, "no password goes over"),
        ({"sender": "a@b\nBcc: c@d"}, "is no e-mail address"),
        ({"to": ["a@b", "nobody"]}, "is no e-mail address"),
    ],
)
def test_mail_that_is_not_private_or_has_no_address_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EmailConfig.model_validate({"host": "mail.example.com", "sender": "jml@example.com", **settings})
