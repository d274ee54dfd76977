"""Retry or cancel whatever fits a description, a bounded portion at a time.

    1. :func:`count_matching` says how many there are now.
    2. :func:`act_on_some` takes the next of them, in the order of the primary key, and retries or cancels each as if it
       had been named. Commit, and call it with what the answer says until there is nothing left.

So no transaction is long, a job is looked at once, and jobs that are made meanwhile where it has been are left alone.
Each job is decided by its own verb: one that changed in between is counted as left.
"""

from __future__ import annotations

import datetime
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Select, case, func, select, tuple_
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, Problem, refuse
from jobplatform.models import FINAL_STATUSES, JobRecord, QueueRow, State, Status, clock, visit
from jobplatform.queue.by_hand.bulk_actions import BULK_STATUSES, DONE, PAST
from jobplatform.queue.by_hand.cancel import cancel_job
from jobplatform.queue.by_hand.retry_job import retry_one_of_many
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.kinds import kinds_of, problems_of_fields

Deed = Literal["retry", "cancel"]

#: Jobs of one portion.
MOST = 100


@dataclass(frozen=True, slots=True)
class Matching:
    """A description of jobs. None: any. ``since``: for ones that ended, those that did so within this; for live ones,
    those that were made within it."""

    workspace_id: uuid.UUID | None = None
    status: Status | None = None
    task: str | None = None
    queue: str | None = None
    since: datetime.timedelta | None = None

    def __post_init__(self) -> None:
        refuse(InvalidLimitError, problems_of_fields(self, _KINDS))


#: What each field of a description has to be.
_KINDS: Final = kinds_of(Matching.__annotations__, globals())


class Portion(NamedTuple):
    """What was done to which jobs, what became of the others (by answer), and where to go on; ``after`` is None at the
    end."""

    done: Sequence[tuple[uuid.UUID, uuid.UUID]]
    left: dict[str, int]
    after: tuple[uuid.UUID, uuid.UUID] | None


@checks_arguments()
def count_matching(session: Session, deed: Deed, matching: Matching) -> dict[str, int]:
    """How many jobs there are to retry or cancel, by status. Reads what is described, once."""
    if matching.workspace_id is not None:
        visit(session, matching.workspace_id)
    chosen = _chosen(deed, matching).subquery()
    rows = session.execute(select(chosen.c.status, func.count()).group_by(chosen.c.status).order_by(chosen.c.status))
    return {str(status): count for status, count in rows}


@checks_arguments()
def act_on_some(
    session: Session, deed: Deed, matching: Matching, *, after: tuple[uuid.UUID, uuid.UUID] | None = None
) -> Portion:
    """Retry or cancel up to 100 of the jobs, in the caller's transaction."""
    if matching.workspace_id is not None:
        visit(session, matching.workspace_id)
    table: type[JobRecord] | type[QueueRow] = JobRecord if deed == "retry" else QueueRow
    statement = _chosen(deed, matching).order_by(table.workspace_id, table.id).limit(MOST)
    if after is not None:
        statement = statement.where(tuple_(table.workspace_id, table.id) > after)
    keys = [(row.workspace_id, row.id) for row in session.execute(statement)]
    done, left = [], Counter[str]()
    for workspace_id, job_id in keys:
        answer = _ACTS[deed](session, workspace_id, job_id)
        if answer in DONE:
            done.append((workspace_id, job_id))
        else:
            left[answer] += 1
    return Portion(done, dict(left), keys[-1] if len(keys) == MOST else None)


def _cancel(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> str:
    return cancel_job(session, workspace_id, job_id).value


_ACTS: dict[Deed, Callable[[Session, uuid.UUID, uuid.UUID], str]] = {"retry": retry_one_of_many, "cancel": _cancel}


def _chosen(deed: Deed, matching: Matching) -> Select[Any]:
    """Their keys, and their statuses as numbers: what ended is in the records, what has not in the narrow table."""
    if matching.status is not None and matching.status not in BULK_STATUSES[deed]:
        can = " or ".join(BULK_STATUSES[deed])
        problem = f"a {matching.status} job cannot be {PAST[deed]}; a {can} one can"
        raise InvalidLimitError([Problem("/status", problem)])
    return _ended(matching) if deed == "retry" else _live(matching)


def _ended(matching: Matching) -> Select[Any]:
    wanted = [number for number, status in FINAL_STATUSES.items() if status in _wanted("retry", matching)]
    names = [(JobRecord.status == number, FINAL_STATUSES[number].value) for number in wanted]
    statement = select(JobRecord.workspace_id, JobRecord.id, case(*names).label("status"))
    statement = _of(statement, JobRecord, matching).where(JobRecord.status.in_(wanted))
    if matching.since is not None:
        statement = statement.where(JobRecord.completed_at > clock() - matching.since)
    return statement


def _live(matching: Matching) -> Select[Any]:
    names = case((QueueRow.state == State.RUNNING, Status.RUNNING.value), else_=Status.PENDING.value)
    statement = _of(select(QueueRow.workspace_id, QueueRow.id, names.label("status")), QueueRow, matching)
    if matching.status is not None:
        statement = statement.where(names == str(matching.status))
    if matching.since is not None:
        same = (JobRecord.workspace_id == QueueRow.workspace_id) & (JobRecord.id == QueueRow.id)
        statement = statement.join(JobRecord, same).where(JobRecord.created_at > clock() - matching.since)
    return statement


def _of(statement: Select[Any], table: type[JobRecord] | type[QueueRow], matching: Matching) -> Select[Any]:
    chosen = {table.workspace_id: matching.workspace_id, table.task: matching.task, table.queue: matching.queue}
    return statement.where(*[column == value for column, value in chosen.items() if value is not None])


def _wanted(deed: Deed, matching: Matching) -> tuple[Status, ...]:
    return (matching.status,) if matching.status else BULK_STATUSES[deed]
