"""The demo's connected applications: who gets an account where, on two independent SCIM implementations and our own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config import Config
from orchestrator.demo.expectation import Expected
from orchestrator.demo.servers.serve import Kind

TOKEN_ENV = "JML_DEMO_TOKEN"  # noqa: S105 - the name of a variable
ENGINEERING = ("Development", "Production", "Quality Management", "Research")

_NAME = {
    "userName": "person.user_name",
    "externalId": "person.id",
    "name.givenName": "person.given_name",
    "name.familyName": "person.family_name",
    "displayName": "person.display_name",
}
_WORK_EMAIL = '[{"value": person.email, "type": "work", "primary": true}]'


@dataclass(frozen=True, slots=True)
class Application:
    """One connected application: the server that plays it, and its policy as in `jml.toml`."""

    name: str
    server: Kind
    about: str
    policy: Mapping[str, Any]

    def has_access(self, person: Expected) -> bool:
        """Whether a person should be active here, said once more in Python to check the CEL."""
        if self.name == "engineering":
            return person.active and person.department in ENGINEERING
        if self.name == "payroll":
            return person.active and person.kind == "employee"
        return person.active


APPLICATIONS = (
    Application(
        "directory",
        "scim2",
        "everyone, in a group of the department (scim2-server)",
        {
            "groups": 'person.department == "" ? [] : ["dept " + person.department]',
            "attributes": {
                **_NAME,
                "title": "person.title",
                "emails": _WORK_EMAIL,
                "enterprise.employeeNumber": "person.id",
                "enterprise.department": "person.department",
            },
        },
    ),
    Application(
        "engineering",
        "plain",
        "four departments, in groups by department and rank (our own server)",
        {
            "scope": f"person.department in {list(ENGINEERING)!r}",
            "groups": '["team " + person.department] + (person.title.startsWith("Senior") ? ["seniors"] : [])',
            "attributes": {
                **_NAME,
                "nickName": "person.given_name",
                "title": "person.title",
                "emails": _WORK_EMAIL,
                "enterprise.department": "person.department",
                "enterprise.organization": '"Engineering"',
            },
        },
    ),
    Application(
        "payroll",
        "django",
        "employees only, in a group of the title (django-scim2)",
        {
            "scope": 'person.kind == "employee"',
            "groups": 'person.title == "" ? [] : ["grade " + person.title]',
            "attributes": {
                **_NAME,
                "title": "person.title",
                "emails": _WORK_EMAIL,
                "enterprise.department": "person.department",
            },
        },
    ),
)

BY_NAME = {application.name: application for application in APPLICATIONS}


def demo_config(state: Path, base_urls: Mapping[str, str]) -> Config:
    """The configuration of the demo, everything it keeps under `state`."""
    return Config.model_validate(
        {
            "kafka": {"bootstrap": "embedded"},
            "store": {"url": f"sqlite+aiosqlite:///{state / 'jml.db'}"},
            "audit": {"dir": state / "audit"},
            "breaker": {"enabled": False},  # decades pass in seconds, and years of leavers come in one batch
            "apps": {
                application.name: {
                    "base_url": base_urls[application.name],
                    "allow_private": True,
                    "auth": {"token_env": TOKEN_ENV},
                    "concurrency": 8,
                    **application.policy,
                }
                for application in APPLICATIONS
            },
        }
    )
