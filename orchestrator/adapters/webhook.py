"""Notices over HTTP, signed as Standard Webhooks says (https://www.standardwebhooks.com).

They go to the one address that the configuration names, over verified TLS. A redirect is not followed and no proxy is
taken from the environment: nobody but the configuration says where a notice goes. What the receiver answers beside its
status is not read.
"""

from collections.abc import Mapping
from datetime import datetime

import httpx
import orjson
from standardwebhooks import Webhook

from orchestrator.domain.notices import WEBHOOK
from orchestrator.domain.outcome import retry_after
from orchestrator.errors import NotDelivered, Undeliverable
from orchestrator.ports import Clock
from orchestrator.ports.noticing import Contact, Delivery
from schemas.envelope import timestamp

_TRY_AGAIN = (408, 425, 429)


class WebhookReceiver:
    """`ports.noticing.NoticeReceiver`."""

    channel = WEBHOOK

    def __init__(self, url: str, secret: str, wall: Clock, *, timeout: float) -> None:
        self._url = url
        self._host = httpx.URL(url).host
        self._signer = Webhook(secret)
        self._wall = wall
        self._timeout = timeout
        self._client: httpx.AsyncClient | None = None

    async def deliver(self, delivery: Delivery, people: Mapping[str, Contact]) -> None:
        """Post one notice. It names people by their ids only."""
        body, now = payload(delivery), self._wall.now()
        headers = {
            "content-type": "application/json",
            "user-agent": "jml-orchestrator",
            **signature(self._signer, delivery.key, now, body),
        }
        try:
            async with self._started().stream("POST", self._url, content=body, headers=headers) as answer:
                self._judge(answer, now)
        except httpx.TimeoutException as error:
            raise NotDelivered("timeout", f"{self._host} did not answer in {self._timeout:g} s") from error
        except httpx.HTTPError as error:
            raise NotDelivered("unreachable", f"{self._host} cannot be reached ({type(error).__name__})") from error

    def _judge(self, answer: httpx.Response, now: datetime) -> None:
        status = answer.status_code
        if 200 <= status < 300:
            return
        if status >= 500 or status in _TRY_AGAIN:
            code = "rate_limited" if status == 429 else "unavailable"
            raise NotDelivered(code, f"{self._host} answered {status}", retry_after(answer.headers, now))
        if 300 <= status < 400:
            raise Undeliverable("redirected", f"{self._host} redirects ({status}): correct notices.webhook.url")
        raise Undeliverable("refused", f"{self._host} refuses the notice ({status})")

    def _started(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._timeout, follow_redirects=False, trust_env=False)
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def payload(delivery: Delivery) -> bytes:
    """The body, the same bytes at every attempt: type, timestamp and data, as the specification recommends."""
    return orjson.dumps(
        {
            "type": f"jml.notice.{delivery.notice.kind}",
            "timestamp": timestamp(delivery.issued_at),
            "data": delivery.notice.model_dump(mode="json"),
        }
    )


def signature(signer: Webhook, key: str, now: datetime, body: bytes) -> dict[str, str]:
    """The three headers of the specification; the time is that of the attempt."""
    return {
        "webhook-id": key,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signer.sign(key, now, body.decode()),
    }
