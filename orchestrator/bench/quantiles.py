"""Distributions of times as a few figures."""

from collections.abc import Sequence
from typing import Any


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return ordered[max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1)]


def spread(took: Sequence[float]) -> dict[str, Any]:
    """How many, and p50, p95, p99 and the longest, in seconds."""
    ordered = sorted(took)
    shares = {f"p{share}": round(quantile(ordered, share / 100), 3) for share in (50, 95, 99) if ordered}
    return {"measured": len(ordered), **shares, **({"max": round(ordered[-1], 3)} if ordered else {})}
