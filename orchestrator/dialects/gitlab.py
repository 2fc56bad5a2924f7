"""GitLab groups (and self-managed instances).

The id of a user is the externalId. PATCH changes `id` and `active` and is answered with 204; nothing else can change
after the create. Only `userName`, the e-mail and `name.formatted` are kept. `active: false` takes the membership."""

from collections.abc import Mapping

from orchestrator.dialects.base import Dialect, Resource, only
from orchestrator.domain.discovery import Capabilities

_KEPT = ("userName", "externalId", "name", "emails")


def _flat(resource: Resource) -> Resource:
    """What GitLab keeps, the name in one piece."""
    kept = only(resource, _KEPT)
    name = kept.get("name")
    if not isinstance(name, Mapping) or name.keys() == {"formatted"}:
        return kept
    parts = [str(name[part]) for part in ("givenName", "familyName") if name.get(part)]
    return {**kept, "name": {"formatted": str(name.get("formatted") or " ".join(parts))}}


GITLAB = Dialect(
    name="gitlab",
    title="GitLab",
    sources=("https://docs.gitlab.com/development/internal_api/#group-scim-api",),
    capabilities=Capabilities(patch=True, put=False, bulk=False, sort=False, etag=False),
    lookup=("externalId", "userName"),
    patchable=frozenset({"active"}),
    shape=_flat,
    creates_groups=False,
    note="names and addresses follow the person's own GitLab profile after the first day",
)
