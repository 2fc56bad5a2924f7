"""A connected application on Django and django-scim2: an independent reading of the RFC over SQL.

One file, so the order is Django's: settings first, then the models, then what the library resolves while it is
imported. The library leaves gaps (its README says so) and names the places to fill them: the filter parsers and
the two adapters. We fill what a client needs (externalId, the enterprise extension, PATCH without a path, members
by filter, 409) and keep the rest as it is, because these habits are what the connector has to live with:

ids are small numbers as strings, and users and groups share them; PATCH answers 200 with the whole resource; users
carry `groups`; one email address is kept, without its type; attributes we do not keep are dropped by POST and answer
501 to PATCH; paths are case-sensitive; `lastModified` never moves; `status` of an error is a number; a page holds 50
and `excludedAttributes` is ignored; group names are unique; `filter=active eq true` finds nobody (the library
compares with the text TRUE); discovery says that filters are unsupported, and they work.
"""
# Neither library is typed, and their extension point is subclassing.
# mypy: allow-subclassing-any

import asyncio
import logging
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any
from urllib.parse import urljoin

import django
from django import db
from django.apps import AppConfig
from django.conf import settings

from .asgi import BASE_PATH, App, Receive, Scope, Send, read_body, send_answer

_ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
_SCIM: dict[str, Any] = {
    "NETLOC": "localhost",  # never used: locations come from the request, see below
    "AUTHENTICATION_SCHEMES": [{"type": "oauthbearertoken", "name": "bearer", "description": "bearer token"}],
    "BASE_LOCATION_GETTER": lambda request=None, *_, **__: request.build_absolute_uri("/"),
    # Authentication is done by asgi.Bearer, before Django is reached.
    "AUTH_CHECK_MIDDLEWARE": lambda view: view,
}

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "CONN_MAX_AGE": None}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[AppConfig(__name__, sys.modules[__name__])],
    LOGGING_CONFIG=None,
    ROOT_URLCONF=__name__,
    SCIM_SERVICE_PROVIDER=_SCIM,
    USE_TZ=True,
)
django.setup()

from django.core.handlers.asgi import ASGIRequest  # noqa: E402
from django.core.handlers.base import BaseHandler  # noqa: E402
from django.db import models, transaction  # noqa: E402
from django.db.models.functions import Upper  # noqa: E402
from django.urls import include, path, reverse  # noqa: E402
from django.utils import timezone  # noqa: E402
from django_scim.filters import GroupFilterQuery, UserFilterQuery  # noqa: E402
from django_scim.models import AbstractSCIMGroupMixin, AbstractSCIMUserMixin  # noqa: E402


class Group(AbstractSCIMGroupMixin):
    """A group. Its name is unique, as in django.contrib.auth, so a second one answers 409."""

    name = models.CharField(max_length=150, unique=True)


class User(AbstractSCIMUserMixin):
    """An account with the attributes that the SCIM resource carries."""

    # The collation makes uniqueness blind to case, as userName is; the index serves the library's UPPER(username).
    username = models.CharField(max_length=254, unique=True, db_collation="NOCASE")
    first_name = models.CharField(max_length=150, blank=True)
    last_name = models.CharField(max_length=150, blank=True)
    display_name = models.CharField(max_length=254, blank=True)
    email = models.CharField(max_length=254, blank=True)
    title = models.CharField(max_length=254, blank=True)
    user_type = models.CharField(max_length=254, blank=True)
    department = models.CharField(max_length=254, blank=True)
    division = models.CharField(max_length=254, blank=True)
    cost_center = models.CharField(max_length=254, blank=True)
    organization = models.CharField(max_length=254, blank=True)
    employee_number = models.CharField(max_length=254, blank=True)
    manager = models.CharField(max_length=254, blank=True)
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(default=timezone.now)
    scim_groups = models.ManyToManyField(Group, related_name="user_set")

    class Meta:
        indexes = [models.Index(Upper("username"), name="username_upper")]  # noqa: RUF012


_CORE_COLUMNS = {"displayName": "display_name", "title": "title", "userType": "user_type"}
_ENTERPRISE_COLUMNS = {
    "department": "department",
    "division": "division",
    "costCenter": "cost_center",
    "organization": "organization",
    "employeeNumber": "employee_number",
}


