"""`jml.toml`: which broker, which store, which applications, and who gets what in them.

Secrets are never in the file, only the name of an environment variable or of a file that holds them. Environment
variables override the file: `JML_STORE__URL` is `[store] url`. All problems are reported at once, each with its place.
"""

import os
import re
import tomllib
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orchestrator.domain.breaker import EXEMPTIONS, BreakerPolicy, Rule
from orchestrator.domain.budget import CallKind, Limit, in_force, per_second
from orchestrator.domain.days import is_zone
from orchestrator.domain.policy import ApplicationPolicy, ExpressionError, Policy, compile_policy
from orchestrator.errors import ConfigError

EMBEDDED = "embedded"
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


class RateConfig(_Table):
    """At most `calls` in any `seconds`, at most `burst` of them at once (default: a tenth of the calls)."""

    calls: int = Field(ge=1)
    seconds: float = Field(default=60, gt=0, le=86400)
    burst: int | None = Field(default=None, ge=1)


class BudgetConfig(_Table):
    """How many calls an application takes, over all and by kind; all processes together keep to it.

    `leaver_share` is the part of each burst that is kept for calls that take access away, `longest_wait_seconds` what
    a Retry-After is cut to.
    """

    calls_per_second: float | None = Field(default=None, gt=0)
    user_create: RateConfig | None = None
    user_write: RateConfig | None = None
    group_write: RateConfig | None = None
    read: RateConfig | None = None
    leaver_share: float = Field(default=0.2, ge=0, le=0.9)
    longest_wait_seconds: float = Field(default=3600, ge=1, le=86400)

    def limits(self, defaults: Iterable[Limit] = ()) -> tuple[Limit, ...]:
        """The limits to keep; `defaults` are those that the application's dialect knows of."""
        configured = [per_second(self.calls_per_second)] if self.calls_per_second is not None else []
        for kind in CallKind:
            rate: RateConfig | None = getattr(self, kind.value)
            if rate is not None:
                configured.append(Limit(kind.value, rate.calls, rate.seconds, rate.burst))
        return in_force(defaults, configured)


class BreakerLimits(_Table):
    """How many accounts may lose access within the window: `limit` or `share` of the population, whichever is more.

    They count for what one source says of one application; `total_limit` and `total_share` for all sources together.
    """

    limit: int = Field(default=50, ge=0)
    share: float = Field(default=0.05, ge=0, le=1)
    total_limit: int = Field(default=100, ge=0)
    total_share: float = Field(default=0.1, ge=0, le=1)
    min_population: int = Field(default=0, ge=0)
    """An application with fewer active accounts is left alone."""

    def rule(self) -> Rule:
        """The same for the domain."""
        return Rule(self.limit, self.share, self.total_limit, self.total_share, self.min_population)


class BreakerConfig(BreakerLimits):
    """Mass deactivation is held for a person to release; see guide/budgets-and-breaker.md."""

    enabled: bool = True
    window: str = "1h"
    exempt: tuple[str, ...] = ("contract_end", "operator")

    @field_validator("window")
    @classmethod
    def _is_a_time(cls, text: str) -> str:
        if not re.fullmatch(r"[1-9]\d{0,5}[smhd]", text):
            raise ValueError(f"{text!r} is no length of time such as 30m, 1h or 1d")
        return text

    @field_validator("exempt")
    @classmethod
    def _is_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(names) - set(EXEMPTIONS)):
            raise ValueError(f"{unknown[0]!r} cannot be exempt; there are {', '.join(sorted(EXEMPTIONS))}")
        return names

    @property
    def window_length(self) -> timedelta:
        """The window's length."""
        units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
        return timedelta(**{units[self.window[-1]]: int(self.window[:-1])})


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
    budget: BudgetConfig = BudgetConfig()
    breaker: BreakerLimits | None = None
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


class Config(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(env_prefix="JML_", env_nested_delimiter="__", extra="forbid", frozen=True)

    kafka: KafkaConfig = KafkaConfig()
    store: StoreConfig = StoreConfig()
    audit: AuditConfig = AuditConfig()
    time: TimeConfig = TimeConfig()
    ops: OpsConfig = OpsConfig()
    breaker: BreakerConfig = BreakerConfig()
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

    def breaker_policy(self) -> BreakerPolicy | None:
        """What trips the breaker, by application; None where it is switched off."""
        if not self.breaker.enabled:
            return None
        own = {name: app.breaker.rule() for name, app in self.apps.items() if app.breaker is not None}
        return BreakerPolicy(self.breaker.window_length, self.breaker.rule(), own, frozenset(self.breaker.exempt))

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
