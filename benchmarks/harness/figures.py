"""The arithmetic of the tables. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

#: In the place of a figure that there is not.
NOTHING = "\u2013"


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least ``share`` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the longest; nothing of nothing."""
    if not values:
        return {}
    return {**{f"p{share}": percentile(values, share / 100) for share in (50, 95, 99)}, "longest": max(values)}


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all are the same, 1/n when one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float]:
    """Ours to theirs, round by round. Rounds in which one of the two failed are left out."""
    return [a / b for a, b in zip(ours, theirs, strict=False) if a is not None and b]


def middle(values: Iterable[float | None]) -> float | None:
    """The median of the rounds that did not fail."""
    present = [value for value in values if value is not None]
    return median(present) if present else None


def shown(value: float | None, digits: int = 0) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"


def shown_share(value: float | None, digits: int = 0) -> str:
    return NOTHING if value is None else f"{value:.{digits}%}"


def shown_ratios(values: Sequence[float]) -> str:
    """The median, and behind it every round: a reader sees at once how much the machine drifted."""
    if not values:
        return NOTHING
    rounds = ", ".join(f"{value:.2f}" for value in values)
    return f"{median(values):.2f} ({rounds})" if len(values) > 1 else rounds
