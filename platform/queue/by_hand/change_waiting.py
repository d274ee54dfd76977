"""Change waiting: a job that has not begun gets another priority, another queue, or another moment to run at.

What waits for other jobs, or for the running one of its key, is changed too and goes on waiting for them; so is what
waits for its next attempt. A job that is being claimed at this moment is waited for, and then it has begun.
"""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, Problem, refuse
from jobplatform.models import State, visit
from jobplatform.queue.allowed import is_name
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.doorbell import ring_after_commit
from jobplatform.queue.kinds import kinds_of, problems_of_fields
from jobplatform.queue.snapshot import says_what_it_cannot_see
from jobplatform.queue.start_by import start_by
from jobplatform.queue.statement import array, in_utc, one_transaction, run

Key = tuple[uuid.UUID, uuid.UUID]

# `state + 0`: see COMPLETE. In the order of their keys, so that two who change many do not wait for each other. A row
# that somebody else moves meanwhile is waited for, and judged as it is then.
# Whoever has to begin within some time of being due has that time from the new moment on.
# The record says since when the first attempt was due, so it is told as long as there was none that counts.
_CHANGE: Final = """
with asked as materialized (
    select * from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as u(workspace_id, id)
    limit cardinality(%(ids)s::uuid[])
),
waits as materialized (
    select
        q.workspace_id, q.id, q.queue, q.state,
        case
            when not %(moved)s::bool then q.run_after
            else coalesce(%(run_after)s::timestamptz, least(q.run_after, jobplatform.clock()))
        end as due_at
    from asked a
    join jobplatform.job_queue q on q.workspace_id = a.workspace_id and q.id = a.id
    where q.state + 0 < 2
    order by q.workspace_id, q.id
    for update of q{passing}
),
changed as (
    update jobplatform.job_queue q
    set priority = coalesce(%(priority)s::smallint, q.priority),
        queue = coalesce(%(queue)s::text, q.queue),
        run_after = w.due_at,
        start_by = case
            when %(moved)s::bool and q.start_by is not null then {start_by}
            else q.start_by
        end,
        state = case
            when q.state = -1 or not %(moved)s::bool then q.state
            when w.due_at > jobplatform.clock() then 0
            else 1
        end,
        resource = q.resource
    from waits w
    where q.workspace_id = w.workspace_id and q.id = w.id
    returning
        q.workspace_id, q.id, q.queue, q.attempts, q.run_after,
        q.state = 1 and (w.state <> 1 or w.queue <> q.queue) as is_new_there
),
recorded as (
    update jobplatform.job_records r
    set priority = coalesce(%(priority)s::smallint, r.priority),
        queue = c.queue,
        run_after = case when %(moved)s::bool and c.attempts = 0 then c.run_after else r.run_after end
    from changed c
    where r.workspace_id = c.workspace_id and r.id = c.id
)
select
    a.workspace_id::text,
    a.id::text,
    c.id is not null,
    case when c.is_new_there then c.queue end,
    q.state,
    exists (select from jobplatform.job_records r where r.workspace_id = a.workspace_id and r.id = a.id)
from asked a
left join changed c on c.workspace_id = a.workspace_id and c.id = a.id
left join jobplatform.job_queue q on q.workspace_id = a.workspace_id and q.id = a.id
"""

_START_BY: Final = start_by("w.due_at", "q.start_within_ms")
CHANGE: Final = _CHANGE.format(passing="", start_by=_START_BY)
#: The same, and what somebody has locked is passed over.
CHANGE_AT_ONCE: Final = _CHANGE.format(passing=" skip locked", start_by=_START_BY)

HOLD: Final = """
select from jobplatform.job_queue where workspace_id = %(workspace_id)s and id = %(id)s for update
"""

#: In the second a row is seen as whoever moved it has left it. For that to be in vain it must have been moved back.
ROUNDS: Final = 5


