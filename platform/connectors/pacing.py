"""The pace at which an account of a source is asked, by all who do: its rate, and the breaks that it asks for.

Nothing is counted. Of a rate only one moment is kept, when all of it is free again; each request moves it on by its
share, and one that would move it too far does not have its turn. That is one statement, so two workers that ask at the
same time cannot take the same turn.
"""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Result, text
from sqlalchemy.orm import Session

from jobplatform.connectors.keeping import Rate
from jobplatform.models import SourceLimit

#: A source that asks for more than a day is not busy but gone.
LONGEST_CLOSING = 86_400.0

# The row is read and written under its lock: of two that come at the same time the second sees what the first took.
TAKE = """
insert into jobplatform.source_limits as l (workspace_id, resource, full_at)
values (:workspace_id, :resource, jobplatform.clock() + make_interval(secs => :share))
on conflict (workspace_id, resource) do update
set full_at = greatest(l.full_at, jobplatform.clock()) + make_interval(secs => :share)
where coalesce(l.closed_until <= jobplatform.clock(), true)
    and greatest(l.full_at, jobplatform.clock()) + make_interval(secs => :share)
        <= jobplatform.clock() + make_interval(secs => :whole)
returning true
"""
# Asked in the same transaction after a turn was refused: never 0 then, or the turn would be taken for granted.
WAIT = """
select greatest(
    0.01,
    extract(epoch from l.closed_until - jobplatform.clock()),
    extract(epoch from l.full_at - jobplatform.clock()) + :share - :whole
)::float8
from jobplatform.source_limits l
where l.workspace_id = :workspace_id and l.resource = :resource
"""
CLOSED = """
select extract(epoch from l.closed_until - jobplatform.clock())::float8
from jobplatform.source_limits l
where l.workspace_id = :workspace_id and l.resource = :resource and l.closed_until > jobplatform.clock()
"""
CLOSE = """
insert into jobplatform.source_limits as l (workspace_id, resource, closed_until)
values (:workspace_id, :resource, jobplatform.clock() + make_interval(secs => :seconds))
on conflict (workspace_id, resource) do update
set closed_until = greatest(l.closed_until, excluded.closed_until)
"""
FORGET = """
delete from jobplatform.source_limits
where workspace_id = :workspace_id
    and (resource = :resource or left(resource, length(cast(:resource as text)) + 1) = :resource || ':')
"""


def take_turn(session: Session, workspace_id: uuid.UUID, resource: str, rate: Rate | None) -> float:
    """Take a turn at a resource and answer 0, or in how many seconds to ask for one again."""
    if rate is None:
        return float(_run(session, CLOSED, workspace_id=workspace_id, resource=resource).scalar() or 0.0)
    facts = {
        "workspace_id": workspace_id,
        "resource": resource,
        "share": rate.share,
        # A hair more than a whole, or the last of them would be lost in rounding.
        "whole": rate.share * rate.at_once + min(0.001, rate.share / 100),
    }
    if _run(session, TAKE, **facts).scalar():
        return 0.0
    return float(_run(session, WAIT, **facts).scalar_one())


def close_resource(session: Session, workspace_id: uuid.UUID, resource: str, seconds: float) -> None:
    """Have nobody ask a resource for so long, or for longer if that was said before."""
    _run(session, CLOSE, workspace_id=workspace_id, resource=resource, seconds=min(seconds, LONGEST_CLOSING))


def forget_resource(session: Session, workspace_id: uuid.UUID, resource: str) -> None:
    """Of a connection that goes: nothing is known of its pace any more, nor of its parts'."""
    _run(session, FORGET, workspace_id=workspace_id, resource=resource)


def _run(session: Session, statement: str, **parameters: Any) -> Result[Any]:
    return session.execute(text(statement), parameters, bind_arguments={"mapper": SourceLimit.__mapper__})