class UserFilter(UserFilterQuery):
    """What `filter` and PATCH paths may name, and the column behind it."""

    attr_map = {  # noqa: RUF012  (the library reads a class attribute)
        **UserFilterQuery.attr_map,
        ("id", None, None): "scim_id",
        ("externalId", None, None): "scim_external_id",
        **{(name, None, None): column for name, column in _CORE_COLUMNS.items()},
        **{(name, None, _ENTERPRISE): column for name, column in _ENTERPRISE_COLUMNS.items()},
        ("manager", "value", _ENTERPRISE): "manager",
    }


class GroupFilter(GroupFilterQuery):
    """The library leaves groups without any filter."""

    attr_map = {  # noqa: RUF012
        ("id", None, None): "scim_id",
        ("externalId", None, None): "scim_external_id",
        ("displayName", None, None): "name",
    }


# The library looks these up once, while its adapters are imported.
_SCIM |= {
    "USER_MODEL_GETTER": lambda: User,
    "GROUP_MODEL": Group,
    "USER_FILTER_PARSER": UserFilter,
    "GROUP_FILTER_PARSER": GroupFilter,
}

from django_scim import adapters, exceptions  # noqa: E402


class _Habits(adapters.SCIMMixin):
    """What both adapters mend in the same way."""

    def save(self) -> None:
        """Answer 409 also when a PATCH meets the unique column; the library does so for POST and PUT only."""
        try:
            super().save()
        except db.IntegrityError as error:
            raise exceptions.IntegrityError(str(error), scim_type="uniqueness") from error

    def parse_path_and_values(self, path: str | None, value: Any) -> list[tuple[Any, Any]]:
        """Take a value object apart, with a path or without; the library knows only its top level."""
        return [(self.split_path(leaf), inner) for leaf, inner in _leaves(path or "", value)]

    def _default_validate_op(self, path: Any, value: Any, operation: dict[str, Any]) -> None:
        """Give the library the path that its message quotes; without one it answered 500 for 400."""
        super()._default_validate_op(path, value, {**operation, "path": path.first_path.attr_name})


class UserAdapter(_Habits, adapters.SCIMUser):
    """Users with what the library's own adapter leaves out."""

    ATTR_MAP = {key: column for key, column in UserFilter.attr_map.items() if column != "scim_id"}  # noqa: RUF012

    @property
    def display_name(self) -> str:
        return self.obj.display_name or str(super().display_name)

    def to_dict(self) -> dict[str, Any]:
        resource: dict[str, Any] = super().to_dict()
        resource |= {name: getattr(self.obj, column) for name, column in _CORE_COLUMNS.items() if name != "displayName"}
        enterprise = {name: getattr(self.obj, column) for name, column in _ENTERPRISE_COLUMNS.items()}
        enterprise["manager"] = {"value": self.obj.manager} if self.obj.manager else None
        resource["schemas"].append(_ENTERPRISE)
        resource[_ENTERPRISE] = {name: value for name, value in enterprise.items() if value}
        return resource

    def from_dict(self, d: dict[str, Any]) -> None:
        if not d.get("userName"):
            raise exceptions.BadRequestError("userName is required", scim_type="invalidValue")
        super().from_dict(d)
        enterprise = d.get(_ENTERPRISE) or {}
        for name, column in _CORE_COLUMNS.items():
            setattr(self.obj, column, d.get(name) or "")
        for name, column in _ENTERPRISE_COLUMNS.items():
            setattr(self.obj, column, enterprise.get(name) or "")
        self.obj.manager = (enterprise.get("manager") or {}).get("value") or ""

    def handle_replace(self, path: Any, value: Any, operation: dict[str, Any]) -> None:
        if path.first_path.attr_name == "emails":  # one address is kept, whatever filter chose it
            self.parse_emails(value if isinstance(value, list) else [{"value": value}])
            self.save()
            return
        super().handle_replace(path, "" if value is None else value, operation)

    def handle_add(self, path: Any, value: Any, operation: dict[str, Any]) -> None:
        """Every attribute we keep holds one value, so adding one replaces it (RFC 7644, 3.5.2.1)."""
        self.handle_replace(path, value, operation)

    def handle_remove(self, path: Any, value: Any, operation: dict[str, Any]) -> None:
        if path.first_path.attr_name in ("active", "userName"):
            raise exceptions.BadRequestError(f"{operation['path']} is required", scim_type="mutability")
        if path.first_path.attr_name == "emails":
            self.obj.email = ""
            self.save()
            return
        super().handle_replace(path, "", operation)


