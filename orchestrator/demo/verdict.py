"""Reads every application back over HTTP and holds it against what the CSV files alone say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from orchestrator.demo.applications import Application
from orchestrator.demo.expectation import Expected

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PAGE = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one application holds, and every difference from what it should hold."""

    app: str
    accounts: int
    active: int
    expected_active: int
    groups: int
    memberships: int
    differences: tuple[str, ...]


async def read_all(base_url: str, token: str, kind: str) -> list[dict[str, Any]]:
    """Everything of one resource type, page by page, as the server answers a client that is not ours."""
    found: list[dict[str, Any]] = []
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
        while True:
            query = {"startIndex": str(len(found) + 1), "count": str(PAGE)}
            answer = (await client.get(f"{base_url}/{kind}", params=query)).raise_for_status().json()
            page = answer.get("Resources") or []
            found.extend(page)
            if not page or len(found) >= int(answer["totalResults"]):
                return found


def judge(
    application: Application,
    users: list[dict[str, Any]],
    groups: list[dict[str, Any]],
    expected: Mapping[str, Expected],
    group_names: Mapping[str, frozenset[str]],
) -> Verdict:
    """Compare. `group_names` has the groups that each worker should be in."""
    differences: list[str] = []
    by_worker: dict[str, dict[str, Any]] = {}
    for user in users:
        worker = str(user.get("externalId"))
        if worker in by_worker:
            differences.append(f"{worker}: more than one account")
        by_worker[worker] = user
    member_of: dict[str, set[str]] = {}
    for group in groups:
        for member in group.get("members") or []:
            member_of.setdefault(str(member["value"]), set()).add(group["displayName"])
    for worker, person in expected.items():
        account = by_worker.pop(worker, {})
        wanted = application.has_access(person)
        if bool(account.get("active")) != wanted:
            differences.append(f"{worker}: should be {'active' if wanted else 'inactive'}")
        if account:
            differences.extend(_details(worker, account, person, wanted))
            in_groups = member_of.get(str(account["id"]), set())
            should = group_names[worker] if wanted else frozenset()
            if in_groups != should:
                differences.append(f"{worker}: in groups {sorted(in_groups)}, should be in {sorted(should)}")
    differences.extend(f"{worker}: nobody knows this account" for worker in by_worker)
    return Verdict(
        app=application.name,
        accounts=len(users),
        active=sum(bool(user.get("active")) for user in users),
        expected_active=sum(application.has_access(person) for person in expected.values()),
        groups=len(groups),
        memberships=sum(len(group.get("members") or []) for group in groups),
        differences=tuple(differences),
    )


def _details(worker: str, user: Mapping[str, Any], person: Expected, active: bool) -> list[str]:
    """Attributes are compared where the person is active: a leaver's account keeps those of the last day."""
    if not active:
        return []
    shown = {
        "department": (user.get(ENTERPRISE) or {}).get("department") or None,
        "title": user.get("title") or None,
        "given name": (user.get("name") or {}).get("givenName"),
        "family name": (user.get("name") or {}).get("familyName"),
    }
    wanted = {
        "department": person.department,
        "title": person.title,
        "given name": person.given_name,
        "family name": person.family_name,
    }
    return [
        f"{worker}: {name} is {shown[name]!r}, should be {wanted[name]!r}"
        for name in wanted
        if shown[name] != wanted[name]
    ]


def expected_groups(application: Application, person: Expected) -> frozenset[str]:
    """The groups of an active person, said once more in Python to check the CEL."""
    if application.name == "directory":
        return frozenset({f"dept {person.department}"} if person.department else ())
    if application.name == "engineering":
        seniors = {"seniors"} if (person.title or "").startswith("Senior") else set()
        return frozenset({f"team {person.department}", *seniors})
    return frozenset({f"grade {person.title}"} if person.title else ())
