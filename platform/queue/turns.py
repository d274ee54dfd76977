"""Turns: who of many workers does a chore of the whole platform, and when it is due again.

The chore's row is the turn: who has it locked does the chore, in the same transaction, and leaves there how far it
came. A crash lets go of the lock and changes nothing, so the next one begins where the last one ended.
"""

from __future__ import annotations

import datetime
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.locks import FIRST_TURN
from jobplatform.queue.statement import run

TAKE = """
select position
from jobplatform.chores
where name = %(name)s and (due_at <= jobplatform.clock() or %(now)s)
for update skip locked
"""
# The first one ever makes the row. Under a lock that is only tried: an insert would wait for somebody else's.
MAKE = f"""
insert into jobplatform.chores (name)
select %(name)s
where not exists (select from jobplatform.chores where name = %(name)s)
    and pg_try_advisory_xact_lock({FIRST_TURN}, hashtext(%(name)s))
on conflict do nothing
"""
LEAVE = """
update jobplatform.chores
set position = %(position)s, due_at = jobplatform.clock() + make_interval(secs => %(seconds)s)
where name = %(name)s
"""


class Turn(NamedTuple):
    """A chore that is ours until the transaction ends."""

    name: str
    position: int


def take_turn(session: Session, name: str, *, now: bool = False) -> Turn | None:
    """The chore, if it is due (or ``now`` that it is asked for) and nobody else is at it. Call it in a transaction."""
    row = run(session, TAKE, name=name, now=now).one_or_none()
    if row is None and run(session, MAKE, name=name).rowcount:
        row = run(session, TAKE, name=name, now=now).one_or_none()
    return Turn(name, row[0]) if row else None


def leave_turn(session: Session, turn: Turn, position: int, due_in: datetime.timedelta) -> None:
    """Say how far it came, and when it is due again."""
    run(session, LEAVE, name=turn.name, position=position, seconds=due_in.total_seconds())
