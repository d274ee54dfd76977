"""Alternating rounds: every contender once, then every contender again, in another order.

A machine drifts, by a factor of two within minutes. A number means something only beside its partner's of
the same round, so results are kept round by round and compared that way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from harness.programs import ProgramError
from harness.run import Run


class Named(Protocol):
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Part:
    """One measurement of a section that is about ourselves alone; parts take turns like contenders."""

    name: str
    measure: Callable[[Run], dict[str, float]]


C = TypeVar("C", bound=Named)

Rounds = dict[str, list[dict[str, float] | None]]


def alternate(title: str, contenders: Sequence[C], rounds: int, measure: Callable[[C], dict[str, float]]) -> Rounds:
    """Figures by contender and round; ``None`` where the contender failed."""
    results: Rounds = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in _turned(contenders, number):
            results[contender.name].append(_measured(title, number, contender, measure))
    return results


def column(results: Rounds, contender: str, figure: str) -> list[float | None]:
    return [None if entry is None else entry.get(figure) for entry in results[contender]]


def _turned(contenders: Sequence[C], number: int) -> list[C]:
    """Nobody always comes after the same neighbour's vacuum."""
    start = number % max(1, len(contenders))
    return [*contenders[start:], *contenders[:start]]


def _measured(
    title: str, number: int, contender: C, measure: Callable[[C], dict[str, float]]
) -> dict[str, float] | None:
    try:
        figures = measure(contender)
    except ProgramError as error:
        print(f"  {title}, round {number + 1}, {contender.name}: FAILED: {error}", flush=True)
        return None
    summary = ", ".join(f"{name} {value:,.4g}" for name, value in figures.items())
    print(f"  {title}, round {number + 1}, {contender.name}: {summary}", flush=True)
    return figures
