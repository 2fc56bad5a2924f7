"""How many calls an application takes: limits by kind of call, a stock for leavers, and less of everything in trouble.

Pure: `now` is a number of seconds on a clock that only goes forward. A call is granted when no limit forbids it, and
is on record until the application can no longer count it in the window that we are about to fill:

- It counts from the grant until its answer, whatever happens in between.
- It leaves the window `seconds` after it was sent, and as much later as its answer took longer than the quickest ones:
  so much later the application may have counted it.

Ordinary calls are evenly spaced a little below the limit (`SPACING`), with at most `burst` at once after a quiet time.
Of the burst a share is kept for calls that take access away; the flow of ordinary calls costs that nothing.
"""

import heapq
from collections.abc import Iterable, Sequence
from enum import StrEnum
from fractions import Fraction
from math import ceil, floor, inf
from typing import NamedTuple

SPACING = 1.035
"""Calls are spaced by so much more than the limit says. It makes room for jitter and keeps 96 % of the limit."""
BURST = 0.1
LEAST_BURST = 3
"""Where no burst is given: the share of a limit that may go at once, and the least. It makes up for late timers;
how many go in a window is counted apart from it."""
KNOWN_AFTER = 32
"""Answers before we trust to know how long a call takes at least; the first ones open connections."""
KEPT_FOR = 4096
"""Answers after which the quickest one is forgotten at the earliest, at twice as many at the latest: the network may
have changed."""
LEAST_PACE = 1 / 16
RECOVER_SECONDS = 8.0
"""From the least pace to the full one without new trouble."""


class CallKind(StrEnum):
    """What applications count apart from each other."""

    USER_CREATE = "user_create"
    USER_WRITE = "user_write"
    GROUP_WRITE = "group_write"
    READ = "read"


class Limit(NamedTuple):
    """At most `calls` in any `seconds`, at most `burst` at once. `kind` is a kind of call, or `any` for all of them."""

    kind: str
    calls: int
    seconds: float
    burst: int | None = None


ANY = "any"


def kind_of(method: str, path: str) -> CallKind:
    """Which limit a SCIM call falls under; `path` is relative to the base URL (RFC 7644, section 3.2)."""
    resource = path.lstrip("/").partition("/")[0].partition("?")[0].lower()
    if method == "GET" or path.endswith("/.search"):
        return CallKind.READ
    if resource == "groups":
        return CallKind.GROUP_WRITE
    if resource == "users" and method == "POST":
        return CallKind.USER_CREATE
    return CallKind.USER_WRITE


def per_second(rate: float) -> Limit:
    """A limit over all kinds. `rate` may be a fraction: 0.5 is one call in two seconds."""
    exact = Fraction(rate).limit_denominator(60)
    if exact <= 0:
        exact = Fraction(1, 3600)
    return Limit(ANY, exact.numerator, float(exact.denominator))


def in_force(defaults: Iterable[Limit], configured: Iterable[Limit]) -> tuple[Limit, ...]:
    """The limits to keep: what is configured replaces what the application's dialect says of the same kind."""
    configured = tuple(configured)
    replaced = {limit.kind for limit in configured}
    return (*(limit for limit in defaults if limit.kind not in replaced), *configured)


class Bucket:
    """One limit, or a process's share of it.

    A share is rounded down to whole calls, so that all processes together never pass the whole; less than one call a
    window becomes one call in several windows.
    """

    def __init__(self, limit: Limit, *, leaver_share: float, now: float, share: float = 1.0) -> None:
        self.limit = limit
        self._leaver_share = leaver_share
        self._under_way = 0
        self._leaves: list[float] = []
        self._pace = 1.0
        self._tokens = 1.0
        self._at = now
        self._set(share)

    def _set(self, share: float) -> None:
        calls = self.limit.calls * share
        self._calls = max(floor(calls + 1e-9), 1) if share > 0 else 0
        self._window = self.limit.seconds * (max(1.0, 1 / calls) if share > 0 else 1.0)
        if self.limit.burst is not None:
            burst = self.limit.burst * share
        else:
            burst = min(max(self._calls * BURST, LEAST_BURST), self._calls)
        self._depth = max(floor(burst + 1e-9), 1)
        self._reserve = min(ceil(self._leaver_share * self._depth), self._depth - 1)

    def resize(self, share: float, now: float) -> None:
        """Take another share. What is gained comes with an empty bucket: whoever had it may just have used it."""
        self._refill(now)
        self._set(share)
        self._tokens = min(self._tokens, 1.0)

    def adapt(self, pace: float, now: float) -> None:
        """Go at this part of the limit from now on."""
        self._refill(now)
        self._pace = pace

    @property
    def _rate(self) -> float:
        return self._calls * self._pace / (self._window * SPACING) if self._calls else 0.0

    def _refill(self, now: float) -> None:
        self._tokens = min(self._tokens + (now - self._at) * self._rate, float(self._depth))
        self._at = now

    def wait(self, now: float, *, urgent: bool) -> float:
        """Seconds until a call may go out, as things stand; infinite while only an answer can make room."""
        if not self._calls:
            return inf
        self._refill(now)
        while self._leaves and self._leaves[0] <= now:
            heapq.heappop(self._leaves)
        missing = (1.0 if urgent else 1.0 + self._reserve) - self._tokens
        tokens = max(missing, 0.0) / self._rate if missing > 1e-9 else 0.0
        excess = self._under_way + len(self._leaves) - self._calls + 1
        if excess <= 0:
            return tokens
        if excess > len(self._leaves):
            return inf
        return max(tokens, heapq.nsmallest(excess, self._leaves)[-1] - now)

    def take(self, now: float) -> None:
        """One call is granted."""
        self._refill(now)
        self._tokens -= 1.0
        self._under_way += 1

    def forget(self) -> None:
        """It was not sent after all."""
        self._under_way -= 1
        self._tokens += 1.0

    def done(self, sent: float, late: float) -> None:
        """It was sent at `sent`; the application counted it then, or at most `late` seconds after."""
        self._under_way -= 1
        heapq.heappush(self._leaves, sent + self._window + late)


