"""Which source may state which attribute: HR owns the end of a contract, the identity provider the e-mail address.

What a source states of an attribute that others own is left out, and named for the audit. Attributes that nobody owns
are stated by everybody, and the newest statement counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from schemas.changes import Change, ContractChanged, WorkerAttributes, WorkerLeft

CONTRACT_END = "contract_end"
LAST_DAY = "last_day"
FACTS = (CONTRACT_END, LAST_DAY)
"""What can be owned beside the attributes: the end of a contract as a change states it, and a leaver's last day.

Whoever may hire states the whole engagement, its end included."""


@dataclass(frozen=True)
class Owners:
    """`by_attribute`: patterns of the CloudEvents sources (`hr/*`) that may state an attribute (`custom.badge`)."""

    by_attribute: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def admit(self, change: Change, source: str) -> tuple[Change | None, tuple[str, ...]]:
        """The change without what the source does not own, None when nothing is left; and the names left out."""
        if not self.by_attribute:
            return change, ()
        foreign = _foreign(tuple(self.by_attribute.items()), source)
        if not foreign:
            return change, ()
        if isinstance(change, WorkerLeft):
            return (None, (LAST_DAY,)) if LAST_DAY in foreign else (change, ())
        if isinstance(change, ContractChanged):
            return _without_contract_end(change) if CONTRACT_END in foreign else (change, ())
        attributes = getattr(change, "attributes", None)
        if not isinstance(attributes, WorkerAttributes):
            return change, ()
        stated = attributes.stated()
        left_out = tuple(sorted(stated.keys() & foreign))
        if not left_out:
            return change, ()
        kept = {name: value for name, value in stated.items() if name not in foreign}
        return change.model_copy(update={"attributes": _attributes(kept)}), left_out


@lru_cache(maxsize=1024)
def _foreign(owners: tuple[tuple[str, tuple[str, ...]], ...], source: str) -> frozenset[str]:
    """The attributes that others own."""
    return frozenset(name for name, patterns in owners if not any(fnmatchcase(source, pattern) for pattern in patterns))


def _without_contract_end(change: ContractChanged) -> tuple[Change | None, tuple[str, ...]]:
    if CONTRACT_END not in change.model_fields_set:
        return change, ()
    if change.kind is None:
        return None, (CONTRACT_END,)
    return ContractChanged(**change.model_dump(exclude={CONTRACT_END}, exclude_unset=True)), (CONTRACT_END,)


def _attributes(stated: Mapping[str, Any]) -> WorkerAttributes:
    """The inverse of `WorkerAttributes.stated`."""
    fields = {name: value for name, value in stated.items() if not name.startswith("custom.")}
    custom = {name.removeprefix("custom."): value for name, value in stated.items() if name.startswith("custom.")}
    return WorkerAttributes(**fields, **({"custom": custom} if custom else {}))
