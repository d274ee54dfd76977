"""Patience: what a worker does for everybody waits only a moment for what somebody else has locked.

Whoever has a transaction open may leave it open for minutes. Meanwhile a chore that waits for one row of it would do
nothing for anybody else, and a worker that wants to write down how attempts ended would write down none.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jobplatform.queue.statement import run

#: Milliseconds. A statement of ours takes a few, so whoever has a lock for longer may have it for much longer.
PATIENCE_MS: Final = 100

_LOCK_NOT_AVAILABLE: Final = "55P03"


def wait_briefly(session: Session) -> None:
    """From here to the end of the transaction, raise rather than wait for a lock for long."""
    run(session, f"set local lock_timeout = '{PATIENCE_MS}ms'")


def always_wait_briefly(session: Session, milliseconds: int = PATIENCE_MS) -> None:
    """The same for as long as the connection lasts, which commits each statement and has a backend of its own."""
    run(session, f"set lock_timeout = '{milliseconds}ms'")


def out_of_patience(error: DBAPIError) -> bool:
    """Whether somebody else had locked it."""
    return getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE
