"""Newcomers: workspaces that rang and have had less than their share, so that a claim looks at them out of turn.

With tens of thousands of workspaces that all have a backlog, one that just became ready would wait for a whole pass of
the ring. The doorbell says who rang. It is a hint like the doorbell itself: one that is lost waits for its turn.
"""

from collections.abc import Callable, Iterable
from typing import Final

#: Of the jobs that are claimed, one in so many may go to newcomers: they delay everybody else by no more than that.
ONE_IN: Final = 4
#: How many are remembered; the newest of more than that.
MOST: Final = 1_000
#: How many a claim looks at, at most.
MOST_AT_ONCE: Final = 16


class Newcomers:
    """Those that have rung and not been looked at. `is_behind` says who has had less than its share."""

    def __init__(self, is_behind: Callable[[str], bool]) -> None:
        self._is_behind = is_behind
        self._waiting: dict[str, None] = {}
        self._credit = 0.0

    def rang(self, workspaces: Iterable[str]) -> None:
        for workspace_id in workspaces:
            self._waiting[workspace_id] = None
        for oldest in list(self._waiting)[: max(0, len(self._waiting) - MOST)]:
            del self._waiting[oldest]

    def take(self, limit: int) -> list[str]:
        """Those that a claim of `limit` jobs is to look at first, and that are then no newcomers any more."""
        self._credit = min(MOST_AT_ONCE, self._credit + limit / ONE_IN)
        taken: list[str] = []
        while self._waiting and len(taken) < int(self._credit):
            workspace_id = next(iter(self._waiting))
            del self._waiting[workspace_id]
            if self._is_behind(workspace_id):
                taken.append(workspace_id)
        self._credit -= len(taken)
        return taken
