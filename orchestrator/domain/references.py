"""References from one account to another: a manager is named by the id of the manager's account in that application
(RFC 7643, section 4.3).

A mapping gives the person's id as text, `"enterprise.manager" = "person.manager_id"`; the connector knows the account.
"""

from collections.abc import Mapping
from typing import Any

from orchestrator.domain.paths import ENTERPRISE

MANAGER = "manager"


def referred(resource: Mapping[str, Any]) -> str | None:
    """The person whose account the resource refers to; None when it refers to nobody."""
    enterprise = resource.get(ENTERPRISE)
    named = enterprise.get(MANAGER) if isinstance(enterprise, Mapping) else None
    return named if isinstance(named, str) and named else None


def linked(resource: Mapping[str, Any], remote_id: str | None) -> Mapping[str, Any]:
    """The resource with the account's id in place of the person; without the attribute while there is no account."""
    enterprise = {**resource[ENTERPRISE], MANAGER: {"value": remote_id}}
    if remote_id is None:
        del enterprise[MANAGER]
    others = {name: value for name, value in resource.items() if name != ENTERPRISE}
    return {**others, ENTERPRISE: enterprise} if enterprise else others
