"""A person as expressions see one: the fields of `person` in CEL."""

from typing import Any

from orchestrator.domain.lifecycle import Standing

PERSON_FIELDS = (
    "given_name",
    "family_name",
    "display_name",
    "user_name",
    "email",
    "phone",
    "department",
    "title",
    "manager_id",
    "sponsor_id",
    "location",
    "cost_center",
    "country",
    "time_zone",
)
DATES = ("start_date", "end_date")
"""The first and the last day of the engagement that counts, as `YYYY-MM-DD`."""
ALL_FIELDS = frozenset({*PERSON_FIELDS, *DATES, "id", "kind", "status", "custom"})


def person_fields(person_id: str, standing: Standing) -> dict[str, Any]:
    """Every field is there, the unstated ones as empty text."""
    attributes = standing.attributes
    person: dict[str, Any] = {name: attributes.get(name) or "" for name in PERSON_FIELDS}
    person["id"] = person_id
    person["kind"] = standing.kind
    person["status"] = standing.status.value
    person["start_date"] = standing.start_date.isoformat() if standing.start_date else ""
    person["end_date"] = standing.end_date.isoformat() if standing.end_date else ""
    person["custom"] = {
        name.removeprefix("custom."): value for name, value in attributes.items() if name.startswith("custom.")
    }
    return person
