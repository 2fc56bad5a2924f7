"""What the tables of `jml.toml` have in common: the base, retries, and secrets by reference."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.errors import ConfigError


class Table(BaseModel):
    """A table of the configuration: a key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RetryConfig(Table):
    """How long to wait between attempts, and when to give up (None: never)."""

    base_seconds: float = Field(default=2, gt=0)
    max_seconds: float = Field(default=900, gt=0)
    attempts: int | None = Field(default=None, ge=1)
    parked_leaver_seconds: float = Field(default=3600, gt=0)
    """A parked leaver is tried again after half to all of this, for ever: somebody still has access."""


def referred(key: str, variable: str | None, file: Path | None) -> str:
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
