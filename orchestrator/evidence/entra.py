"""The log in the shape of Microsoft Entra's provisioning log, for tools that read that one already.

Source: Microsoft Graph v1.0, resource type provisioningObjectSummary and the example of `GET /auditLogs/provisioning`;
enumerations: provisioningAction, provisioningStepType, provisioningResult, provisioningStatusErrorCategory.
What Entra knows and this project has no equivalent of (tenantId) is left out.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson

from orchestrator.evidence.account_changes import AccountChange, AccountChanges, Action
from orchestrator.evidence.entries import Keyring, Recorded
from schemas.envelope import timestamp

_ACTIONS: dict[Action, str] = {
    "create": "create",
    "enable": "update",  # Entra has no word of its own for it: `active` among the modified properties says so
    "update": "update",
    "disable": "disable",
    "delete": "delete",
    "link": "other",
    "unlink": "other",
    "none": "other",
}
_RESULTS = {"success": "success", "failure": "failure", "held": "skipped", "rejected": "skipped"}


class EntraSummaries:
    """Takes the entries of a log from its beginning, in order. `values` says that personal values may be shown."""

    def __init__(self, keys: Keyring, *, values: bool = False) -> None:
        self._keys = keys
        self._values = values
        self._changes = AccountChanges()

    def take(self, one: Recorded, *, wanted: bool = True) -> dict[str, Any] | None:
        """The provisioningObjectSummary of an entry, if it tells of an account."""
        change = self._changes.take(one)
        if change is None or not wanted:
            return None
        if change.action == "none" and not (change.groups_added or change.groups_removed):
            return None
        return self._summary(change)

    def _summary(self, change: AccountChange) -> dict[str, Any]:
        one = change.one
        entry, app = one.entry, one.app or ""
        opened = self._keys.open(entry) if self._values else {}
        person = (self._keys.person_of(one.subject or "") or "") if self._values else ""
        account = opened.get("account")
        uid = str(entry.get("id", one.position))
        started = change.started.at if change.started is not None else one.at
        result = _RESULTS[change.outcome]
        return {
            "id": str(uuid5(NAMESPACE_URL, f"jml/audit/{uid}")),
            "activityDateTime": timestamp(one.at),
            "jobId": app,
            "cycleId": entry.get("correlation_id") or "",
            "changeId": uid,
            "provisioningAction": _ACTIONS[change.action],
            "durationInMilliseconds": max(0, round((one.at - started).total_seconds() * 1000)),
            "initiatedBy": _initiator(entry.get("actor") or ""),
            "servicePrincipal": [{"id": app, "displayName": app}],
            "sourceSystem": {"id": "jml-orchestrator", "displayName": "jml-orchestrator", "details": {}},
            "targetSystem": {"id": app, "displayName": app, "details": {"ApplicationId": app}},
            "sourceIdentity": {
                "id": one.subject or "",
                "displayName": person,
                "identityType": "User",
                "details": {"EventId": entry.get("event_id") or "", "Policy": entry.get("policy") or ""},
            },
            "targetIdentity": {
                "id": str(account) if isinstance(account, str | int) else "",
                "displayName": "",
                "identityType": "User",
                "details": {"Revision": str(one.revision)},
            },
            "provisioningStatusInfo": {"status": result, "errorInformation": _error(change)},
            "provisioningSteps": _steps(change, result),
            "modifiedProperties": _modified(change, opened),
        }


def _initiator(actor: str) -> dict[str, str]:
    kind = "user" if actor.startswith("operator:") else "system"
    return {"id": actor, "displayName": actor.partition(":")[2] or actor, "initiatorType": kind}


def _error(change: AccountChange) -> dict[str, Any] | None:
    if change.outcome == "success":
        return None
    code = change.one.text("code") or change.outcome
    return {
        "errorCode": code,
        "reason": change.one.text("reason") or code,
        "additionalDetails": None,
        "errorCategory": "nonServiceFailure",
        "recommendedAction": None,
    }


def _steps(change: AccountChange, result: str) -> list[dict[str, Any]]:
    one = change.one
    calls = one.details.get("calls") or ()
    steps = [_step("EntryImport", "import", "success", f"the desired state became revision {one.revision}")]
    if any(call[0] == "GET" for call in calls):
        steps.append(_step("EntryMatch", "matching", "success", f"the account was looked up in {one.app}"))
    for call in calls:
        if call[0] == "GET":
            continue
        status = call[-1]
        answered = "success" if not isinstance(status, int) or status < 400 else "failure"
        steps.append(_step("EntryExport", "export", answered, " ".join(str(part) for part in call)))
    if result != "success":
        steps.append(_step("EntryExport", "export", result, one.text("code") or change.outcome))
    return steps


def _step(name: str, kind: str, status: str, description: str) -> dict[str, Any]:
    return {"name": name, "provisioningStepType": kind, "status": status, "description": description, "details": {}}


def _modified(change: AccountChange, opened: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Old and new values, as far as they may be shown. Parts have Entra's names: `name.givenName`, and a colon after
    the URN of a schema."""
    found = []
    if change.action in ("create", "enable", "disable") and change.outcome == "success":
        was = None if change.before in (None, "absent") else str(change.before == "active").lower()
        found.append(_property("active", was, str(change.after == "active").lower()))
    old, new = (dict(_parts(opened.get(side))) for side in ("before", "after"))
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name) and name != "active")
    found += [_property(name, _text(old.get(name)), _text(new.get(name))) for name in names]
    if change.groups_added or change.groups_removed:
        found.append(_property("groups", _list(change.groups_removed), _list(change.groups_added)))
    return found


def _list(names: tuple[str, ...]) -> str | None:
    """Many values of one property are separated by commas, as in Graph's example."""
    return ",".join(names) or None


def _property(name: str, old: str | None, new: str | None) -> dict[str, Any]:
    return {"displayName": name, "oldValue": old, "newValue": new}


def _parts(values: object, before: str = "") -> Iterator[tuple[str, object]]:
    if not isinstance(values, Mapping):
        return
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _parts(value, f"{before}{name}{':' if ':' in name else '.'}")
        else:
            yield f"{before}{name}", value


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
