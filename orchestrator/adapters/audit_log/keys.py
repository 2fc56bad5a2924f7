"""The key that signs the log: by reference on a broker that lasts, made at the first start on the embedded one."""

import os
from pathlib import Path
from secrets import token_hex

from orchestrator.config import AuditConfig
from orchestrator.domain.signed_note import (
    ED25519,
    NoteError,
    SigningKey,
    VerifierKey,
    generate_key,
    parse_signing,
    parse_verifier,
)
from orchestrator.errors import ConfigError, UserError

PUBLIC = ".pub"
"""What the name of a key's file has more where it is that of the verifier key."""
KEY = "key"
"""In the log's folder, on the embedded broker only: a key beside the log protects from nobody who can write there."""


def signing_key(config: AuditConfig, *, embedded: bool) -> SigningKey:
    """The configured key. Raises ConfigError, which says how to make one."""
    if config.key_file is not None:
        key = _read(config.key_file, "audit.key_file")
    elif config.key_env is not None:
        if not (text := os.environ.get(config.key_env)):
            raise ConfigError([f"audit.key_env: the environment variable {config.key_env} is not set"])
        key = _parse(text, f"audit.key_env: {config.key_env}")
    elif embedded:
        path = config.dir / KEY
        if not path.exists():
            write_key(generate_key(config.origin or f"jml/{token_hex(4)}"), path)
        key = _read(path, "audit.dir")
    else:
        raise ConfigError(
            ["audit: no key signs the audit log: make one with `jml audit key generate`, and name it in audit.key_file"]
        )
    if key.kind != ED25519:
        raise ConfigError(["audit: the key is one of a witness; a log has one of its own"])
    if config.origin is not None and config.origin != key.name:
        raise ConfigError([f"audit.origin: {config.origin!r} is not the name of the key, {key.name!r}"])
    return key


def configured_verifiers(config: AuditConfig) -> list[VerifierKey]:
    """What verifies the configured key: the keys in the file beside it (earlier ones may be added there), else its own.

    None where this machine has neither, or where they lie in the log's own folder. Raises ConfigError for damaged ones.
    """
    if (path := config.key_file) is not None:
        if path.absolute().is_relative_to(config.dir.absolute()):
            return []
        public = path.with_name(path.name + PUBLIC)
        if public.exists():
            return [_verifier(line, f"audit.key_file: {public}") for line in public.read_text().split()]
        if not os.access(path, os.R_OK):
            return []
    elif config.key_env is None or not os.environ.get(config.key_env):
        return []
    return [signing_key(config, embedded=False).verifier]


def write_key(key: SigningKey, path: Path) -> Path:
    """Write a key that only its owner can read, and the verifier key beside it; returns the latter's path.

    Raises UserError where there is one already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UserError(f"{path} exists already; a key that is lost cannot be made again, so it is kept") from None
    with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(key.private_text() + "\n")
        file.flush()
        os.fsync(file.fileno())
    public = path.with_name(path.name + PUBLIC)
    public.write_text(f"{key.verifier}\n")
    return public


def read_key(path: Path) -> SigningKey:
    """A key from a file. Raises ConfigError."""
    return _read(path, str(path))


def _read(path: Path, place: str) -> SigningKey:
    try:
        return _parse(path.read_text(), f"{place}: {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{place}: {path}: {getattr(error, 'strerror', None) or 'is no text'}"]) from None


def _parse(text: str, place: str) -> SigningKey:
    try:
        return parse_signing(text)
    except NoteError as error:
        raise ConfigError([f"{place}: {error}"]) from None


def _verifier(text: str, place: str) -> VerifierKey:
    try:
        return parse_verifier(text)
    except NoteError as error:
        raise ConfigError([f"{place}: {error}"]) from None
