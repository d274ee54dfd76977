"""A progress bar in a terminal, for somebody who waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobplatform.client.jobs import Event


@contextmanager
def progress_bar_for(title: str, *, shown: bool) -> Iterator[Callable[[Event], None]]:
    """A function that takes a job's events and shows how far it is; nothing is imported for one that is not shown."""
    if not shown:
        yield lambda _event: None
        return
    from rich.progress import Progress as Bar

    with Bar() as bar:
        row = bar.add_task(title, total=None)

        def show(event: Event) -> None:
            progress = event.progress
            if progress is not None:
                bar.update(row, completed=progress.current or 0, total=progress.total)
                bar.update(row, description=progress.message or title)
            elif event.is_final:
                bar.update(row, description=f"{title} {event.status}")

        yield show
