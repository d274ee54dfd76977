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
    all_peers: Sequence[Contender]
    rounds: int
    quick: bool

    @property
    def peers(self) -> Sequence[Contender]:
        """Those that take part everywhere."""
        return [peer for peer in self.all_peers if not peer.takes_part_in]

    def peers_in(self, section: str) -> Sequence[Contender]:
        return [peer for peer in self.all_peers if section in (peer.takes_part_in or [section])]
