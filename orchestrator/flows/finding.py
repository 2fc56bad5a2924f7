"""The account of a person in an application that has not told us its id: asked for by the rules, never guessed."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from orchestrator.domain.correlation import RULES, Correlation, Rule, Sought, by_attributes, filter_path, untagged
from orchestrator.domain.expressions import ExpressionError
from orchestrator.domain.person import Person
from orchestrator.domain.scim_diff import value_at, values_at
from orchestrator.domain.unique_names import number_of
from orchestrator.errors import AmbiguousCorrelation, Rejected, Unavailable
from orchestrator.flows.account_call import Call
from orchestrator.flows.application import Application
from orchestrator.flows.listing import Listing

MOST_CANDIDATES = 20
"""So many accounts that could be the person's are named."""


class Directory(Protocol):
    """What is on record of persons and accounts; waits while the store is down."""

    async def holders(self, remote_ids: Sequence[str]) -> Mapping[str, str]:
        """Who has these accounts of the application on record, by their ids."""
        ...

    async def person(self, person_id: str) -> Person | None:
        """Everything stated of a person."""
        ...


class Finder:
    """Looks for accounts of one application; see `domain.correlation`."""

    def __init__(self, application: Application, correlation: Correlation | None, directory: Directory) -> None:
        self._application = application
        self.correlation = correlation or by_attributes(*(application.dialect.lookup or RULES))
        self._directory = directory

    async def find(self, call: Call, *, by_name: bool = True) -> None:
        """Look for the account, and note in `call.remote` what was found. Without `by_name`, not by a name that is
        made to collide.

        Raises AmbiguousCorrelation where a person has to say which it is, and Rejected for a rule that fails.
        """
        call.looked, call.name_taken = True, False
        try:
            if not await self._found(call, await self._sought(call), by_name=by_name):
                call.remote.gone()
        except ExpressionError as error:
            raise Rejected(f"the account cannot be looked for: {error}") from None

    async def find_others(self, call: Call) -> None:
        """Look whether the account is the person's only one, by the surest rule that says something of them.

        Raises AmbiguousCorrelation where it is not, and Rejected for a rule that fails.
        """
        correlation = self.correlation
        try:
            sought = await self._sought(call)
            for rule in correlation.rules:
                value = correlation.value(rule, sought)
                if value is None or correlation.is_name(rule) or rule.search in self._application.dialect.ambiguous:
                    continue
                rows = await self._rows(call, rule, value, sought)
                found = await self._free(call, correlation.matches(rows, rule, sought))
                if {str(one["id"]) for one in found} - {call.remote.id}:
                    told = (
                        "a create that had no answer made a second account, as names are not unique there: remove one, "
                        "or `jml accounts link` the one to keep"
                    )
                    raise AmbiguousCorrelation(told, [str(one["id"]) for one in found[:MOST_CANDIDATES]])
                return
        except ExpressionError as error:
            raise Rejected(f"the account cannot be looked for: {error}") from None

    async def _rows(self, call: Call, rule: Rule, value: str, sought: Sought) -> list[dict[str, Any]]:
        if self._reads_everybody:
            return [row async for row in Listing(call.send, self._application)]
        return await self._searched(call, rule, value, sought)

    async def holders_of(self, call: Call, path: tuple[str, ...], value: str) -> list[Mapping[str, Any]]:
        """The accounts that show a value and are not the person's; none where the application does not say."""
        listed = isinstance(value_at(call.account.resource, path), list)
        rule = Rule("", path, filter_path((*path, "value") if listed else path))
        try:
            rows = await self._searched(call, rule, value, None)
        except Rejected:  # an application that cannot search by it leaves the answer to its refusal of a duplicate
            return []
        return [
            row
            for row in rows
            if _shows(row, path, value)
            and str(row.get("id")) != call.remote.id
            and (untagged(row) or str(row["externalId"]) != str(call.account.resource.get("externalId")))
        ]

    async def _sought(self, call: Call) -> Sought:
        fields = None
        if self.correlation.needs_person:
            person = await self._directory.person(call.account.person_id)
            fields = self.correlation.fields_of(person or Person(call.account.person_id))
        return Sought(call.account.resource, fields)

    @property
    def _reads_everybody(self) -> bool:
        searchable = self.correlation.configured or self._application.dialect.lookup
        return not (searchable and self._application.capabilities.filter)

    async def _found(self, call: Call, sought: Sought, *, by_name: bool) -> bool:
        correlation, several = self.correlation, list[Mapping[str, Any]]()
        everybody: list[dict[str, Any]] | None = None
        if self._reads_everybody:
            everybody = [row async for row in Listing(call.send, self._application)]
        for rule in correlation.rules:
            is_name = correlation.is_name(rule)
            value = correlation.value(rule, sought)
            if value is None or (is_name and not by_name):
                continue
            rows = several or everybody
            if rows is None:
                rows = await self._searched(call, rule, value, sought)
            found = await self._free(call, correlation.matches(rows, rule, sought))
            if is_name:
                call.name_taken = not found and any(_shows(row, rule.steps, value) for row in rows)
            if len(found) > 1 and rule.search in self._application.dialect.ambiguous:
                several = found
                continue
            if len(found) > 1:
                raise _ambiguous(found, rule.search)
            if found:
                if is_name and untagged(found[0]):
                    raise self._unsure(call, found)
                self.saw(call, found[0])
                return True
        if several:
            raise _ambiguous(several, correlation.rules[0].search)
        return False

    async def _free(self, call: Call, found: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Without the accounts that are on somebody else's record."""
        if not found:
            return found
        holders = await self._directory.holders([str(one["id"]) for one in found])
        ours = call.account.person_id
        return [one for one in found if holders.get(str(one["id"]), ours) == ours]

    async def _searched(self, call: Call, rule: Rule, value: str, sought: Sought | None) -> list[dict[str, Any]]:
        application = self._application
        answer = await call.send(application.search(rule.filter, value))
        page = application.page(answer)
        if page is None and answer.status != 404:
            raise Unavailable(f"the application answered a search with {answer.status} and no list")
        if page is None:
            return []
        complete = page.total is None or page.total <= page.received
        if complete or (sought is not None and self.correlation.matches(page.rows, rule, sought)):
            return page.rows
        # It answers a search with everybody, a page at a time: then everybody is read.
        return [row async for row in Listing(call.send, application, query=application.where(rule.filter, value))]

    def _unsure(self, call: Call, found: Sequence[Mapping[str, Any]]) -> AmbiguousCorrelation | Unavailable:
        """An account with a name that is made to collide, which shows no externalId and is on nobody's record. A
        connector may be making it at this moment, so it is looked at once more before a person is asked."""
        if not call.progress.attempts:
            return Unavailable("an account with the name and without an externalId may be being made right now")
        told = (
            "an account with the name shows no externalId and may be a namesake's: `jml accounts link` makes it the "
            "person's; give it its owner's externalId if it is somebody else's, and retry"
        )
        return AmbiguousCorrelation(told, [str(one["id"]) for one in found])

    def saw(self, call: Call, resource: Mapping[str, Any]) -> None:
        """Note what an account shows."""
        remote = call.remote
        remote.id, remote.shown, remote.version = str(resource["id"]), None, None
        remote.active = self._application.is_active(resource)
        if self.correlation.unique and remote.id != call.progress.remote_id:
            self._keep_name(call, resource)
        remote.resource = self._application.shows(resource, call.account.resource)
        # Not every application shows a user's groups, and a delta of what is there already is harmless.
        kept = tuple(name for name in remote.groups if name not in call.account.groups)
        call.forgot = call.forgot or kept != remote.groups
        remote.groups = kept

    def _keep_name(self, call: Call, resource: Mapping[str, Any]) -> None:
        """An account that is new to us keeps the candidate that it shows; one that is on record has its number, and
        somebody who renamed it there is put right."""
        number = number_of(resource, call.plain, self.correlation.unique)
        if number is not None and number != call.progress.number:
            call.take_name(number, self.correlation.unique)


def _shows(row: Mapping[str, Any], path: Sequence[str], value: str) -> bool:
    return value.lower() in {one.lower() for one in values_at(row, path)}


def _ambiguous(found: Sequence[Mapping[str, Any]], rule: str) -> AmbiguousCorrelation:
    told = (
        f"{len(found)} accounts of the application have the same {rule}: `jml accounts link` says which is the person's"
    )
    return AmbiguousCorrelation(told, [str(one["id"]) for one in found[:MOST_CANDIDATES]])
