"""How the orchestrator proves to an application who it is: `[apps.X] auth`. Secrets by reference only."""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, model_validator

from orchestrator.errors import ConfigError

_NEEDED = {
    "bearer": (),
    "basic": ("user", "password"),
    "oauth2": ("token_url", "client_id", "client_secret"),
    "private_key_jwt": ("token_url", "client_id", "private_key_file"),
    "mtls": ("cert_file",),
}


_SECRETS: tuple[Literal["token", "password", "client_secret", "private_key"], ...] = (
    "token",
    "password",
    "client_secret",
    "private_key",
)


def can_be_header(text: str) -> bool:
    """Whether a header can carry it; a line break in it would begin another header."""
    return text.isascii() and text.isprintable()


def is_open(url: AnyHttpUrl) -> bool:
    """Whether a call to an address outside goes unencrypted. Whatever is at a private address is judged when it is
    called."""
    if url.scheme == "https" or url.host is None or url.host == "localhost":
        return False
    try:
        return ip_address(url.host.strip("[]")).is_global
    except ValueError:
        return True


class AuthConfig(BaseModel):
    """Credentials of one application. A secret is named by `..._env` or `..._file`, never written down.

    `bearer`: a token. `basic`: user and password (RFC 7617). `oauth2`: client credentials (RFC 6749, section 4.4).
    `private_key_jwt`: the same, the client proving itself with a signed assertion (RFC 7523). `mtls`: nothing but a
    client certificate, which may accompany the others too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["bearer", "basic", "oauth2", "private_key_jwt", "mtls"] = "bearer"
    token_env: str | None = None
    token_file: Path | None = None
    user: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    token_url: AnyHttpUrl | None = None
    client_id: str | None = None
    client_secret_env: str | None = None
    client_secret_file: Path | None = None
    scope: str | None = None
    audience: str | None = None
    private_key_file: Path | None = None
    key_id: str | None = None
    algorithm: Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"] = "RS256"
    cert_file: Path | None = None
    key_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name in _NEEDED[self.type]:
            given = [getattr(self, known, None) for known in (name, f"{name}_env", f"{name}_file")]
            if not any(given):
                secret = f"{name}_env" in type(self).model_fields
                raise ValueError(f"type {self.type!r} needs {f'{name}_env or {name}_file' if secret else name}")
        return self

    @property
    def names_a_secret(self) -> bool:
        """Whether something is sent that nobody else may read."""
        return any(getattr(self, f"{name}_{by}", None) for name in _SECRETS for by in ("env", "file"))

    def token(self, app: str) -> str | None:
        """The bearer token, read at start; None where there is none. Raises ConfigError as `secret` does, and for one
        that no header can carry (RFC 6750, section 2.1)."""
        token = self.secret(app, "token")
        if token is not None and not can_be_header(token):
            name = "token_file" if self.token_file is not None else "token_env"
            raise ConfigError([f"apps.{app}.auth.{name}: holds a line break or another character that no token has"])
        return token

    def secret(self, app: str, name: Literal["token", "password", "client_secret", "private_key"]) -> str | None:
        """A secret, read at start. Raises ConfigError where the reference leads nowhere."""
        path: Path | None = getattr(self, f"{name}_file", None)
        if path is not None:
            try:
                return path.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "is no text"
                raise ConfigError([f"apps.{app}.auth.{name}_file: {path}: {reason}"]) from None
        variable: str | None = getattr(self, f"{name}_env", None)
        if variable is not None:
            value = os.environ.get(variable, "").strip()  # a file with Windows line ends leaves one behind
            if not value:
                raise ConfigError([f"apps.{app}.auth.{name}_env: the environment variable {variable} is not set"])
            return value
        return None

    def problems(self, app: str) -> list[str]:
        """References that lead nowhere."""
        found: list[str] = []
        for name in _SECRETS:
            try:
                self.token(app) if name == "token" else self.secret(app, name)
            except ConfigError as error:
                found += error.problems
        for field in ("cert_file", "key_file", "ca_file"):
            path: Path | None = getattr(self, field)
            if path is not None and not path.is_file():
                found.append(f"apps.{app}.auth.{field}: {path}: there is no such file")
        return found