class ChangeAnswer(enum.Enum):
    """What became of a request to change a job that waits."""

    CHANGED = "changed"
    RUNNING = "running"
    FINISHED = "finished"
    UNKNOWN = "unknown"
    BUSY = "busy"
    """It changed hands again and again while we looked, or is in somebody's hands; nothing was done, ask again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChange:
    """What is to be different about a job that waits, checked when it is made. None: that stays as it is.

    ``run_after`` is a moment with a time zone. ``at_once``: there is no moment any more that it waits for. Raises
    :class:`InvalidJobError` with every problem at once.
    """

    priority: int | None = None
    queue: str | None = None
    run_after: datetime.datetime | None = None
    at_once: bool = False

    def __post_init__(self) -> None:
        refuse(InvalidJobError, self._problems())

    def _problems(self) -> Iterator[Problem]:
        if self.priority is None and self.queue is None and not self.moves:
            yield Problem("", "says nothing that is to be different")
        yield from problems_of_fields(self, _KINDS)
        if isinstance(self.queue, str) and not is_name(self.queue):
            yield Problem("/queue", "is not a queue name")
        if self.run_after is not None and self.at_once:
            yield Problem("/runAfter", "cannot be a moment and at once")

    @property
    def moves(self) -> bool:
        """Whether it is about when the job runs."""
        return self.at_once or self.run_after is not None

    def as_json(self) -> dict[str, Any]:
        """What is to be different, and nothing else, as an answer of the API spells it; ``runAfter`` null is at once.

        >>> JobChange(priority=5, at_once=True).as_json()
        {'priority': 5, 'runAfter': None}
        """
        told: dict[str, Any] = {"priority": self.priority, "queue": self.queue}
        told = {name: value for name, value in told.items() if value is not None}
        if self.moves:
            told["runAfter"] = self.run_after and in_utc(self.run_after)
        return told

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Self:
        """What :meth:`as_json` told."""
        moment = told.get("runAfter")
        return cls(
            priority=told.get("priority"),
            queue=told.get("queue"),
            run_after=datetime.datetime.fromisoformat(moment) if moment else None,
            at_once="runAfter" in told and moment is None,
        )


#: What each field of a change has to be.
_KINDS: Final = kinds_of(JobChange.__annotations__, globals())


@checks_arguments()
@says_what_it_cannot_see
def change_job(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, change: JobChange) -> ChangeAnswer:
    """Change a job of a workspace that has not begun, in the caller's transaction.

    ``RUNNING`` and ``FINISHED``: it stays as it is. It keeps its attempts and whatever it waits for beside its moment;
    one that is due by the change takes its turn like everything that is ready.
    """
    visit(session, workspace_id)
    key = (workspace_id, job_id)
    return change_jobs(session, [key], change)[key]


@checks_arguments()
@says_what_it_cannot_see
def hold_job(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> None:
    """Have a job stay as it is until the caller's transaction ends: for whoever looks before changing it."""
    visit(session, workspace_id)
    run(session, HOLD, workspace_id=workspace_id, id=job_id)


def change_jobs(session: Session, keys: Sequence[Key], change: JobChange) -> dict[Key, ChangeAnswer]:
    """The same of several (workspace, job), with an answer for each."""
    answers: dict[Key, ChangeAnswer] = {}
    left = list(keys)
    with one_transaction(session):
        for _ in range(ROUNDS):
            answers |= _change(session, CHANGE, left, change)
            left = [key for key in left if answers[key] is ChangeAnswer.BUSY]
            if not left:
                break
    return answers


def change_what_is_free(session: Session, keys: Sequence[Key], change: JobChange) -> dict[Key, ChangeAnswer]:
    """The same without waiting for a job that somebody has locked: ``BUSY``."""
    return _change(session, CHANGE_AT_ONCE, keys, change)


def _change(session: Session, sql: str, keys: Sequence[Key], change: JobChange) -> dict[Key, ChangeAnswer]:
    rows = run(
        session,
        sql,
        workspace_ids=array(key[0] for key in keys),
        ids=array(key[1] for key in keys),
        # As texts: see parameters_of.
        priority=None if change.priority is None else str(change.priority),
        queue=change.queue,
        moved=str(change.moves),
        run_after=None if change.run_after is None else in_utc(change.run_after),
    ).all()
    if queues := {f"q:{row[3]}" for row in rows if row[3] is not None}:
        ring_after_commit(session, queues)
    return {(uuid.UUID(row[0]), uuid.UUID(row[1])): _answer(*row[2:]) for row in rows}


def _answer(is_changed: bool, _queue: str | None, state: int | None, is_known: bool) -> ChangeAnswer:
    if is_changed:
        return ChangeAnswer.CHANGED
    if state is None:
        return ChangeAnswer.FINISHED if is_known else ChangeAnswer.UNKNOWN
    return ChangeAnswer.RUNNING if state == State.RUNNING else ChangeAnswer.BUSY
