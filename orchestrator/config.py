"""`jml.toml`: which broker, which store, which applications, and who gets what in them.

Secrets are never in the file, only the name of an environment variable or of a file that holds them. Environment
variables override the file: `JML_STORE__URL` is `[store] url`. All problems are reported at once, each with its place.
"""

import os
import re
import tomllib
from base64 import b64decode
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orchestrator.domain.days import is_zone
from orchestrator.domain.notices import Receivers, is_address
from orchestrator.domain.policy import ApplicationPolicy, ExpressionError, Policy, compile_policy
from orchestrator.errors import ConfigError

EMBEDDED = "embedded"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
AppName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaConfig(_Table):
    """Where the events travel. `embedded` is a broker inside this process, for evaluation: it keeps nothing."""

    bootstrap: str = EMBEDDED
    partitions: int = Field(default=6, ge=1, le=1000)
    replication: int = Field(default=1, ge=1)
    rebalance_timeout_seconds: float = Field(default=60, gt=0)
    session_timeout_seconds: float = Field(default=15, gt=0)

    @property
    def embedded(self) -> bool:
        """Whether the broker runs inside the process."""
        return self.bootstrap == EMBEDDED


class StoreConfig(_Table):
    """The database, as a SQLAlchemy URL for an asyncio driver."""

    url: str = "sqlite+aiosqlite:///state/jml.db"

    @field_validator("url")
    @classmethod
    def _known_driver(cls, url: str) -> str:
        if not url.startswith(("sqlite+aiosqlite://", "postgresql+asyncpg://")):
            raise ValueError("begins with neither sqlite+aiosqlite:// nor postgresql+asyncpg://")
        return url


class AuditConfig(_Table):
    """Where the auditor keeps the log."""

    dir: Path = Path("state/audit")


