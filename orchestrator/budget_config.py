"""`[apps.X.budget]` and `[breaker]` of `jml.toml`: how many calls an application takes, and what is held."""

import re
from collections.abc import Iterable
from datetime import timedelta

from pydantic import Field, field_validator

from orchestrator.config_tables import Table
from orchestrator.domain.breaker import EXEMPTIONS, Rule
from orchestrator.domain.budget import CallKind, Limit, in_force, per_second


class RateConfig(Table):
    """At most `calls` in any `seconds`, at most `burst` of them at once (default: a tenth of the calls)."""

    calls: int = Field(ge=1)
    seconds: float = Field(default=60, gt=0, le=86400)
    burst: int | None = Field(default=None, ge=1)


class BudgetConfig(Table):
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


class BreakerLimits(Table):
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
