"""Mail over TLS with a login, against a real server: what goes through, and what a wrong certificate stops."""

import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword

from orchestrator.adapters.letters import load_letters
from orchestrator.adapters.smtp import SmtpReceiver
from orchestrator.domain.notices import notice_key
from orchestrator.errors import NotDelivered, Undeliverable
from orchestrator.ports.noticing import Delivery
from schemas.notices import Notice
from tests.integration.receivers import Mailbox, mail_server

TOLD = Notice(
    id="n", kind="contract_ends", person_id="4711", due=datetime(2026, 3, 9, tzinfo=UTC), days_before=7, event_id="hr#1"
)
DELIVERY = Delivery(notice_key(TOLD), "email:boss@example.com", TOLD, TOLD.due, 1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that nobody but these tests trusts, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-days", "2", "-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run([*command, *files, *subject], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl to make a certificate")
    return cert, key


def receiver(mailbox: Mailbox, ca_file: Path | None, *, host: str = "localhost", login: str = "right") -> SmtpReceiver:
    return SmtpReceiver(
        host,
        mailbox.port,
        load_letters(None, "jml@example.com", "UTC"),
        security="starttls",
        ca_file=ca_file,
        user="jml",
        password=login,
        sender="jml@example.com",
        timeout=10,
    )


@asynccontextmanager
async def private(certificate: tuple[Path, Path]) -> AsyncIterator[Mailbox]:
    """A server that takes nothing before STARTTLS and a login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=isinstance(data, LoginPassword) and data.password == b"right", handled=False)

    authenticator: Callable[..., AuthResult] = login
    async with mail_server(
        tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticator
    ) as mailbox:
        yield mailbox


async def test_mail_goes_over_tls_with_a_login(certificate: tuple[Path, Path]) -> None:
    async with private(certificate) as mailbox:
        await receiver(mailbox, certificate[0]).deliver(DELIVERY, {})
        (letter,) = mailbox.to("boss@example.com")
    assert letter["Subject"] == "Access of 4711 ends in 7 days"


@pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("127.0.0.1", True)])
async def test_a_server_that_cannot_prove_itself_gets_nothing(
    certificate: tuple[Path, Path], host: str, trusted: bool
) -> None:
    async with private(certificate) as mailbox:
        with pytest.raises(NotDelivered) as raised:
            await receiver(mailbox, certificate[0] if trusted else None, host=host).deliver(DELIVERY, {})
        assert (raised.value.code, mailbox.received) == ("unreachable", [])


async def test_a_wrong_password_is_our_trouble_and_not_the_notices(certificate: tuple[Path, Path]) -> None:
    async with private(certificate) as mailbox:
        with pytest.raises(NotDelivered) as raised:
            await receiver(mailbox, certificate[0], login="wrong").deliver(DELIVERY, {})
    assert raised.value.code == "credentials"
    assert not isinstance(raised.value, Undeliverable)


async def test_no_server_no_delivery(certificate: tuple[Path, Path]) -> None:
    with pytest.raises(NotDelivered) as raised:
        await receiver(Mailbox(port=1), certificate[0]).deliver(DELIVERY, {})
    assert raised.value.code == "unreachable"
