"""The notifier: notices go from the topic into the store, a row for each receiver, and from there to the receivers.

In between is the store, so that a receiver who is down holds up neither the topic nor the other receivers, and so that
a notice that comes twice is delivered once. It may still be delivered twice, when a process dies between the answer and
its record: receivers know it by its id.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError

from orchestrator.domain.notices import Receivers, notice_key, receivers, recipient
from orchestrator.domain.retry import Backoff
from orchestrator.errors import NotDelivered, StoreUnavailable, Undeliverable
from orchestrator.flows.resolve import Record
from orchestrator.metrics import NOTICES
from orchestrator.ports import Clock, Quarantined
from orchestrator.ports.noticing import Contact, Delivery, Issued, NoticeReceiver, NoticeStore, Settled
from schemas.envelope import Envelope, EnvelopeError, read_envelope
from schemas.notices import Notice

log = structlog.get_logger()

LEASE = timedelta(minutes=5)
"""How long a delivery under way belongs to one process; longer than the longest attempt."""
BATCH = 20
"""Deliveries at once over one channel."""
MAX_WAIT = timedelta(hours=24)
_BACKOFF = Backoff(base=0.2, most=10)


class NotifyFlow:
    """Call it with batches of records; when it returns, their deliveries are committed."""

    def __init__(self, store: NoticeStore, configured: Receivers, wall: Clock) -> None:
        self._store = store
        self._configured = configured
        self._wall = wall
        self._chance = random.Random()

    async def __call__(self, records: Sequence[Record]) -> None:
        """Take the notices in. While the store is down it waits and tries again; it acknowledges nothing."""
        now = self._wall.now()
        issued: list[Issued] = []
        quarantined: list[Quarantined] = []
        for record in records:
            try:
                envelope, notice = _read(record)
            except EnvelopeError as error:
                quarantined.append(_quarantined(record, error, now))
            else:
                issued.append(Issued(notice_key(notice), notice, envelope.time, receivers(notice, self._configured)))
        attempt = 0
        while True:
            try:
                return await self._store.accept(issued, quarantined, now=now)
            except StoreUnavailable as error:
                attempt += 1
                log.warning("notifier_waits_for_store", reason=error.code, attempt=attempt, records=len(records))
                await asyncio.sleep(_BACKOFF.delay(attempt, self._chance))


def _read(record: Record) -> tuple[Envelope, Notice]:
    envelope = read_envelope(record.value, record.headers)
    if envelope.type != Notice.TYPE:
        raise EnvelopeError("unknown_type", f"the type {envelope.type[:100]!r} is no notice")
    try:
        return envelope, Notice.model_validate_json(envelope.data)
    except ValidationError as error:
        places = {".".join(map(str, one["loc"])) or "data" for one in error.errors(include_input=False)}
        raise EnvelopeError("invalid", f"the notice breaks its schema: {', '.join(sorted(places))}") from None


def _quarantined(record: Record, error: EnvelopeError, now: datetime) -> Quarantined:
    place = f"{record.topic}/{record.partition}/{record.offset}"
    log.warning("notice_quarantined", code=error.code, record=place)
    return Quarantined(
        record.topic, record.partition, record.offset, error.code, str(error), record.key, record.value, None, now
    )


class DeliveryFlow:
    """Delivers over one channel what is due. Any number of processes may."""

    def __init__(
        self,
        store: NoticeStore,
        receiver: NoticeReceiver,
        clock: Clock,
        wall: Clock,
        *,
        backoff: Backoff,
        attempts: int | None,
    ) -> None:
        self._store = store
        self._receiver = receiver
        self._clock = clock
        self._wall = wall
        self._backoff = backoff
        self._attempts = attempts
        self._chance = random.Random()

    async def sweep(self) -> int:
        """Returns how many attempts were made. Raises StoreUnavailable; what was under way then comes again."""
        made = 0
        while True:
            now = self._wall.now()
            claimed = await self._store.claim(self._receiver.channel, now=now, until=now + LEASE, limit=BATCH)
            if not claimed:
                return made
            made += len(claimed)
            outdated = await self._store.outdated(claimed)
            people = await self._store.contacts(_people(claimed), now=self._clock.now())
            settled = await asyncio.gather(*(self._settle(one, outdated, people) for one in claimed))
            for one in settled:
                NOTICES.labels(self._receiver.channel, one.status).inc()
            await self._store.settle(settled)

    async def _settle(self, delivery: Delivery, outdated: set[str], people: Mapping[str, Contact]) -> Settled:
        if delivery.key in outdated:
            return Settled(delivery, "outdated", self._wall.now())
        try:
            await self._receiver.deliver(delivery, people)
        except NotDelivered as error:
            return self._failed(delivery, error)
        return Settled(delivery, "delivered", self._wall.now())

    def _failed(self, delivery: Delivery, error: NotDelivered) -> Settled:
        """A receiver that is down gets its notices later. What is given up is parked, where a person sees it."""
        now, channel = self._wall.now(), self._receiver.channel
        if isinstance(error, Undeliverable) or (self._attempts is not None and delivery.attempt >= self._attempts):
            log.error("notice_parked", channel=channel, code=error.code, attempt=delivery.attempt, reason=str(error))
            return Settled(delivery, "parked", now, None, error.code, str(error))
        log.warning("notice_retried", channel=channel, code=error.code, attempt=delivery.attempt)
        not_before = error.not_before if error.not_before and error.not_before <= now + MAX_WAIT else None
        again = self._backoff.next_attempt(delivery.attempt, now, self._chance, not_before)
        return Settled(delivery, "waiting", now, again, error.code, str(error))


def _people(deliveries: Sequence[Delivery]) -> list[str]:
    """Whom the notices are about, and those who get them."""
    ids = {one.notice.person_id for one in deliveries}
    return sorted(ids | {to for one in deliveries if (to := recipient(one.receiver, one.notice)[0]) is not None})
