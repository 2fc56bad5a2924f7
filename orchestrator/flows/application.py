"""One application's protocol: which calls bring a change about there, and what its answers say.

Built apart from sending, from the application's dialect and from what discovery found; nothing here waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, Protocol, cast
from urllib.parse import quote

from orchestrator.dialects.base import Dialect
from orchestrator.domain import scim1, scim2
from orchestrator.domain.discovery import RFC, Capabilities, Found
from orchestrator.domain.group_drift import is_group
from orchestrator.domain.scim_diff import is_active, project, quoted
from orchestrator.domain.scim_read import Page, read_page, read_resource
from orchestrator.errors import Rejected
from orchestrator.ports import ScimRequest, ScimResponse

MOST_ROWS = 500
"""More rows a page save no time and cost memory."""
_SET_BY_IT = frozenset({"id", "meta", "groups", "schemas", "password"})


class Codec(Protocol):
    """A version of the protocol; see `domain.scim2`."""

    CONTENT_TYPE: str
    ACCEPT: str
    CONFIG_PATH: str
    BULK_SCHEMA: str

    def create(self, resource: Mapping[str, Any], *, active: bool) -> dict[str, Any]: ...

    def change(
        self, held: Mapping[str, Any], wanted: Mapping[str, Any], *, active: bool | None, filters: bool
    ) -> dict[str, Any] | None: ...

    def replace(self, resource: Mapping[str, Any]) -> dict[str, Any]: ...

    def replace_group(self, resource: Mapping[str, Any]) -> dict[str, Any]: ...

    def create_group(self, name: str) -> dict[str, Any]: ...

    def members(self, add: Sequence[str], remove: Sequence[str], *, filters: bool) -> dict[str, Any]: ...

    def read(self, row: Mapping[str, Any]) -> Mapping[str, Any]: ...


_CODECS: dict[str, ModuleType] = {"2.0": scim2, "1.1": scim1}


def codec_of(dialect: Dialect) -> Codec:
    """The codec of the version that the dialect speaks."""
    return cast(Codec, _CODECS[dialect.version])


class Application:
    """How to speak to one application. `found` is what discovery found, and may arrive later."""

    def __init__(self, dialect: Dialect, overrides: Capabilities | None = None, *, creates_groups: bool = True) -> None:
        self.dialect = dialect
        self.creates_groups = creates_groups and dialect.creates_groups
        self.codec = codec_of(dialect)
        self.insists = False
        """On If-Match with every change, whatever it says of itself: it has answered 428."""
        self._overrides = overrides or Capabilities()
        self._set(Found())

    def _set(self, found: Found) -> None:
        self.found = found
        known = self._overrides.over(self.dialect.capabilities)
        self.capabilities = known.over(found.capabilities).over(RFC)

    def learn(self, found: Found) -> None:
        """Obey what discovery found, where neither operator nor dialect knows better."""
        self._set(found)

    # --- users ----------------------------------------------------------------------------------------------------

    def shaped(self, resource: Mapping[str, Any]) -> Mapping[str, Any]:
        """What of a mapped resource the application can hold."""
        dialect = self.dialect
        if dialect.ignored:
            resource = {name: value for name, value in resource.items() if name not in dialect.ignored}
        return dialect.shape(resource)

    def create(self, resource: Mapping[str, Any], *, active: bool = True) -> ScimRequest:
        """A POST of a user. Raises Rejected where something is missing without which it will be refused."""
        shaped = self.shaped(resource)
        if missing := [name for name in self.dialect.required if not shaped.get(name)]:
            raise Rejected(f"{self.dialect.title} creates no account without {', '.join(missing)}: map it")
        return ScimRequest("POST", self.found.users, self.codec.create(shaped, active=active))

    def can_patch(self, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        """Whether PATCH brings the difference about, as far as anything does; if not, the resource is to be PUT."""
        if not self.capabilities.patch:
            return False
        patchable = self.dialect.patchable
        if patchable is None or not self.capabilities.put:
            return True
        held, wanted = self.shaped(held), self.shaped(wanted)
        return all(held.get(name) == wanted.get(name) for name in {*held, *wanted} - patchable)

    def change(
        self, remote_id: str, held: Mapping[str, Any], wanted: Mapping[str, Any], *, active: bool | None
    ) -> ScimRequest | None:
        """A PATCH that turns `held` into `wanted`; None when nothing differs that can be changed at all."""
        held, wanted = self.shaped(held), self.shaped(wanted)
        patchable = self.dialect.patchable
        if patchable is not None:
            held = {name: value for name, value in held.items() if name in patchable}
            wanted = {name: value for name, value in wanted.items() if name in patchable}
        body = self.codec.change(held, wanted, active=active, filters=self.dialect.filter_paths)
        return None if body is None else ScimRequest("PATCH", self.user_path(remote_id), body)

    def replace(
        self,
        remote_id: str,
        shown: Mapping[str, Any],
        held: Mapping[str, Any],
        wanted: Mapping[str, Any],
        *,
        active: bool,
    ) -> ScimRequest:
        """A PUT of the whole user: what it shows, with what we map as it should be. What nobody maps stays."""
        held, wanted = self.shaped(held), self.shaped(wanted)
        kept = {name: value for name, value in shown.items() if name not in _SET_BY_IT}
        whole = _laid_over(kept, held, wanted)
        return ScimRequest(
            "PUT", self.user_path(remote_id), self.codec.replace({**whole, "id": remote_id, "active": active})
        )

    def delete(self, remote_id: str) -> ScimRequest:
        """A DELETE of a user."""
        return ScimRequest("DELETE", self.user_path(remote_id))

    def read(self, remote_id: str) -> ScimRequest:
        """A GET of one user."""
        return ScimRequest("GET", self.user_path(remote_id))

    def search(self, rule: str, value: str) -> ScimRequest:
        """A GET of the users whose attribute has a value."""
        return ScimRequest("GET", self.found.users, query=self.where(rule, value))

    def where(self, rule: str, value: str) -> dict[str, str]:
        """The filter of a search (RFC 7644, section 3.4.2.2)."""
        return {"filter": f"{rule} eq {quoted(value)}"}

    def user_path(self, remote_id: str) -> str:
        """Where a user lives."""
        return f"{self.found.users}/{quote(remote_id, safe='@:')}"

    def user(self, answer: ScimResponse) -> dict[str, Any] | None:
        """The user in an answer; None when there is none."""
        return None if answer.body is None else read_resource(self.codec.read(answer.body), self.dialect.tolerance)

    def page(self, answer: ScimResponse) -> Page | None:
        """The users or groups in an answer; None when it is no list."""
        page = read_page(answer.body, self.dialect.tolerance)
        return page if page is None else replace(page, rows=[dict(self.codec.read(row)) for row in page.rows])

    def shows(self, resource: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a user shows of the attributes we map, comparable with `wanted`: an attribute that cannot be held, or
        cannot be changed, shows what is wanted of it."""
        shaped = self.shaped(wanted)
        shown = project(resource, shaped)
        if shown == shaped:
            return wanted
        if self.dialect.patchable is not None and not self.capabilities.put:
            shown |= {name: value for name, value in shaped.items() if name not in self.dialect.patchable}
            if shown == shaped:
                return wanted
        return {**{name: value for name, value in wanted.items() if name not in shaped}, **shown}

    @property
    def leaves_nothing(self) -> bool:
        """Whether an account that access was taken from is gone, so that a 404 afterwards is what should be."""
        by_delete = self.dialect.deactivate == "delete" and self.dialect.deleted == "gone"
        return self.dialect.deactivated == "gone" or by_delete

    def is_active(self, resource: Mapping[str, Any]) -> bool | None:
        """Whether somebody can use the account; None when the application does not say."""
        return is_active(resource)

    @property
    def page_size(self) -> int:
        """How many rows to ask for."""
        most = self.capabilities.max_results or RFC.max_results or 100
        return min(self.dialect.page_size or MOST_ROWS, most)

    @property
    def overlaps(self) -> bool:
        """Whether a page may begin with the last row of the one before it."""
        return self.dialect.page_overlap

    def version(self, answer: ScimResponse) -> str | None:
        """The ETag of the resource in an answer, where the application honours If-Match."""
        if not (self.capabilities.etag or self.insists):
            return None
        if tag := answer.headers.get("etag"):
            return tag
        meta = (answer.body or {}).get("meta")
        tag = meta.get("version") if isinstance(meta, Mapping) else None
        # A line break in it would begin another header.
        return tag if isinstance(tag, str) and tag and tag.isascii() and tag.isprintable() else None

    # --- groups ---------------------------------------------------------------------------------------------------

    def group_path(self, group_id: str) -> str:
        """Where a group lives."""
        return f"{self.found.groups}/{quote(group_id, safe='@:')}"

    def find_group(self, name: str) -> ScimRequest:
        """A GET of the groups of a name, without their members: there may be 50,000."""
        query = {"filter": f"displayName eq {quoted(name)}", "excludedAttributes": "members"}
        return ScimRequest("GET", self.found.groups, query=query)

    def read_group(self, group_id: str) -> ScimRequest:
        """A GET of one group, without its members."""
        return ScimRequest("GET", self.group_path(group_id), query={"excludedAttributes": "members"})

    def create_group(self, name: str) -> ScimRequest:
        """A POST of an empty group."""
        return ScimRequest("POST", self.found.groups, self.codec.create_group(name))

    def members(self, group_id: str, add: Sequence[str], remove: Sequence[str]) -> ScimRequest:
        """A PATCH of a group's members."""
        body = self.codec.members(add, remove, filters=self.dialect.member_filters)
        return ScimRequest("PATCH", self.group_path(group_id), body)

    def replace_members(
        self, group_id: str, shown: Mapping[str, Any], add: Sequence[str], remove: Sequence[str]
    ) -> ScimRequest:
        """A PUT of a whole group, for applications without PATCH."""
        listed = shown.get("members")
        kept = [
            one
            for one in (listed if isinstance(listed, list) else [])
            if isinstance(one, Mapping) and (is_group(one) or str(one.get("value")) not in {*add, *remove})
        ]
        whole = {name: value for name, value in shown.items() if name not in _SET_BY_IT}
        whole["members"] = [*kept, *({"value": member} for member in add)]
        return ScimRequest("PUT", self.group_path(group_id), self.codec.replace_group({**whole, "id": group_id}))

    def chunk(self, most: int) -> int:
        """How many members one PATCH may change."""
        return min(most, self.dialect.members_per_patch or most)


def if_match(request: ScimRequest, version: str | None) -> ScimRequest:
    """The request, refused with 412 when somebody changed the resource since (RFC 7644, section 3.14)."""
    return request if version is None else replace(request, headers={"If-Match": version})


def _laid_over(shown: Mapping[str, Any], held: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`shown` with what is wanted in its place, and without what we mapped before and do no longer. Names differ in
    case from application to application (RFC 7643, section 2.1)."""
    ours = {name.lower(): name for name in {*held, *wanted}}
    whole = {ours.get(name.lower(), name): value for name, value in shown.items()}
    for name in {*held, *wanted}:
        value = wanted.get(name)
        if isinstance(value, Mapping):
            inner = whole.get(name)
            before = held.get(name)
            whole[name] = _laid_over(
                inner if isinstance(inner, Mapping) else {}, before if isinstance(before, Mapping) else {}, value
            )
        elif value is None:
            whole.pop(name, None)
        else:
            whole[name] = value
    return whole
