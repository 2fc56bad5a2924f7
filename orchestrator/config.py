"""`jml.toml`: which broker, which store, which applications, and who gets what in them.

Secrets are never in the file, only the name of an environment variable or of a file that holds them. Environment
variables override the file: `JML_STORE__URL` is `[store] url`. All problems are reported at once, each with its place.
"""

import re
import tomllib
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AnyHttpUrl,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orchestrator.auth_config import AuthConfig, is_open
from orchestrator.budget_config import BreakerConfig, BreakerLimits, BudgetConfig
from orchestrator.config_tables import RetryConfig, Table
from orchestrator.dialect_config import BehavesConfig, CapabilitiesConfig, CorrelateConfig
from orchestrator.dialects import STANDARD, dialects
from orchestrator.domain.breaker import BreakerPolicy
from orchestrator.domain.budget import Limit
from orchestrator.domain.correlation import RULES, Correlation, RuleText, compile_rules
from orchestrator.domain.days import is_zone
from orchestrator.domain.ownership import FACTS, Owners
from orchestrator.domain.paths import split_path
from orchestrator.domain.policy import (
    ApplicationPolicy,
    BeforeStart,
    ExpressionError,
    Policy,
    TimeRules,
    compile_policy,
)
from orchestrator.errors import ConfigError
from orchestrator.notice_config import NoticesConfig
from schemas.changes import WorkerAttributes

EMBEDDED = "embedded"
AppName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


class KafkaConfig(Table):
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


class StoreConfig(Table):
    """The database, as a SQLAlchemy URL for an asyncio driver."""

    url: str = "sqlite+aiosqlite:///state/jml.db"

    @field_validator("url")
    @classmethod
    def _known_driver(cls, url: str) -> str:
        if not url.startswith(("sqlite+aiosqlite://", "postgresql+asyncpg://")):
            raise ValueError("begins with neither sqlite+aiosqlite:// nor postgresql+asyncpg://")
        return url


class WitnessConfig(Table):
    """A witness of the audit log: where it takes checkpoints, and the key that its signatures are verified with."""

    url: AnyHttpUrl
    key: str

    @field_validator("key")
    @classmethod
    def _is_a_witness_key(cls, text: str) -> str:
        from orchestrator.domain.signed_note import COSIGNATURE, parse_verifier

        if parse_verifier(text).kind != COSIGNATURE:
            raise ValueError("it is the key of a log, a witness has one of its own")
        return text


class AuditConfig(Table):
    """Where the auditor keeps the log, which key signs it, by reference, and who witnesses it."""

    dir: Path = Path("state/audit")
    key_env: str | None = None
    key_file: Path | None = None
    origin: str | None = None
    witnesses: tuple[WitnessConfig, ...] = ()


class PrivacyConfig(Table):
    """How long records of people who left have to be kept: `jml person erase` refuses before."""

    retention_days_after_end: int | None = Field(default=None, ge=0, le=36500)

    @property
    def retention(self) -> timedelta | None:
        """The same as a duration, from the end of the last engagement."""
        return None if self.retention_days_after_end is None else timedelta(days=self.retention_days_after_end)


END_OF_DAY = "end_of_day"


