"""What is told at a worker's port: is it alive, is it ready, and its numbers."""

from __future__ import annotations

from time import monotonic
from typing import Final

from jobplatform.metrics import SLOTS, Labels, Rows, write_page
from jobplatform.worker.hub import LONGEST_SLEEP, Hub
from jobplatform.worker.port import Page, Port
from jobplatform.worker.slot import State
from jobplatform.worker.tally import Tally

#: Seconds without a turn of the main loop after which the process only looks alive. It sleeps ten at most.
STUCK_SECONDS: Final = 3 * LONGEST_SLEEP

_WORDS: Final = {State.STARTING: "starting", State.IDLE: "idle"}


def open_port(hub: Hub, tally: Tally, host: str, port: int) -> Port:
    """Listen, and have the hub count from now on. Raises SettingsError when the address cannot be had."""
    opened = Port(
        host,
        port,
        {
            "/livez": lambda: livez(hub),
            "/readyz": lambda: readyz(hub),
            "/metrics": lambda: metrics(hub, tally),
        },
    )
    opened.start()
    return opened


def livez(hub: Hub) -> Page:
    """Whether the main loop turns. Nothing about the database: a restart of this process would not bring it back."""
    silent = monotonic() - hub.turned_at
    if silent > STUCK_SECONDS:
        return Page(503, f"the main loop has not turned for {silent:.0f} s\n".encode())
    return Page(200, b"ok\n")


def readyz(hub: Hub) -> Page:
    """Whether it takes jobs; if not, what is in the way."""
    obstacle = hub.obstacle
    return Page(503, f"{obstacle}\n".encode()) if obstacle else Page(200, b"ready\n")


def metrics(hub: Hub, tally: Tally) -> Page:
    body, content_type = write_page([*tally.families(), (SLOTS, _slots(hub))])
    return Page(200, body, content_type)


def _slots(hub: Hub) -> Rows:
    counts: dict[Labels, float] = dict.fromkeys([("busy",), ("idle",), ("starting",), ("leaving",)], 0)
    for slot in list(hub.pool.slots.values()):
        counts[(_word(slot.state),)] += 1
    return counts


def _word(state: State) -> str:
    if state in (State.LEAVING, State.LOST):
        return "leaving"
    return _WORDS.get(state, "busy")
