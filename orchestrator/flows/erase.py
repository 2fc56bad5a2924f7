"""Erasure (GDPR Art. 17): the data goes, and the key of what the audit log says; the log itself stays as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.domain.erasure import refusals
from orchestrator.domain.lifecycle import standing
from orchestrator.domain.sealing import Subject
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.ports import ErasureCase, ErasureStore
from schemas.audit import AuditKind


@dataclass(frozen=True, slots=True)
class Erased:
    """What was done. `subject` is all that is left to find the entries by, `rows` how many rows went, by table."""

    subject: str
    accounts_left: tuple[str, ...]
    rows: Mapping[str, int]


class EraseFlow:
    """Erases one person at a time, in one transaction that either does all of it or nothing."""

    def __init__(
        self, store: ErasureStore, writer: AuditWriter, *, retention: timedelta | None, default_zone: str
    ) -> None:
        self._store = store
        self._writer = writer
        self._retention = retention
        self._zone = default_zone

    async def __call__(
        self, person_id: str, *, operator: str, reason: str, leave_accounts: bool, now: datetime
    ) -> Erased | None:
        """Erase the person; None when nothing is kept under this id, so that a second call is harmless.

        Raises UserError with every reason against it, StoreUnavailable.
        """
        async with self._store.transaction() as transaction:
            case = await transaction.load(person_id)
            if case is None:
                return None
            self._check(case, person_id, leave_accounts, now)
            left = tuple(one.account.app for one in case.accounts if one.progress.remote_id is not None)
            entry = Entry(
                AuditKind.SUBJECT_ERASED,
                now,
                f"operator:{operator}",
                Subject(case.subject.id, person_id),
                details={"reason": reason, "accounts_left": left},
            )
            rows = await transaction.erase(case, self._writer.stamp([entry]), now=now)
        self._writer.saved(1)
        return Erased(case.subject.id, left, rows)

    async def allowed(self, person_id: str, *, leave_accounts: bool, now: datetime) -> bool:
        """Whether there is anything to erase, with nothing done: to be known before anybody is asked.

        Raises UserError with every reason against it, StoreUnavailable.
        """
        async with self._store.transaction() as transaction:
            case = await transaction.load(person_id)
        if case is None:
            return False
        self._check(case, person_id, leave_accounts, now)
        return True

    def _check(self, case: ErasureCase, person_id: str, leave_accounts: bool, now: datetime) -> None:
        found = standing(case.person, self._zone, now)
        accounts = [(one.account, one.progress) for one in case.accounts]
        against = refusals(found, accounts, now, retention=self._retention, leave_accounts=leave_accounts)
        if case.unpublished:
            waiting = counted(
                case.unpublished, "message about the person is on its way", "messages about the person are on their way"
            )
            against.append(f"{waiting}: try again in a minute")
        if against:
            raise UserError("\n".join(f"{person_id} cannot be erased: {one}" for one in against))