class Budget:
    """The limits of one application in one process. Without any, every call is granted at once."""

    def __init__(
        self, limits: Sequence[Limit] = (), *, leaver_share: float = 0.2, now: float = 0.0, share: float = 1.0
    ) -> None:
        self.share = share
        self._buckets = [Bucket(one, leaver_share=leaver_share, now=now, share=share) for one in limits]
        self._by_kind = {kind: [one for one in self._buckets if one.limit.kind in (ANY, kind)] for kind in CallKind}
        self._quickest = self._quickest_before = inf
        self._answers = 0

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What is kept, as a whole."""
        return tuple(bucket.limit for bucket in self._buckets)

    def resize(self, share: float, now: float) -> None:
        """This process holds another share of the lane's partitions, between 0 and 1."""
        self.share = share
        for bucket in self._buckets:
            bucket.resize(share, now)

    def adapt(self, pace: float, now: float) -> None:
        """Go at this part of every limit."""
        for bucket in self._buckets:
            bucket.adapt(pace, now)

    def wait(self, kind: CallKind, now: float, *, urgent: bool) -> float:
        """Seconds until such a call may go out; 0: now."""
        return max((bucket.wait(now, urgent=urgent) for bucket in self._by_kind[kind]), default=0.0)

    def take(self, kind: CallKind, now: float) -> None:
        """One call is granted."""
        for bucket in self._by_kind[kind]:
            bucket.take(now)

    def forget(self, kind: CallKind) -> None:
        """It was not sent after all."""
        for bucket in self._by_kind[kind]:
            bucket.forget()

    def done(self, kind: CallKind, sent: float, now: float) -> None:
        """It was sent at `sent` and ended now, whatever came of it."""
        if not self._by_kind[kind]:
            return
        took = now - sent
        self._answers += 1
        if self._answers % KEPT_FOR == 0:
            self._quickest_before, self._quickest = self._quickest, inf
        self._quickest = min(took, self._quickest)
        usual = min(self._quickest, self._quickest_before) if self._answers > KNOWN_AFTER else 0.0
        for bucket in self._by_kind[kind]:
            bucket.done(sent, max(took - usual, 0.0))


class Adaptive:
    """How hard we may press an application, by what it answers: additive increase, multiplicative decrease.

    `pace` is the part of every limit, lowered by refusals (429, 503). `width` is the part of the concurrency, lowered
    by refusals and by answers that take much longer than they used to: calls that queue there help nobody.
    """

    def __init__(self, now: float) -> None:
        self.pace = 1.0
        self.width = 1.0
        self._changed = now
        self._slowed = now
        self._refusals = 0
        self._usual: float | None = None
        self._recent: float | None = None

    def refused(self, now: float) -> None:
        """The application is overrun. Calls that were under way together are one refusal."""
        if now - self._changed >= 1.0 or self._refusals == 0:
            self.pace = max(self.pace / 2, LEAST_PACE)
            self.width = max(self.width / 2, LEAST_PACE)
            self._refusals += 1
            self._changed = now

    def answered(self, seconds: float, now: float) -> None:
        """An answer that was no refusal took that long."""
        self._recent = seconds if self._recent is None else self._recent + (seconds - self._recent) * 0.1
        self._usual = self._recent if self._usual is None else min(self._usual * 1.0005, self._recent)
        if self._recent > 4 * self._usual + 0.1:
            if now - self._slowed >= 1.0:
                self.width = max(self.width * 0.8, 1 / 4)
                self._slowed = self._changed = now
            return
        gained = max(now - self._changed, 0.0) / RECOVER_SECONDS
        self._changed = max(now, self._changed)
        self.pace = min(self.pace + gained, 1.0)
        self.width = min(self.width + gained, 1.0)
        if self.pace == 1.0:
            self._refusals = 0

    @property
    def own_wait(self) -> float:
        """Seconds to wait after a refusal that names no instant: doubling with each one in a row."""
        return float(min(2 ** max(self._refusals - 1, 0), 60))