class TimeConfig(Table):
    """The zone of workers whose own zone HR does not state, and when access ends on a last day: with the day, or at an
    hour of it, `HH:MM` by the clock on the wall where the worker is."""

    default_zone: str = "UTC"
    access_ends: str = END_OF_DAY

    @property
    def hour(self) -> time | None:
        """The hour at which access ends on a last day; None: it is the end of the day."""
        return None if self.access_ends == END_OF_DAY else time.fromisoformat(self.access_ends)

    @field_validator("access_ends")
    @classmethod
    def _an_hour(cls, text: str) -> str:
        if text != END_OF_DAY and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
            raise ValueError(f"{text!r} is neither {END_OF_DAY!r} nor an hour such as '18:00'")
        return text

    @field_validator("default_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        if not is_zone(name):
            raise ValueError(f"{name!r} is no IANA time zone")
        return name


class OpsConfig(Table):
    """The endpoint for health and metrics of each role; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)


class BeforeStartConfig(Table):
    """Accounts are made so many days before the first day: `inactive` until it begins, or `active` at once."""

    days: int = Field(ge=1, le=365)
    state: Literal["inactive", "active"] = "inactive"


class AppConfig(Table):
    """One connected application. `scope`, `groups` and the values of `attributes` are CEL over `person`."""

    base_url: AnyHttpUrl
    dialect: str = STANDARD
    capabilities: CapabilitiesConfig = CapabilitiesConfig()
    behaves: BehavesConfig = BehavesConfig()
    discover: bool = True
    create_groups: bool = True
    allow_private: bool = False
    auth: AuthConfig = AuthConfig()
    concurrency: int = Field(default=16, ge=1, le=256)
    timeout_seconds: float = Field(default=15, gt=0)
    scope: str = "true"
    groups: str = "[]"
    attributes: dict[str, str]
    unique: tuple[str, ...] = ()
    correlate: tuple[str | CorrelateConfig, ...] = ()
    write_once: tuple[str, ...] = ()
    never_write: tuple[str, ...] = ()
    identity_from: str | None = None
    identity: tuple[str, ...] = ("userName", "externalId")
    leave_of_absence: Literal["keep", "deactivate"] = "keep"
    remove_groups: bool = True
    delete_after_days: int | None = Field(default=None, ge=0, le=36500)
    before_start: BeforeStartConfig | None = None
    retry: RetryConfig = RetryConfig()
    budget: BudgetConfig = BudgetConfig()
    breaker: BreakerLimits | None = None
    max_members_per_patch: int = Field(default=500, ge=1)
    bulk: bool = False
    reconcile_every_hours: float | None = Field(default=None, ge=0.1, le=8760)
    reconcile_fix: bool = False

    @field_validator("base_url")
    @classmethod
    def _holds_no_secret(cls, url: AnyHttpUrl) -> AnyHttpUrl:
        if url.username or url.password:
            raise ValueError("holds credentials: name them under auth, by reference")
        return url

    @field_validator("dialect")
    @classmethod
    def _known_dialect(cls, name: str) -> str:
        if name not in dialects():
            raise ValueError(f"there is no dialect {name!r}; the dialects are {', '.join(dialects())}")
        return name

    @field_validator("attributes")
    @classmethod
    def _has_user_name(cls, attributes: dict[str, str]) -> dict[str, str]:
        if "userName" not in attributes:
            raise ValueError("userName is missing: SCIM requires it (RFC 7643, section 4.1.1)")
        for name in ("active", "id", "groups", "password", "meta", "schemas"):
            if name in attributes:
                raise ValueError(f"{name} cannot be mapped: the orchestrator or the application sets it")
        return attributes

    @model_validator(mode="after")
    def _knows_whose_a_name_is(self) -> "AppConfig":
        if self.unique and "externalId" not in self.attributes:
            raise ValueError("unique needs externalId among the attributes: such a name does not say whose it is")
        return self

    @model_validator(mode="after")
    def _sends_no_secret_in_the_open(self) -> "AppConfig":
        for name, url in (("base_url", self.base_url), ("auth.token_url", self.auth.token_url)):
            if url is not None and self.auth.names_a_secret and not self.allow_private and is_open(url):
                raise ValueError(
                    f"{name} is not https, so the credentials could be read on the way; "
                    "http is for applications inside, with allow_private = true"
                )
        return self

    @model_validator(mode="after")
    def _keeps_its_word(self) -> "AppConfig":
        for path in self.attributes:
            if any(path == banned or path.startswith(f"{banned}.") for banned in self.never_write):
                raise ValueError(f"attributes.{path} is mapped and is under never_write: take it out of one of them")
        return self

    @model_validator(mode="after")
    def _fixes_what_it_reads(self) -> "AppConfig":
        if self.reconcile_fix and self.reconcile_every_hours is None:
            raise ValueError("reconcile_fix has no effect without reconcile_every_hours: say how often")
        return self

    @model_validator(mode="after")
    def _can_use_bulk(self) -> "AppConfig":
        if not self.bulk:
            return self
        dialect = dialects()[self.dialect]
        if self.capabilities.known().over(dialect.capabilities).bulk is False:
            raise ValueError(f"bulk has no effect: {dialect.title} has no Bulk; take it out")
        if self.concurrency < 2:
            raise ValueError("bulk needs a concurrency of 2 at least: one slot is left for whoever leaves")
        return self

    @property
    def reconcile_every(self) -> timedelta | None:
        """How often the scheduler reconciles; None: never."""
        return None if self.reconcile_every_hours is None else timedelta(hours=self.reconcile_every_hours)

    def limits(self) -> tuple[Limit, ...]:
        """How many calls the application takes: what its dialect knows, unless the operator knows better."""
        return self.budget.limits(dialects()[self.dialect].limits)

    def policy(self, app: str) -> ApplicationPolicy:
        """The part that decides who gets what."""
        return ApplicationPolicy(
            app=app,
            attributes=self.attributes,
            scope=self.scope,
            groups=self.groups,
            leave_of_absence=self.leave_of_absence,
            remove_groups=self.remove_groups,
            unique=self.unique,
            write_once=self.write_once,
            identity_from=self.identity_from,
            identity=tuple(one for one in self.identity if one in self.attributes) if self.identity_from else (),
            delete_after=None if self.delete_after_days is None else timedelta(days=self.delete_after_days),
            before_start=BeforeStart(self.before_start.days, self.before_start.state) if self.before_start else None,
        )


class Config(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(env_prefix="JML_", env_nested_delimiter="__", extra="forbid", frozen=True)

    kafka: KafkaConfig = KafkaConfig()
    store: StoreConfig = StoreConfig()
    audit: AuditConfig = AuditConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    time: TimeConfig = TimeConfig()
    notices: NoticesConfig = NoticesConfig()
    ops: OpsConfig = OpsConfig()
    breaker: BreakerConfig = BreakerConfig()
    apps: dict[AppName, AppConfig] = Field(default_factory=dict)
    owners: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Which sources may state an attribute: `email = ["idp/*"]`."""
    lookups: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Tables for the function `lookup` of expressions."""

    @field_validator("owners")
    @classmethod
    def _known_attributes(cls, owners: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, patterns in owners.items():
            if name not in {*WorkerAttributes.model_fields, *FACTS} and not name.startswith("custom."):
                raise ValueError(f"{name} is no attribute that a source states")
            if not patterns:
                raise ValueError(f"{name} is owned by nobody: name the sources, or leave it out")
        return owners

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
        policy, problems = self.compiled()
        if policy is None:
            raise ConfigError([str(problem) for problem in problems])
        return policy

    def compiled(self) -> tuple[Policy | None, list[ExpressionError]]:
        """The policy, or everything that keeps it from compiling."""
        policy, problems = compile_policy(
            self.policies(),
            self.time.default_zone,
            self.time_rules(),
            tables=self.lookups,
            owners=Owners(self.owners),
        )
        problems += [problem for app in self.apps for problem in self._correlation(app)[1]]
        return (None if problems else policy), problems

    def correlation(self, app: str) -> Correlation:
        """By which rules an application's accounts are found. `load_config` has proved that they compile."""
        return self._correlation(app)[0]

    def _correlation(self, app: str) -> tuple[Correlation, list[ExpressionError]]:
        settings = self.apps[app]
        dialect = settings.behaves.over(dialects()[settings.dialect])
        return compile_rules(
            app,
            [one.text() if isinstance(one, CorrelateConfig) else RuleText(one) for one in settings.correlate],
            by_default=dialect.lookup or RULES,
            attributes=settings.attributes,
            tables=self.lookups,
            unique=tuple(tuple(split_path(path)) for path in settings.unique),
            default_zone=self.time.default_zone,
            access_ends=self.time.hour,
        )

    def time_rules(self) -> TimeRules:
        """When access ends on a last day, and when people are warned of it."""
        notices = self.notices
        return TimeRules(self.time.hour, notices.contract_end_days, notices.entitlement_end_days)

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
    _, problems = config.compiled()
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

# The log that is the evidence. `jml audit key generate NAME` makes the key that signs it.
[audit]
dir = "state/audit"
key_file = "audit.key"

[time]
default_zone = "UTC"

# How long records of people who left have to be kept: `jml person erase` refuses before.
[privacy]
retention_days_after_end = 0

[apps.directory]
base_url = "http://localhost:9001/scim/v2"
allow_private = true # loopback and private networks are refused otherwise
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
