"""Which tasks are the platform's own: what it enqueues for itself, and nobody asks for from outside the code. Pure.

A delivery of a webhook is signed whoever enqueued it, so whoever could enqueue one would have us sign what they like.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "jobplatform."
#: Named before there was a prefix.
EXPIRE_EXPORTS: Final = "export.expire"


def is_own_task(name: str) -> bool:
    """Whether the task of this name is one of the platform itself."""
    return name.startswith(PREFIX) or name == EXPIRE_EXPORTS