class TimeConfig(_Table):
    """The zone of workers whose own zone HR does not state."""

    default_zone: str = "UTC"

    @field_validator("default_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        if not is_zone(name):
            raise ValueError(f"{name!r} is no IANA time zone")
        return name


class OpsConfig(_Table):
    """The endpoint for health and metrics of each role; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)


class BearerAuth(_Table):
    """A bearer token, by reference."""

    token_env: str | None = None
    token_file: Path | None = None

    def token(self, app: str) -> str | None:
        """The token, read at start. Raises ConfigError where the reference leads nowhere."""
        if self.token_file is not None:
            try:
                return self.token_file.read_text().strip()
            except OSError as error:
                raise ConfigError([f"apps.{app}.auth.token_file: {self.token_file}: {error.strerror}"]) from None
        if self.token_env is not None:
            token = os.environ.get(self.token_env)
            if not token:
                raise ConfigError([f"apps.{app}.auth.token_env: the environment variable {self.token_env} is not set"])
            return token
        return None


class RetryConfig(_Table):
    """How long to wait between attempts, and when to give up (None: never)."""

    base_seconds: float = Field(default=2, gt=0)
    max_seconds: float = Field(default=900, gt=0)
    attempts: int | None = Field(default=None, ge=1)
    parked_leaver_seconds: float = Field(default=3600, gt=0)
    """A parked leaver is tried again after half to all of this, for ever: somebody still has access."""


class AppConfig(_Table):
    """One connected application. `scope`, `groups` and the values of `attributes` are CEL over `person`."""

    base_url: AnyHttpUrl
    auth: BearerAuth = BearerAuth()
    concurrency: int = Field(default=16, ge=1, le=256)
    timeout_seconds: float = Field(default=15, gt=0)
    scope: str = "true"
    groups: str = "[]"
    attributes: dict[str, str]
    leave_of_absence: Literal["keep", "deactivate"] = "keep"
    delete_after_days: int | None = Field(default=None, ge=0, le=36500)
    retry: RetryConfig = RetryConfig()
    max_members_per_patch: int = Field(default=500, ge=1)

    @field_validator("attributes")
    @classmethod
    def _has_user_name(cls, attributes: dict[str, str]) -> dict[str, str]:
        if "userName" not in attributes:
            raise ValueError("userName is missing: SCIM requires it (RFC 7643, section 4.1.1)")
        for name in ("active", "id", "groups", "password", "meta", "schemas"):
            if name in attributes:
                raise ValueError(f"{name} cannot be mapped: the orchestrator or the application sets it")
        return attributes

    def policy(self, app: str) -> ApplicationPolicy:
        """The part that decides who gets what."""
        return ApplicationPolicy(
            app=app,
            attributes=self.attributes,
            scope=self.scope,
            groups=self.groups,
            leave_of_absence=self.leave_of_absence,
            delete_after=None if self.delete_after_days is None else timedelta(days=self.delete_after_days),
        )


class WebhookConfig(_Table):
    """Where notices are posted, signed as https://www.standardwebhooks.com says. The secret is `whsec_...`, by
    reference."""

    url: AnyHttpUrl
    secret_env: str | None = None
    secret_file: Path | None = None
    timeout_seconds: float = Field(default=15, gt=0, le=120)

    @field_validator("url")
    @classmethod
    def _private(cls, url: AnyHttpUrl) -> AnyHttpUrl:
        if url.scheme != "https" and url.host not in _LOOPBACK:
            raise ValueError("is not https: a notice says who is about to leave")
        if url.username or url.password:
            raise ValueError("holds credentials: the signature is how the receiver knows us")
        return url

    def secret(self) -> str:
        """The secret, read at start. Raises ConfigError where there is none, or none that can sign."""
        secret = _referred("notices.webhook.secret", self.secret_env, self.secret_file)
        try:
            key = b64decode(secret.removeprefix("whsec_") + "==")
        except ValueError:
            key = b""
        if not secret.startswith("whsec_") or not 24 <= len(key) <= 64:
            raise ConfigError(["notices.webhook.secret: is not whsec_ and the base64 of 24 to 64 bytes"])
        return secret


class EmailConfig(_Table):
    """How notices go out by e-mail, and to whom beside the addresses of manager and sponsor, which HR states."""

    host: str
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca_file: Path | None = None
    user: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    sender: str
    to: tuple[str, ...] = ()
    manager: bool = True
    sponsor: bool = True
    templates: Path | None = None
    timeout_seconds: float = Field(default=30, gt=0, le=120)

    @field_validator("sender", "to")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (value,) if isinstance(value, str) else value:
            if not is_address(address):
                raise ValueError(f"{address!r} is no e-mail address")
        return value

    @model_validator(mode="after")
    def _private(self) -> "EmailConfig":
        if self.security == "none" and self.host not in _LOOPBACK:
            raise ValueError("security is none: only for a server on this machine")
        if self.user is not None and self.security == "none":
            raise ValueError("user: no password goes over a connection without TLS")
        return self

    def password(self) -> str | None:
        """The password of `user`, read at start. Raises ConfigError where it is missing."""
        if self.user is None:
            return None
        return _referred("notices.email.password", self.password_env, self.password_file)


class NoticesConfig(_Table):
    """Who is told of ends that come, and of those that could not be enforced. Without receivers the notices stay on
    their topic."""

    webhook: WebhookConfig | None = None
    email: EmailConfig | None = None
    overdue_after_minutes: float = Field(default=15, gt=0)
    retry: RetryConfig = RetryConfig(base_seconds=10, max_seconds=3600, attempts=30)

    def receivers(self) -> Receivers:
        """Who is told."""
        email = self.email
        if email is None:
            return Receivers(webhook=self.webhook is not None)
        return Receivers(self.webhook is not None, True, email.manager, email.sponsor, email.to)


def _referred(key: str, variable: str | None, file: Path | None) -> str:
    """What an environment variable or a file holds. Raises ConfigError where the reference leads nowhere."""
    if file is not None:
        try:
            return file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no text"
            raise ConfigError([f"{key}_file: {file}: {reason}"]) from None
    if variable is None:
        raise ConfigError([f"{key}: neither {key.rpartition('.')[2]}_env nor {key.rpartition('.')[2]}_file is given"])
    value = os.environ.get(variable)
    if not value:
        raise ConfigError([f"{key}_env: the environment variable {variable} is not set"])
    return value


class Config(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(env_prefix="JML_", env_nested_delimiter="__", extra="forbid", frozen=True)

    kafka: KafkaConfig = KafkaConfig()
    store: StoreConfig = StoreConfig()
    audit: AuditConfig = AuditConfig()
    time: TimeConfig = TimeConfig()
    ops: OpsConfig = OpsConfig()
    notices: NoticesConfig = NoticesConfig()
    apps: dict[AppName, AppConfig] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file's values, which arrive as arguments."""
        return env_settings, init_settings

    def policy(self) -> Policy:
        """The compiled policy. `load_config` has proved that it compiles."""
        policy, problems = compile_policy(self.policies(), self.time.default_zone)
        if policy is None:
            raise ConfigError([str(problem) for problem in problems])
        return policy

    def policies(self) -> list[ApplicationPolicy]:
        """The applications' policies."""
        return [app.policy(name) for name, app in self.apps.items()]


def load_config(path: Path) -> Config:
    """Read and check a configuration file. Raises ConfigError with every problem at once."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise ConfigError(
            [f"{path}: no such file; name one with --config, or write it with `jml config init`"]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    places = _Places(path, text)
    try:
        config = Config(**values)
    except ValidationError as error:
        raise ConfigError([places.problem(item["loc"], item["msg"]) for item in error.errors()]) from None
    _, problems = compile_policy(config.policies(), config.time.default_zone)
    if problems:
        raise ConfigError([places.expression(problem) for problem in problems])
    return config


class _Places:
    """Where in the file a key stands: tomllib keeps no positions, so the lines are searched."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines: dict[tuple[str, ...], tuple[int, int]] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.splitlines(), 1):
            if header := re.match(r"\s*\[([^\[\]]+)\]", line):
                table = _steps(header.group(1))
                self._lines[table] = (number, 1)
            elif key := re.match(
                r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"))*)\s*=\s*[\"']*", line
            ):
                self._lines[(*table, *_steps(key.group(1)))] = (number, key.end() + 1)

    def problem(self, location: tuple[int | str, ...], message: str) -> str:
        """`FILE:LINE:COLUMN: key: message`, with the place of the nearest table where the key itself is missing."""
        key = tuple(str(step) for step in location)
        message = message.removeprefix("Value error, ").replace("Extra inputs are not permitted", "is not a known key")
        return f"{self._path}:{self._at(key)}: {'.'.join(key)}: {message}"

    def expression(self, error: ExpressionError) -> str:
        """The same for an expression; a column within it is added to the column at which it begins."""
        group, _, name = error.key.partition(".")
        key = ("apps", error.app, group, name) if name else ("apps", error.app, group)
        inner = re.search(r"<input>:1:(\d+): ?(.*)", error.reason)
        if inner and key in self._lines:
            line, column = self._lines[key]
            return f"{self._path}:{line}:{column + int(inner.group(1)) - 1}: {'.'.join(key)}: {inner.group(2)}"
        return f"{self._path}:{self._at(key)}: {'.'.join(key)}: {error.reason}"

    def _at(self, key: tuple[str, ...]) -> str:
        for length in range(len(key), 0, -1):
            if key[:length] in self._lines:
                line, column = self._lines[key[:length]]
                return f"{line}:{column}"
        return "1:1"


def _steps(dotted: str) -> tuple[str, ...]:
    return tuple(step.strip("\"'") for step in re.findall(r"[\w-]+|\"[^\"]*\"|'[^']*'", dotted))


EXAMPLE = """\
# Where events travel. "embedded" is a broker inside the process, for evaluation only: it keeps nothing.
[kafka]
bootstrap = "localhost:9092"

[store]
url = "postgresql+asyncpg://jml@localhost/jml"

[audit]
dir = "state/audit"

[time]
default_zone = "UTC"

[apps.directory]
base_url = "http://localhost:9001/scim/v2"
auth = { token_env = "DIRECTORY_TOKEN" }
scope = "true"
groups = '["all-staff"] + (person.department == "" ? [] : ["dept " + person.department])'
delete_after_days = 90

[apps.directory.attributes]
userName = "person.user_name"
externalId = "person.id"
"name.givenName" = "person.given_name"
"name.familyName" = "person.family_name"
displayName = "person.display_name"
title = "person.title"
emails = '[{"value": person.email, "type": "work", "primary": true}]'
"enterprise.employeeNumber" = "person.id"
"enterprise.department" = "person.department"
"""


def describe(config: Config) -> dict[str, Any]:
    """The configuration in force without credentials, for `jml config show`."""
    shown = config.model_dump(mode="json")
    shown["store"]["url"] = re.sub(r"//[^@/]*@", "//***@", config.store.url)
    return shown
