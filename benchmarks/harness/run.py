"""What a section gets to work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.contenders import Contender
from harness.database import Databases


@dataclass(frozen=True)
class Run:
    """``quick`` asks for fewer and smaller loads: enough to see that everything works, not to publish."""

    databases: Databases
    peers: Sequence[Contender]
    rounds: int
    quick: bool
