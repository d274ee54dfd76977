"""The ring: where a worker is among the workspaces of each queue, how far it looks, and what it weighs there."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence

from jobplatform.queue.claim.weighing import Weighing

#: Workspaces a claim looks at, at least; few enough that a claim of one job stays under a hundred buffers.
FEWEST_WORKSPACES = 8
#: Workspaces a claim looks at, at most, when it goes on because it found nothing.
MOST_WORKSPACES = 512
#: Claims in a row that may find nothing before the worker goes back to its poll.
MOST_EMPTY_LOOKS = 64
#: Claims that weigh more than they have to, since last there was as much to weigh, before a simpler one is tried again.
WEIGHED_CLAIMS = 20

LAST = uuid.UUID(int=2**128 - 1)


class Ring:
    """Where one worker is on the ring of workspaces, for each queue it serves. Memory only: losing it costs nothing.

    ``position`` (0 to 1) is where it starts. Workers that start evenly spaced are fair to each other from the first
    round on; at random they are after a few.
    """

    def __init__(self, queues: Sequence[str], position: float | None = None) -> None:
        start = random.random() if position is None else position
        self._cursors = {queue: uuid.UUID(int=min(int(start * 2**128), LAST.int)) for queue in queues}
        self._order = list(queues)
        self._on_the_way = set(queues)
        self._empty_looks = dict.fromkeys(queues, 0)
        self._weighing = dict.fromkeys(queues, Weighing.NOTHING)
        self._weighed_claims = dict.fromkeys(queues, 0)

    @property
    def queues(self) -> Sequence[str]:
        return self._order

    def next_queues(self) -> list[str]:
        """The queues in the order this claim should try them; the first one moves on each time."""
        self._order = self._order[1:] + self._order[:1]
        return self._order

    def cursor(self, queue: str) -> uuid.UUID:
        return self._cursors[queue]

    def move(self, queue: str, workspace_id: str) -> None:
        cursor = uuid.UUID(workspace_id)
        if cursor <= self._cursors[queue]:
            self._on_the_way.discard(queue)
        self._cursors[queue] = cursor

    def nobody(self, queue: str) -> None:
        """Nobody has anything ready in this queue: nobody waits there for this round to end."""
        self._on_the_way.discard(queue)

    def came_round(self) -> bool:
        """Whether all queues' rings have been gone round since this was last answered with yes."""
        if self._on_the_way:
            return False
        self._on_the_way.update(self._cursors)
        return True

    def workspaces(self, queue: str, wanted: int) -> int:
        """How many workspaces to look at: the further, the longer nothing was found."""
        window = max(wanted, FEWEST_WORKSPACES)
        # Four times as many after each look that found nothing.
        return max(window, min(MOST_WORKSPACES, window << 2 * min(self._empty_looks[queue], 4)))

    def look_further(self, queue: str, *, found: bool, stretch_ended: bool) -> bool:
        """Whether the rest of the ring is worth another look now.

        A stretch of workspaces whose ready jobs nobody here may take is passed over at once, but not for ever: after
        :data:`MOST_EMPTY_LOOKS` the next poll goes on from where this one stopped.
        """
        self._empty_looks[queue] = 0 if found or stretch_ended else self._empty_looks[queue] + 1
        return found or 0 < self._empty_looks[queue] <= MOST_EMPTY_LOOKS

    def weighs(self, queue: str) -> Weighing:
        """The most that there was to weigh in this queue a short while ago."""
        return self._weighing[queue]

    def weighed(self, queue: str, found: Weighing) -> None:
        """A claim found this to weigh."""
        if found < self._weighing[queue] and self._weighed_claims[queue] + 1 < WEIGHED_CLAIMS:
            self._weighed_claims[queue] += 1
        else:
            self._weighing[queue] = found
            self._weighed_claims[queue] = 0
