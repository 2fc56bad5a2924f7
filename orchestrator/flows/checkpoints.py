"""Checkpoints of the audit log: signed when they are due, then published, then shown to the witnesses.

A broker or a witness that is down never holds up the log: each is told the newest checkpoint when it is back.
"""

import asyncio
import random
from collections.abc import Sequence

import structlog

from orchestrator.domain.retry import Backoff
from orchestrator.domain.signed_note import parse_note
from orchestrator.domain.tlog import parse_checkpoint
from orchestrator.errors import AuditLogTaken, BrokerUnavailable, WitnessRefused, WitnessUnavailable
from orchestrator.metrics import AUDIT_WITNESS_BEHIND
from orchestrator.ports import CheckpointedLog, Publisher, Witness
from schemas.envelope import Message
from schemas.topics import AUDIT_CHECKPOINTS

log = structlog.get_logger()

LOOK_SECONDS = 0.5
_BACKOFF = Backoff(base=1, most=60)
_HEADERS = (("content-type", b"text/plain; charset=utf-8"),)


class CheckpointFlow:
    """Run `run` beside the auditor; `finish` once nothing is appended any more."""

    def __init__(self, audit_log: CheckpointedLog, publisher: Publisher, witnesses: Sequence[Witness]) -> None:
        self._log = audit_log
        self._publisher = publisher
        self._told = [_Told(witness) for witness in witnesses]
        self._unpublished: bytes | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for told in self._told:
                tasks.create_task(told.run(), name=f"witness {told.witness.name}")
            while True:
                await self._look()
                await asyncio.sleep(LOOK_SECONDS)

    async def finish(self) -> None:
        """Sign and publish what is left."""
        await self._look(now=True)

    async def _look(self, *, now: bool = False) -> None:
        try:
            note = await self._log.checkpoint(now=now)
        except (AuditLogTaken, OSError) as error:
            log.error("checkpoint_waits", reason=type(error).__name__)
            return
        if note is not None:
            self._unpublished = note
            for told in self._told:
                told.tell(note)
        if self._unpublished is not None:
            try:
                await self._publisher.publish([Message(AUDIT_CHECKPOINTS, b"", self._unpublished, _HEADERS)])
            except BrokerUnavailable as error:
                log.warning("checkpoint_not_published", reason=error.code)
                return
            self._unpublished = None


class _Told:
    """One witness and the newest checkpoint that it has not signed."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self._note: bytes | None = None
        self._news = asyncio.Event()
        self._signed = 0
        self._chance = random.Random()

    def tell(self, note: bytes) -> None:
        """There is a newer one."""
        self._note = note
        size = parse_checkpoint(parse_note(note).text).size
        AUDIT_WITNESS_BEHIND.labels(self.witness.name).set(size - self._signed)
        self._news.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        attempt = 0
        while True:
            await self._news.wait()
            self._news.clear()
            note = self._note
            assert note is not None
            try:
                await self.witness.cosign(note)
            except (WitnessUnavailable, WitnessRefused) as error:
                attempt += 1
                level = log.error if isinstance(error, WitnessRefused) else log.warning
                level("witness_does_not_sign", witness=self.witness.name, reason=str(error), attempt=attempt)
                await asyncio.sleep(_BACKOFF.delay(attempt, self._chance))
                self._news.set()
                continue
            attempt = 0
            self._signed = parse_checkpoint(parse_note(note).text).size
            if note is self._note:
                AUDIT_WITNESS_BEHIND.labels(self.witness.name).set(0)
