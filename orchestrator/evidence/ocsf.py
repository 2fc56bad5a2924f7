"""The log as events of the Open Cybersecurity Schema Framework 1.8.0, category Identity & Access Management.

Source: the schema's classes account_change (3001), entity_management (3004), user_access (3005) and group_management
(3006); tests validate every event by the published schema. `type_uid` is `class_uid * 100 + activity_id`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from orchestrator.evidence.account_changes import AccountChange, AccountChanges, Action
from orchestrator.evidence.entries import Keyring, Recorded

VERSION = "1.8.0"
_OTHER, _INFORMATIONAL, _MEDIUM, _HIGH = 99, 1, 3, 4
_STATUS = {"success": (1, "Success"), "failure": (2, "Failure"), "held": (_OTHER, "Held"), "rejected": (2, "Failure")}
_DETAILS = {"held": "held for an operator to decide", "rejected": "rejected by an operator"}
_USER = 1
"""user.type_id of a person."""
_MANAGED_USER = 2
"""managed_entity.type_id of a user."""


class _Class(NamedTuple):
    uid: int
    name: str


_ACCOUNT = _Class(3001, "Account Change")
_ENTITY = _Class(3004, "Entity Management")
_ACCESS = _Class(3005, "User Access Management")
_GROUP = _Class(3006, "Group Management")

_ACTIVITIES: dict[Action, tuple[_Class, int, str]] = {
    "create": (_ACCOUNT, 1, "Create"),
    "enable": (_ACCOUNT, 2, "Enable"),
    "disable": (_ACCOUNT, 5, "Disable"),
    "delete": (_ACCOUNT, 6, "Delete"),
    "link": (_ACCOUNT, _OTHER, "Link"),
    "unlink": (_ACCOUNT, _OTHER, "Unlink"),
    "update": (_ENTITY, 3, "Update"),
}
_STATED = {
    "jml.worker.entitlement_granted.v1": (_ACCESS, 1, "Assign Privileges"),
    "jml.worker.entitlement_revoked.v1": (_ACCESS, 2, "Revoke Privileges"),
}


class OcsfEvents:
    """Takes the entries of a log from its beginning, in order. `values` says that personal values may be shown."""

    def __init__(self, keys: Keyring, version: str, *, values: bool = False) -> None:
        self._keys = keys
        self._changes = AccountChanges()
        self._values = values
        self._product = {"name": "jml-orchestrator", "vendor_name": "jml-orchestrator", "version": version}

    def take(self, one: Recorded, *, wanted: bool = True) -> Iterator[dict[str, Any]]:
        """The events of one entry: none, one, or one more for each group."""
        change = self._changes.take(one)
        if not wanted:
            return
        if one.kind == "event_received" and (stated := _STATED.get(one.text("type"))):
            yield self._entitlement(one, *stated)
        if change is None:
            return
        number = 0
        if change.action != "none":
            yield self._account(change, number)
            number += 1
        if change.outcome != "success":
            return
        for groups, activity, name in (
            (change.groups_added, 3, "Add User"),
            (change.groups_removed, 4, "Remove User"),
        ):
            for group in groups:
                event = self._event(one, _GROUP, activity, name, number)
                event["group"] = {"name": group, "domain": one.app}
                event["user"] = self._user(one, change)
                _with_status(event, change)
                yield event
                number += 1

    def _account(self, change: AccountChange, number: int) -> dict[str, Any]:
        one = change.one
        event = self._event(one, *_ACTIVITIES[change.action], number)
        user = self._user(one, change)
        if event["class_uid"] == _ENTITY.uid:
            entity = {"name": f"account in {one.app}", "type": "User", "type_id": _MANAGED_USER, "user": user}
            event["entity"] = entity
            for name, side in (("entity", "before"), ("entity_result", "after")):
                if isinstance(values := self._opened(one).get(side), Mapping):
                    event[name] = {**entity, "data": values}
        else:
            event["user"] = user
        if change.started is not None:
            event["start_time"] = _milliseconds(change.started)
            event["end_time"] = event["time"]
        _with_status(event, change)
        return event

    def _entitlement(self, one: Recorded, class_: _Class, activity: int, name: str) -> dict[str, Any]:
        """A temporary entitlement is granted, or taken back: the decision. What came of it are its group's events."""
        event = self._event(one, class_, activity, name, 0)
        event["privileges"] = [one.text("group")]
        event["user"] = self._user(one, None)
        event["status_id"], event["status"] = _STATUS["success"]
        event["resources"] = [{"name": one.text("app"), "type": "application"}]
        return event

    def _event(self, one: Recorded, class_: _Class, activity: int, name: str, number: int) -> dict[str, Any]:
        entry = one.entry
        uid = str(entry.get("id", one.position))
        metadata: dict[str, Any] = {
            "version": VERSION,
            "product": self._product,
            "uid": uid if number == 0 else f"{uid}#{number}",
            "original_event_uid": uid,
            "event_code": one.kind,
            "log_name": "jml.audit.entries",
            "sequence": one.position,
            "original_time": entry["at"],
        }
        if correlation := entry.get("correlation_id"):
            metadata["correlation_uid"] = correlation
        event: dict[str, Any] = {
            "category_uid": 3,
            "category_name": "Identity & Access Management",
            "class_uid": class_.uid,
            "class_name": class_.name,
            "activity_id": activity,
            "activity_name": name,
            "type_uid": class_.uid * 100 + activity,
            "type_name": f"{class_.name}: {name if activity != _OTHER else 'Other'}",
            "severity_id": _INFORMATIONAL,
            "severity": "Informational",
            "time": _milliseconds(one),
            "metadata": metadata,
            "actor": {"app_name": "jml-orchestrator", "user": {"name": entry.get("actor") or "unknown"}},
        }
        event["unmapped"] = {name: entry[name] for name in ("app", "revision", "event_id", "policy") if entry.get(name)}
        return event

    def _user(self, one: Recorded, change: AccountChange | None) -> dict[str, Any]:
        user: dict[str, Any] = {"uid": one.subject or "unknown", "type_id": _USER}
        if one.app:
            user["domain"] = one.app
        if not self._values:
            return user
        if one.subject and (person := self._keys.person_of(one.subject)):
            user["uid_alt"] = person
        account = self._opened(one).get("account")
        if change is not None and isinstance(account, str | int):
            user["account"] = {"uid": str(account)}
        return user

    def _opened(self, one: Recorded) -> Mapping[str, Any]:
        return self._keys.open(one.entry) if self._values else {}


def _with_status(event: dict[str, Any], change: AccountChange) -> None:
    event["status_id"], event["status"] = _STATUS[change.outcome]
    if change.outcome == "success":
        return
    if code := change.one.text("code"):
        event["status_code"] = code
    if detail := _DETAILS.get(change.outcome):
        event["status_detail"] = detail
    takes_access_away = change.action in ("disable", "delete")
    event["severity_id"], event["severity"] = (_HIGH, "High") if takes_access_away else (_MEDIUM, "Medium")


def _milliseconds(one: Recorded) -> int:
    return round(one.at.timestamp() * 1000)