class GroupAdapter(_Habits, adapters.SCIMGroup):
    """Groups whose members may come with the POST, and leave by the RFC's filter as well as by a list."""

    _initial_members: Any = None

    @property
    def members(self) -> list[dict[str, str]]:
        """Read the members in one query; the library builds an adapter and a URL for each."""
        users = urljoin(self.location, reverse(adapters.SCIMUser.url_name))
        rows = self.obj.user_set.values_list("scim_id", "username")
        return [{"value": id_, "$ref": f"{users}/{id_}", "display": name} for id_, name in rows]

    def from_dict(self, d: dict[str, Any]) -> None:
        if not d.get("displayName"):
            raise exceptions.BadRequestError("displayName is required", scim_type="invalidValue")
        super().from_dict(d)
        self._initial_members = d.get("members") or []

    def save(self) -> None:
        with transaction.atomic():
            super().save()
            if self._initial_members is not None:
                self.obj.user_set.set(_users(self._initial_members))

    def handle_add(self, path: Any, value: Any, operation: dict[str, Any]) -> None:
        if path.first_path.attr_name != "members":
            self.handle_replace(path, value, operation)
            return
        self.obj.user_set.add(*_users(value))

    def handle_remove(self, path: Any, value: Any, operation: dict[str, Any]) -> None:
        if path.first_path.attr_name != "members":
            raise exceptions.NotImplementedError(f"{operation['path']} can not be removed")
        named = _MEMBER_VALUE.findall(operation["path"]) or [member["value"] for member in _as_list(value)]
        if named:
            self.obj.user_set.remove(*User.objects.filter(scim_id__in=named))
        else:
            self.obj.user_set.clear()

    def handle_replace(self, path: Any, value: Any, operation: dict[str, Any]) -> None:
        name = path.first_path.attr_name
        if name == "members":
            self.obj.user_set.set(_users(value))
        elif column := GroupFilter.attr_map.get((name, None, None)) if name != "id" else None:
            setattr(self.obj, column, value or "")
            self.save()
        else:
            raise exceptions.NotImplementedError(f"{name} can not be replaced")


_SCIM |= {"USER_ADAPTER": UserAdapter, "GROUP_ADAPTER": GroupAdapter}
urlpatterns = [path(f"{BASE_PATH.strip('/')}/", include("django_scim.urls"))]

_CORE = re.compile(r"^urn:ietf:params:scim:schemas:core:2\.0:(?:User|Group):")
_MEMBER_VALUE = re.compile(r'\bvalue\s+eq\s+"([^"]+)"')
# The paths whose value may be an object, and what stands between such a path and the names inside.
_OBJECTS = {"": "", "name": ".", _ENTERPRISE: ":", f"{_ENTERPRISE}:manager": "."}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Return the single attributes that a PATCH value sets, each with its full path."""
    path = _CORE.sub("", path)
    if path in _OBJECTS and isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{path}{_OBJECTS[path]}{name}", inner)
    elif path == f"{_ENTERPRISE}:manager":  # Entra sends the id alone
        yield f"{path}.value", value
    elif path:
        yield path, value
    else:
        raise exceptions.BadRequestError("a value without a path must be an object", scim_type="invalidValue")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _users(members: Any) -> list[User]:
    """Return the users that a list of members names; all of them must exist."""
    ids = {str(member.get("value")) for member in _as_list(members)}
    users = list(User.objects.filter(scim_id__in=ids))
    if len(users) != len(ids):
        raise exceptions.BadRequestError("a member does not exist", scim_type="invalidValue")
    return users


class _Bridge:
    """Django behind ASGI on one thread of its own.

    Django's own ASGI handler takes a new thread, and so a new connection, for every request; one thread keeps one
    connection, which is what a SQLite database in memory lives in, and makes every request a transaction alone.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="django")
        self._handler: BaseHandler | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await read_body(receive)
        response = await asyncio.get_running_loop().run_in_executor(self._thread, self._respond, scope, body)
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
        await send_answer(send, response.status_code, response.content, headers)

    def _respond(self, scope: Scope, body: bytes) -> Any:
        if self._handler is None:
            self._handler = self._start()
        return self._handler.get_response(ASGIRequest(scope, BytesIO(body)))

    @staticmethod
    def _start() -> BaseHandler:
        """Create the tables on the thread that will use them."""
        with db.connection.schema_editor() as schema:
            schema.create_model(Group)
            schema.create_model(User)
        handler = BaseHandler()
        handler.load_middleware()
        return handler


def application() -> App:
    """Return an empty application; the database belongs to the process, so there is one per process."""
    # A refusal is an answer, and the journal has it; only what fails belongs on stderr.
    logging.getLogger("django.request").setLevel(logging.ERROR)
    return _Bridge()
