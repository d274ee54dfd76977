"""A part in a run: a thread that goes on until it is told to stop, and whose own failure is not overlooked."""

from __future__ import annotations

import threading


class Part(threading.Thread):
    """Plays :meth:`live` once. What ended it too early, if anything did, is kept in ``error``."""

    def __init__(self, name: str, stop: threading.Event) -> None:
        super().__init__(name=name)
        self.stop = stop
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.live()
        except Exception as error:  # noqa: BLE001 - reported with the run's other findings
            self.error = error
        finally:
            self.leave()

    def live(self) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        """Give back what was taken."""
