"""Notices over SMTP (RFC 5321), one message for each recipient, over verified TLS wherever a network lies between.

Servers quote addresses in what they answer, so errors name the code of the reply and never its text.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path

import aiosmtplib

from orchestrator.adapters.letters import Letters
from orchestrator.domain.notices import EMAIL, is_address, recipient
from orchestrator.errors import NotDelivered, Undeliverable
from orchestrator.ports.noticing import Contact, Delivery

_OUR_LOGIN = (530, 534, 535, 538)
"""Replies about our credentials (RFC 4954, section 6): no notice is to blame."""


class SmtpReceiver:
    """`ports.noticing.NoticeReceiver`."""

    channel = EMAIL

    def __init__(
        self,
        host: str,
        port: int,
        letters: Letters,
        *,
        security: str,
        ca_file: Path | None,
        user: str | None,
        password: str | None,
        sender: str,
        timeout: float,
    ) -> None:
        self._host = host
        self._port = port
        self._letters = letters
        self._security = security
        self._ca_file = ca_file
        self._user = user
        self._password = password
        self._sender = sender
        self._timeout = timeout
        self._tls: ssl.SSLContext | None = None

    async def deliver(self, delivery: Delivery, people: Mapping[str, Contact]) -> None:
        """Send one message to one recipient, whose address is looked up now."""
        person_id, address = recipient(delivery.receiver, delivery.notice)
        if person_id is not None:
            contact = people.get(person_id)
            address = contact.email if contact else None
        if address is None:
            raise Undeliverable("no_address", "the recipient has no e-mail address in the store")
        if not is_address(address):
            raise Undeliverable("bad_address", "the recipient's e-mail address is none")
        message = self._letters.write(delivery, people.get(delivery.notice.person_id), address)
        try:
            await aiosmtplib.send(
                message,
                sender=self._sender,
                recipients=[address],
                hostname=self._host,
                port=self._port,
                username=self._user,
                password=self._password,
                use_tls=self._security == "tls",
                start_tls=self._security == "starttls",
                tls_context=None if self._security == "none" else self._context(),
                timeout=self._timeout,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise self._refused(error.recipients[0].code) from None
        except aiosmtplib.SMTPResponseException as error:
            raise self._refused(error.code) from None
        except aiosmtplib.SMTPTimeoutError:
            raise NotDelivered("timeout", f"{self._host} did not answer in {self._timeout:g} s") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotDelivered("unreachable", f"{self._host}: {type(error).__name__}") from None

    def _refused(self, code: int) -> NotDelivered:
        if code in _OUR_LOGIN:
            return NotDelivered("credentials", f"{self._host} refuses our credentials ({code})")
        if code >= 500:
            return Undeliverable("refused", f"{self._host} refuses the message ({code})")
        return NotDelivered("unavailable", f"{self._host} answered {code}")

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._ca_file)
        return self._tls

    async def close(self) -> None:
        """Nothing stays open between messages."""
