"""Hold: what somebody looks at before changing it stays as it is until they have. Never commits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, inspect
from sqlalchemy.orm import Session

from jobplatform.queue.statement import run


def hold_all(session: Session, model: type[Any]) -> None:
    """Nobody else makes, changes or deletes a row of this table until the caller's transaction ends; reading goes on.

    For settings, which few write and seldom. The lock of a row would not do: a limit that is not set has none, and of
    two who have both seen that, each would set it.
    """
    table: Table = inspect(model).local_table
    run(session, f"lock table {table.fullname} in share row exclusive mode")
