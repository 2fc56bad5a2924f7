"""Notices from the topic to receivers that check what they get: a webhook and a mail server on loopback."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.notices import SqlNoticeStore
from orchestrator.config import Config
from orchestrator.domain.account import Account
from orchestrator.domain.history import History, Statement
from orchestrator.domain.person import Decision, Person
from orchestrator.errors import ConfigError
from orchestrator.flows import notify as notify_module
from orchestrator.ports import ResolveChanges, Timer
from orchestrator.ports.noticing import DeliveryView
from schemas.envelope import Envelope, Message
from schemas.notices import Notice
from schemas.topics import LIFECYCLE_NOTICES
from tests.contract.rows import save
from tests.integration.pipeline import Pipeline, embedded, eventually, pipeline
from tests.integration.receivers import SECRET, Hook, Mailbox, mail_server, verified, webhook

NOW = datetime.fromisoformat("2026-03-02T08:15:00Z")
DUE = NOW + timedelta(days=7)
SENDER = "jml@example.com"

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as hook:
        yield hook


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with mail_server() as mailbox:
        yield mailbox


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)


def to_hook(hook: Hook, **more: Any) -> dict[str, Any]:
    return {"webhook": {"url": hook.url, "secret_env": "HOOK_SECRET", "timeout_seconds": 2, **more}}


def by_mail(mailbox: Mailbox, **more: Any) -> dict[str, Any]:
    server = {"host": "127.0.0.1", "port": mailbox.port, "security": "none", "sender": SENDER}
    return {"email": {**server, "timeout_seconds": 5, **more}}


@asynccontextmanager
async def notifying(database: Database, folder: Path, notices: dict[str, Any]) -> AsyncIterator[Pipeline]:
    """A notifier with these receivers, which tries again quickly."""
    with embedded() as bootstrap:
        config = Config.model_validate(
            {
                "kafka": {"bootstrap": bootstrap},
                "store": {"url": str(database.url)},
                "audit": {"dir": folder / "audit"},
                "notices": {"retry": {"base_seconds": 0.05, "max_seconds": 0.2, "attempts": 4}, **notices},
            }
        )
        async with pipeline(config, "notifier", clock=SimulatedClock(NOW)) as line:
            yield line


def person(person_id: str, **attributes: str | None) -> Person:
    history = History((Statement(NOW - timedelta(days=9), NOW, "hr#1", attributes),))
    return Person(person_id, history, decision=Decision(NOW, "active", "contractor", "p1"))


async def company(database: Database, **leaver: str | None) -> None:
    """A contractor whose contract ends in a week, a manager and a sponsor."""
    about = {"display_name": "Ada King", "time_zone": "Australia/Melbourne", **leaver}
    people = [
        person("4711", **about),
        person("boss", email="boss@example.com"),
        person("friend", email="friend@example.com"),
    ]
    timers = [Timer("4711", "contract_end", DUE, "hr#1", "contract_end")]
    await save(database, ResolveChanges(persons=people, timers_set=timers))


def notice(number: int = 1, **more: Any) -> Notice:
    told = {"kind": "contract_ends", "days_before": 7, "manager_id": "boss", "sponsor_id": "friend", "event_id": "hr#1"}
    return Notice.model_validate({"id": f"4711/{number}", "person_id": "4711", "due": DUE, **told, **more})


def message(told: Notice) -> Message:
    envelope = Envelope(told.id, "jml/resolver", Notice.TYPE, NOW, subject=told.person_id)
    return Message(LIFECYCLE_NOTICES, told.person_id.encode(), told.model_dump_json().encode(), envelope.headers())


async def settled(database: Database, *statuses: str, count: int = 1) -> list[DeliveryView]:
    """The deliveries, once as many have one of these statuses."""
    store = SqlNoticeStore(database)

    async def look() -> list[DeliveryView] | None:
        found = await store.listed(statuses=statuses, limit=999)
        return found if len(found) >= count else None

    found: list[DeliveryView] = await eventually(look)
    return found


async def test_a_webhook_gets_a_notice_whose_signature_holds(database: Database, tmp_path: Path, hook: Hook) -> None:
    await company(database)
    async with notifying(database, tmp_path, to_hook(hook)) as line:
        await line.send(message(notice()))
        (one,) = await settled(database, "delivered")
    (got,) = hook.received
    assert (got["type"], got["data"]["person_id"], got["data"]["days_before"]) == (
        "jml.notice.contract_ends",
        "4711",
        7,
    )
    assert "Ada" not in str(got), "a webhook gets ids only"
    assert (hook.ids, hook.refused) == ([one.key], 0)
    assert "4711" not in one.key


async def test_manager_sponsor_and_fixed_addresses_get_a_letter_each(
    database: Database, tmp_path: Path, mailbox: Mailbox
) -> None:
    await company(database)
    async with notifying(database, tmp_path, by_mail(mailbox, to=["desk@example.com"])) as line:
        await line.send(message(notice()))
        await settled(database, "delivered", count=3)
    assert sorted(to for recipients, _ in mailbox.received for to in recipients) == [
        "boss@example.com",
        "desk@example.com",
        "friend@example.com",
    ]
    (letter,) = mailbox.to("boss@example.com")
    assert letter["Subject"] == "Access of Ada King ends in 7 days"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert "2026-03-09 19:15 (Australia/Melbourne), which is 2026-03-09 08:15 UTC" in letter.get_content()
    assert mailbox.to("friend@example.com")[0]["Message-ID"] != letter["Message-ID"]


async def test_a_hostile_name_breaks_no_header(database: Database, tmp_path: Path, mailbox: Mailbox) -> None:
    name = "Eve\r\nBcc: everybody@example.com\r\n\r\n<script>\u202e${due_utc} $$"
    await company(database, display_name=name)
    async with notifying(database, tmp_path, by_mail(mailbox)) as line:
        await line.send(message(notice(sponsor_id=None)))
        await settled(database, "delivered")
    ((recipients, letter),) = mailbox.received
    assert recipients == ("boss@example.com",)
    assert letter["Bcc"] is None
    assert letter["Subject"] == "Access of Eve Bcc: everybody@example.com <script> ${due_utc} $$ ends in 7 days"


@pytest.mark.parametrize(
    "address", ["a@example.com, b@example.com", "a@example.com\nBcc: b@example.com", "<a@b>", "nobody"]
)
async def test_an_address_that_is_none_is_parked_and_nothing_is_sent(
    database: Database, tmp_path: Path, mailbox: Mailbox, address: str
) -> None:
    await company(database)
    await save(database, ResolveChanges(persons=[person("other", email=address)]))
    async with notifying(database, tmp_path, by_mail(mailbox)) as line:
        await line.send(message(notice(manager_id="other", sponsor_id=None)))
        (one,) = await settled(database, "parked")
    assert one.error_code == "bad_address"
    assert address not in (one.error or "")
    assert mailbox.received == []


async def test_a_receiver_that_is_down_is_tried_again_and_holds_up_nobody(
    database: Database, tmp_path: Path, hook: Hook, mailbox: Mailbox
) -> None:
    hook.answers = [(503, {}), (429, {"retry-after": "0"}), (500, {})]
    await company(database)
    async with notifying(database, tmp_path, {**to_hook(hook), **by_mail(mailbox)}) as line:
        await line.send(message(notice()))
        found = await settled(database, "delivered", count=3)
    attempts = {one.receiver: one.attempts for one in found}
    assert attempts == {"webhook": 4, "email:manager": 1, "email:sponsor": 1}
    assert len(hook.received) == 1
    assert len(mailbox.received) == 2


async def test_what_is_given_up_is_parked_and_an_operator_has_it_delivered(
    database: Database, tmp_path: Path, hook: Hook
) -> None:
    hook.answers = [(503, {})] * 4
    await company(database)
    async with notifying(database, tmp_path, to_hook(hook)) as line:
        await line.send(message(notice()))
        (parked,) = await settled(database, "parked")
        assert (parked.attempts, parked.error_code) == (4, "unavailable")
        async with SqlNoticeStore(database).retry() as transaction:
            await transaction.retried(await transaction.take([parked.key]), [], now=line.runtime.wall.now())
        await settled(database, "delivered")
    assert hook.ids == [parked.key]


async def test_one_mailbox_that_is_refused_makes_nobody_else_get_two(
    database: Database, tmp_path: Path, mailbox: Mailbox
) -> None:
    mailbox.refusals = {"boss@example.com": "550 no such user boss@example.com"}
    await company(database)
    async with notifying(database, tmp_path, by_mail(mailbox)) as line:
        await line.send(message(notice()))
        (parked,) = await settled(database, "parked")
        await settled(database, "delivered")
    assert (parked.receiver, parked.error_code) == ("email:manager", "refused")
    assert "boss@" not in (parked.error or ""), "what the server says quotes the address"
    assert [recipients for recipients, _ in mailbox.received] == [("friend@example.com",)]


async def test_a_redirect_is_not_followed(database: Database, tmp_path: Path, hook: Hook) -> None:
    await company(database)
    with webhook() as elsewhere:
        hook.answers = [(307, {"location": elsewhere.url})]
        async with notifying(database, tmp_path, to_hook(hook)) as line:
            await line.send(message(notice()))
            (parked,) = await settled(database, "parked")
        assert parked.error_code == "redirected"
        assert elsewhere.asked == 0


async def test_a_notice_that_comes_twice_is_delivered_once(database: Database, tmp_path: Path, hook: Hook) -> None:
    await company(database)
    async with notifying(database, tmp_path, to_hook(hook)) as line:
        await line.send(message(notice(1)), message(notice(1)))
        await settled(database, "delivered")
        await line.send(message(notice(1)), message(notice(2)))
        await settled(database, "delivered", count=2)
    assert len(hook.received) == 2
    assert len(set(hook.ids)) == 2


async def test_an_end_that_moved_meanwhile_is_not_told(database: Database, tmp_path: Path, hook: Hook) -> None:
    await company(database)
    async with notifying(database, tmp_path, to_hook(hook)) as line:
        await line.send(message(notice(due=DUE + timedelta(days=1))))
        await settled(database, "outdated")
    assert hook.asked == 0


async def test_an_overdue_end_that_was_enforced_meanwhile_is_not_told(
    database: Database, tmp_path: Path, hook: Hook
) -> None:
    await company(database)
    account = Account("4711", "crm", 2, "inactive", {"userName": "ada"}, (), NOW, "hr#4", "case", "p1")
    await save(database, ResolveChanges(persons=[], accounts=[account]))
    async with notifying(database, tmp_path, to_hook(hook)) as line:
        overdue = notice(kind="access_overdue", app="crm", due=NOW, days_before=None)
        await line.send(message(overdue))
        await settled(database, "delivered")
        await line.send(message(overdue.model_copy(update={"id": "other", "app": "wiki"})))
        await settled(database, "outdated")
    assert [one["data"]["app"] for one in hook.received] == ["crm"]


async def test_without_receivers_a_notice_is_delivered_to_nobody_and_stays_on_its_topic(
    database: Database, tmp_path: Path
) -> None:
    await company(database)
    async with notifying(database, tmp_path, {}) as line:
        await line.send(message(notice()))
        (one,) = await settled(database, "delivered")
        assert one.receiver == "nobody"
        assert len(await line.records(LIFECYCLE_NOTICES, at_least=1)) == 1


async def test_a_record_that_is_no_notice_is_quarantined_and_the_next_one_delivered(
    database: Database, tmp_path: Path, hook: Hook
) -> None:
    await company(database)
    async with notifying(database, tmp_path, to_hook(hook)) as line:
        place = await line.send_raw(b"{", topic=LIFECYCLE_NOTICES)
        half = message(notice())
        other = await line.send_raw(b"{}", half.headers, topic=LIFECYCLE_NOTICES)
        await line.send(half)
        await settled(database, "delivered")
        assert (await line.quarantined(place)).code == "missing_attribute"
        assert (await line.quarantined(other)).code == "invalid"


async def test_a_delivery_that_a_process_left_behind_is_taken_up_again(
    database: Database, tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had claimed the notice and died before anybody knew how it ended."""
    monkeypatch.setattr(notify_module, "LEASE", timedelta(seconds=0.3))
    await company(database)
    hung = asyncio.Event()

    async def hangs(*_: object) -> None:
        await hung.wait()

    with monkeypatch.context() as broken:
        broken.setattr("orchestrator.adapters.webhook.WebhookReceiver.deliver", hangs)
        async with notifying(database, tmp_path, to_hook(hook)) as line:
            await line.send(message(notice()))
            await eventually(lambda: _attempted(database))
    async with notifying(database, tmp_path, to_hook(hook)):
        (one,) = await settled(database, "delivered")
    assert (one.attempts, len(hook.received)) == (2, 1)


async def _attempted(database: Database) -> bool:
    return any(one.attempts for one in await SqlNoticeStore(database).listed(statuses=("waiting",), limit=9))


async def test_logs_name_neither_people_nor_addresses(
    database: Database, tmp_path: Path, hook: Hook, mailbox: Mailbox
) -> None:
    await company(database)
    mailbox.refusals = {"boss@example.com": "550 boss@example.com unknown"}
    with structlog.testing.capture_logs() as lines:
        async with notifying(database, tmp_path, {**to_hook(hook), **by_mail(mailbox)}) as line:
            await line.send(message(notice()))
            await settled(database, "delivered", count=2)
            await settled(database, "parked")
    text = str(lines)
    assert "notice_parked" in text
    assert not [word for word in ("Ada", "King", "boss", "friend", "example.com", SECRET) if word in text]


@pytest.mark.parametrize(("value", "words"), [("", "HOOK_SECRET is not set"), ("whsec_c2hvcnQ=", "24 to 64 bytes")])
async def test_a_secret_that_cannot_sign_is_said_at_start(
    database: Database, tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    monkeypatch.setenv("HOOK_SECRET", value)
    with pytest.raises(ConfigError, match=words):
        async with notifying(database, tmp_path, to_hook(hook)):
            pass


@pytest.mark.usefixtures("database_url")
def test_the_receiver_of_these_tests_agrees_with_the_published_vector() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"test": 2432232314}'
    assert verified(SECRET, headers, body, now=1614265330)
    assert not verified(SECRET, headers, body + b" ", now=1614265330)
    assert not verified(SECRET, headers, body, now=1614265330 + 301)
