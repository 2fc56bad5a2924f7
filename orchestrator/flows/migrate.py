"""Accounts that move from one connected application to another, with the values by which people know them.

The old application is only read. What moves is an event about its person, so that the resolver decides the new account
and its connector makes it: no second path writes there. Whoever runs it again goes on: what was carried is not carried
twice.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from orchestrator.domain.account import Account
from orchestrator.domain.carrying import NothingKeptError, event_id, identity_kept, kept_values
from orchestrator.domain.correlation import Candidate, Correlation
from orchestrator.domain.person import Person
from orchestrator.domain.policy import Policy
from orchestrator.domain.resolve import Cause, resolve
from orchestrator.flows.account_events import AccountEvents, Judged
from orchestrator.flows.recognizing import BY_ATTRIBUTES, recognized
from orchestrator.ports import PlanStore, ReconcileStore
from schemas.changes import IdentityKept
from schemas.envelope import Envelope

SOURCE = "migrate/"


class Moved(StrEnum):
    """What becomes of an account of the old application."""

    CARRIED = "carried"
    """Its person gets one in the new application, with its identity."""
    UNDER_WAY = "under_way"
    """It was carried before, and the connector of the new application is not done or waits for a person."""
    THERE = "there"
    """Its person has an account in the new application already, which stays as it is."""
    ORPHAN = "orphan"
    """Nobody is known to have it."""
    AMBIGUOUS = "ambiguous"
    """Nobody can say for certain whose it is."""
    REFUSED = "refused"
    """It cannot be carried over; the reason says why."""


class Migration(AccountEvents):
    """One reading of the old application."""

    def __init__(
        self,
        old: str,
        new: str,
        store: ReconcileStore,
        persons: PlanStore,
        policy: Policy,
        *,
        keep: Sequence[str],
        now: datetime,
        correlation: Correlation = BY_ATTRIBUTES,
    ) -> None:
        """`keep` are the paths of the attributes that keep their values, as the mapping of `new` names them,
        `correlation` the rules by which accounts of `old` are found."""
        super().__init__()
        self._correlation = correlation
        self._old = old
        self._new = new
        self._store = store
        self._persons = persons
        self._policy = policy
        self._keep = tuple(keep)
        self._now = now
        self._met: set[str] = set()

    async def judge(self, rows: Sequence[Mapping[str, Any]]) -> list[Judged]:
        """See `AccountEvents`."""
        owners = await self._owners(rows)
        ids = sorted({one for one in owners.values() if isinstance(one, str)})
        known = {person.id: (person, accounts) for person, accounts in await self._persons.named(ids)} if ids else {}
        linked = await self._store.remote_ids(self._new, ids) if ids else {}
        found = []
        for row in rows:
            owner = owners[str(row["id"])]
            if isinstance(owner, Judged):
                found.append(owner)
            elif owner in self._met or owner not in known:
                found.append(Judged(Moved.REFUSED, str(row["id"]), owner, "is one more account of the same person"))
            else:
                self._met.add(owner)
                found.append(self._fate(row, *known[owner], linked=owner in linked))
        return found

    async def _owners(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str | Judged]:
        """Whose each account is, or why nobody can say: who has it on record, or else who alone is surely its owner."""
        on_record = await self._store.by_remote_id(self._old, [str(row["id"]) for row in rows])
        owners: dict[str, str | Judged] = {one: row[0].person_id for one, row in on_record.items()}
        strangers = [row for row in rows if str(row["id"]) not in on_record]
        if not strangers:
            return owners
        found = (await recognized(self._old, strangers, self._persons, self._correlation)).candidates
        ranked = {str(row["id"]): maybe for row, maybe in zip(strangers, found, strict=True)}
        another = await self._store.remote_ids(
            self._old, sorted({one.person_id for all_ in ranked.values() for one in all_})
        )
        return owners | {remote_id: _owner(remote_id, maybe, another) for remote_id, maybe in ranked.items()}

    def _fate(self, row: Mapping[str, Any], person: Person, accounts: Mapping[str, Account], *, linked: bool) -> Judged:
        remote_id, present, kept = str(row["id"]), accounts.get(self._new), person.identities.get(self._new)
        if present is not None and present.state != "absent":
            waits = kept is not None and kept.value is not None and not linked
            return Judged(Moved.UNDER_WAY if waits else Moved.THERE, remote_id, person.id)
        try:
            reason = f"carried over from {self._old}"
            change = identity_kept(person, self._new, kept_values(row, self._keep), reason)
        except NothingKeptError as error:
            return Judged(Moved.REFUSED, remote_id, person.id, str(error))
        event = self._event(person, change)
        cause = Cause(event.key, self._now, event.id)
        told = resolve(person, accounts, (), change, cause, self._policy, self._now)
        if not any(one.account.app == self._new and one.account.state != "absent" for one in told.raised):
            failed = [one for one in told.problems if one.startswith(f"apps.{self._new}.")]
            why = failed[0] if failed else f"the policy gives its person no account in {self._new}"
            return Judged(Moved.REFUSED, remote_id, person.id, why)
        return Judged(Moved.CARRIED, remote_id, person.id, event=event, change=change)

    def _event(self, person: Person, change: IdentityKept) -> Envelope:
        return Envelope(
            id=event_id(person, change),
            source=f"{SOURCE}{self._old}",
            type=IdentityKept.TYPE,
            time=self._now,
            subject=person.id,
            data=change.model_dump_json(exclude_unset=True).encode(),
        )


def _owner(remote_id: str, maybe: Sequence[Candidate], another: Mapping[str, str]) -> str | Judged:
    if not maybe:
        return Judged(Moved.ORPHAN, remote_id)
    if len(maybe) > 1:
        return Judged(Moved.AMBIGUOUS, remote_id, None, f"may be the account of {len(maybe)} persons")
    (only,) = maybe
    if only.person_id in another:
        return Judged(Moved.REFUSED, remote_id, only.person_id, "is one more account of the same person")
    if only.by == "email":
        return Judged(Moved.AMBIGUOUS, remote_id, only.person_id, "only an e-mail address says whose it is")
    return only.person_id
