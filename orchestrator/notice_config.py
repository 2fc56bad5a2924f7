"""`[notices]` of `jml.toml`: when people are warned, and how they are told."""

from base64 import b64decode
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, Field, field_validator, model_validator

from orchestrator.config_tables import RetryConfig, Table, referred
from orchestrator.domain.notices import Receivers, is_address
from orchestrator.errors import ConfigError

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
_Days = Annotated[int, Field(ge=0, le=3650)]


class WebhookConfig(Table):
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
        secret = referred("notices.webhook.secret", self.secret_env, self.secret_file)
        try:
            key = b64decode(secret.removeprefix("whsec_") + "==")
        except ValueError:
            key = b""
        if not secret.startswith("whsec_") or not 24 <= len(key) <= 64:
            raise ConfigError(["notices.webhook.secret: is not whsec_ and the base64 of 24 to 64 bytes"])
        return secret


class EmailConfig(Table):
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
        return referred("notices.email.password", self.password_env, self.password_file)


class NoticesConfig(Table):
    """How many days before an end its warnings are issued, and who is told of them and of ends that could not be
    enforced. Without receivers the notices stay on their topic."""

    contract_end_days: tuple[_Days, ...] = (30, 14, 7, 1)
    entitlement_end_days: tuple[_Days, ...] = (7, 1)
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
