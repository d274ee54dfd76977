"""Bulk actions: retry, cancel, delete or change all that a search finds, done by workers and watched by whoever asked.

    1. :func:`preview_bulk` says what it would be.
    2. :func:`begin_bulk` writes a row; a worker takes it within seconds.
    3. :func:`continue_bulk`, by whichever worker comes first: the next 200 jobs, each decided by its own verb, and the
       row, in one transaction. A worker that dies in between has done nothing, and the next one goes on.
    4. :func:`stop_bulk` ends it after the round that is just being done.

It goes from the newest job to the oldest and looks at each once. Jobs that were made after it was asked for are left
alone, and so is one that changed meanwhile: what became of it is counted by reason.
"""

from __future__ import annotations

import datetime
import functools
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.errors import InvalidJobError, Problem, SearchError
from jobplatform.models import BulkActionRow, Status, clock
from jobplatform.queue.audit import record
from jobplatform.queue.by_hand.cancel_many import cancel_each, tell_cancelled
from jobplatform.queue.by_hand.change_waiting import ChangeAnswer, JobChange, change_jobs, change_what_is_free
from jobplatform.queue.by_hand.delete import DELETED, delete_jobs
from jobplatform.queue.by_hand.retry_job import RetryKind, retry_one_of_many
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.find import Capped, JobLine, Key, count_statuses, find_jobs, find_keys
from jobplatform.queue.find.search import Search, parse_search
from jobplatform.queue.patience import out_of_patience, wait_briefly
from jobplatform.queue.safe_json import safe_text
from jobplatform.queue.statement import one_transaction, run, savepoint

BulkDeed = Literal["retry", "cancel", "delete", "change"]

#: Jobs that are decided in one transaction.
PORTION: Final = 200
#: What each can be done to.
BULK_STATUSES: Final[Mapping[BulkDeed, tuple[Status, ...]]] = {
    "retry": (Status.FAILED, Status.CANCELLED),
    "cancel": (Status.PENDING, Status.RUNNING),
    "delete": (Status.COMPLETED, Status.FAILED, Status.CANCELLED),
    "change": (Status.PENDING,),
}
#: Finished ones are kept so long.
KEEP: Final = datetime.timedelta(days=30)
#: Jobs that a preview shows.
SAMPLE: Final = 5

TAKE: Final = """
select id
from jobplatform.bulk_actions
where state in ('waiting', 'running')
order by created_at, id
limit 1
for update skip locked
"""
FORGET: Final = """
delete from jobplatform.bulk_actions
where ended_at < jobplatform.clock() - make_interval(secs => %(after)s)
"""


@dataclass(frozen=True, slots=True)
class BulkPreview:
    """What a bulk action would be about: how many jobs, by status, and the newest of them."""

    matching: Capped
    by_status: Mapping[Status, Capped]
    sample: tuple[JobLine, ...]


@dataclass(frozen=True, slots=True)
class BulkAction:
    """A bulk action, and how far it is. ``left_alone`` counts the jobs to which it could not be done, by reason.

    ``arguments``: of a change, what is to be different, as the API spells it. ``state``: ``waiting``, ``running``,
    ``done``, ``stopped``, or ``failed`` with an ``error``. ``expected`` is what whoever asked was told.
    """

    id: uuid.UUID
    deed: str
    arguments: Mapping[str, Any]
    search: str
    actor: str
    state: str
    expected: int | None
    looked_at: int
    done: int
    left_alone: Mapping[str, int]
    error: str | None
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None

    @property
    def has_ended(self) -> bool:
        return self.ended_at is not None


@checks_arguments()
def preview_bulk(session: Session, deed: BulkDeed, search: Search) -> BulkPreview:
    """How many jobs there are to do it to, capped, and the newest few.

    Raises :class:`SearchError` when the search can find none to which it can be done.
    """
    wanted = _narrowed(deed, search)
    by_status = count_statuses(session, wanted, wanted.statuses)
    total = Capped(sum(one.count for one in by_status.values()), any(one.more for one in by_status.values()))
    by_status = {status: count for status, count in by_status.items() if count.count}
    return BulkPreview(total, by_status, find_jobs(session, wanted, limit=SAMPLE).jobs)


