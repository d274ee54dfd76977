"""What became of several jobs that were to be cancelled, in words."""

from __future__ import annotations

from jobplatform.queue import ManyCancelled


def told(answer: ManyCancelled) -> str:
    """A sentence's worth of counts."""
    said = [f"{answer.cancelled} cancelled"]
    if answer.requested:
        said.append(f"{answer.requested} running, their workers are told to stop them")
    if answer.later:
        said.append(f"{answer.later} more in a moment")
    if answer.finished:
        said.append(f"{answer.finished} had ended")
    return "; ".join(said)
