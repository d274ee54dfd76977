"""A progress bar in a terminal, for somebody who waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobplatform.client.jobs import Event


@contextmanager
def progress_bar_for(title: str, *, shown: bool) -> Iterator[Callable[[Event], None]]:
    """A function that takes a job's events and shows how far it is, where standard error is a terminal; nothing is
    imported for one that is not to be shown."""
    if not shown:
        yield lambda _event: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    # What a handler says is shown as it is: brackets in it are no markup.
    words = TextColumn("{task.description}", markup=False)
    console = Console(stderr=True)
    with Progress(
        words,
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        # Elsewhere it would leave the last look of the bar behind, in the midst of what a program says.
        disable=not console.is_terminal,
    ) as bar:
        row = bar.add_task(title, total=None)

        def show(event: Event) -> None:
            progress = event.progress
            if progress is not None:
                bar.update(row, completed=progress.current or 0, total=progress.total)
                bar.update(row, description=_harmless(progress.message or title))
            elif event.is_final:
                bar.update(row, description=f"{title} {event.status}")

        yield show


def _harmless(text: str) -> str:
    """Without what would move the cursor of a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