@checks_arguments()
def begin_bulk(
    session: Session,
    deed: BulkDeed,
    search: Search,
    *,
    actor: str,
    expected: int | None = None,
    change: JobChange | None = None,
) -> BulkAction:
    """Ask for it, in the caller's transaction. An operator's Session; write the audit line beside it.

    The deed ``change`` takes a ``change``, and no other does. Raises :class:`SearchError` when the search can find none
    to which it can be done.
    """
    if (deed == "change") != (change is not None):
        raise InvalidJobError([Problem("/change", f"{'is needed for' if change is None else 'is not for'} {deed!r}")])
    row = BulkActionRow(
        id=uuid7(),
        deed=deed,
        arguments=change.as_json() if change else {},
        search=_narrowed(deed, search).text,
        actor=actor,
        expected=expected,
        left_alone={},
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return _seen(row)


@checks_arguments()
def find_bulk(session: Session, action_id: uuid.UUID) -> BulkAction | None:
    """A bulk action as it is now, or None."""
    row = session.get(BulkActionRow, action_id, populate_existing=True)
    return None if row is None else _seen(row)


@checks_arguments()
def list_bulk(session: Session, *, limit: int = 20, before: uuid.UUID | None = None) -> Sequence[BulkAction]:
    """The newest first. ``before`` is the id of the last one seen."""
    statement = select(BulkActionRow).order_by(BulkActionRow.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(BulkActionRow.id < before)
    return [_seen(row) for row in session.scalars(statement, execution_options={"populate_existing": True})]


@checks_arguments()
def stop_bulk(session: Session, action_id: uuid.UUID) -> bool:
    """End it: what is done stays done. Waits for the round that is just being done; says whether it had not ended."""
    row = session.get(BulkActionRow, action_id, populate_existing=True, with_for_update=True)
    if row is None or row.ended_at is not None:
        return False
    row.state, row.ended_at = "stopped", session.scalar(select(clock()))
    session.flush()
    return True


def continue_bulk(session: Session) -> bool:
    """The next portion of the oldest action that has not ended; False when there is none, or others are at it.

    On a connection that commits each statement it raises rather than wait for a job that somebody has locked: another
    round of this portion is due then.
    """
    with one_transaction(session) as ours:
        if ours:
            wait_briefly(session)
        action_id = run(session, TAKE).scalar_one_or_none()
        if action_id is None:
            return False
        _do_portion(session, action_id)
    return True


def forget_bulk(session: Session) -> None:
    """Delete actions that ended long ago."""
    run(session, FORGET, after=KEEP.total_seconds())


def _do_portion(session: Session, action_id: uuid.UUID) -> None:
    row = session.get_one(BulkActionRow, action_id, populate_existing=True)
    now = session.scalar(select(clock()))
    row.state, row.started_at = "running", row.started_at or now
    try:
        act = _act_of(row)
        found = find_keys(
            session, parse_search(row.search), limit=PORTION, before=row.position, made_until=row.created_at
        )
    except (SearchError, InvalidJobError) as error:
        # Nothing has been looked at in this round, and no later one could.
        row.state, row.ended_at, row.error = "failed", now, safe_text(str(error), 1_000)
        session.flush()
        return
    answers = act(session, found.keys)
    done = [key for key, answer in answers.items() if answer in DONE]
    left = Counter(answer for answer in answers.values() if answer not in DONE)
    _record(session, row, done)
    row.looked_at += found.looked_at
    row.done += len(done)
    row.left_alone = dict(Counter(row.left_alone) + left)
    row.position = found.next
    if found.next is None:
        row.state, row.ended_at = "done", now
    session.flush()


def _record(session: Session, row: BulkActionRow, done: Sequence[Key]) -> None:
    """An audit line for each job that it was done to, as if that had been named."""
    for workspace_id, job_id in done:
        record(
            session,
            actor=row.actor,
            action=f"job.{row.deed}",
            target=f"job:{job_id}",
            workspace_id=workspace_id,
            details={"bulk": str(row.id), **row.arguments},
        )


def _act_of(row: BulkActionRow) -> Callable[[Session, Sequence[Key]], dict[Key, str]]:
    if row.deed == "change":
        return functools.partial(_change, change=JobChange.of_json(row.arguments))
    return _ACTS[row.deed]


def _retry(session: Session, keys: Sequence[Key]) -> dict[Key, str]:
    return {key: retry_one_of_many(session, *key) for key in keys}


def _cancel(session: Session, keys: Sequence[Key]) -> dict[Key, str]:
    """Without waiting for rows that somebody has locked: he may wait for one of ours. Whoever settles cancels them."""
    answers = cancel_each(session, [(str(workspace_id), str(job_id)) for workspace_id, job_id in keys])
    tell_cancelled(session, list(answers.values()))
    return {key: answers[(str(key[0]), str(key[1]))] for key in keys}


def _change(session: Session, keys: Sequence[Key], change: JobChange) -> dict[Key, str]:
    """A claim has its jobs locked for a moment, and then it has them or lets them go. For others nobody waits long."""
    try:
        with savepoint(session):
            answers = change_jobs(session, keys, change)
    except DBAPIError as error:
        if not out_of_patience(error):
            raise
        answers = change_what_is_free(session, keys, change)
    return {key: answer.value for key, answer in answers.items()}


_ACTS: Final[Mapping[str, Callable[[Session, Sequence[Key]], dict[Key, str]]]] = {
    "retry": _retry,
    "cancel": _cancel,
    "delete": delete_jobs,
}
DONE: Final = frozenset({RetryKind.RETRIED.value, "cancelled", "requested", DELETED, ChangeAnswer.CHANGED.value})


def _narrowed(deed: BulkDeed, search: Search) -> Search:
    """The search with the statuses that it can be done to, and only those."""
    can = BULK_STATUSES[deed]
    wanted = tuple(status for status in can if not search.statuses or status in search.statuses)
    if not wanted:
        said = ", ".join(search.statuses)
        problem = f"no job that is {said} can be {PAST[deed]}; one that is {' or '.join(can)} can"
        raise SearchError([Problem("/q/status", problem)])
    return replace(search, statuses=wanted)


def _seen(row: BulkActionRow) -> BulkAction:
    return BulkAction(**{name: getattr(row, name) for name in BulkAction.__dataclass_fields__})


PAST: Final[Mapping[BulkDeed, str]] = {
    "retry": "retried",
    "cancel": "cancelled",
    "delete": "deleted",
    "change": "changed",
}
