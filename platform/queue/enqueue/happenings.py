"""Happenings: what is counted about enqueues, told to whoever asked to be told.

Told after the commit, in the thread that committed, and once for each queue and task of a transaction. Nobody pays for
it in a process where nobody has asked. A transaction that is rolled back tells nothing; one of which a SAVEPOINT was
rolled back tells that part too.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

if TYPE_CHECKING:
    from jobplatform.queue.enqueue import NewJob


class Happening(NamedTuple):
    """``enqueued``: there is a new job. ``conflict``: the uniqueness guard had an unfinished one already, or one
    that was made too recently."""

    kind: Literal["enqueued", "conflict"]
    queue: str
    task: str


Told = Callable[[Mapping[Happening, int]], None]

_PENDING: Final = "jobplatform.happenings"
_told: list[Told] = []
_log = logging.getLogger("jobplatform.queue")


def on_happenings(told: Told) -> None:
    """Have ``told`` called with how often each thing happened, after each commit of this process that enqueued."""
    if not event.contains(Session, "after_commit", _tell):
        event.listen(Session, "after_commit", _tell)
        event.listen(Session, "after_soft_rollback", _forget)
    _told.append(told)


def off_happenings(told: Told) -> None:
    """Not any more."""
    _told.remove(told)


def note_enqueued(
    session: Session, asked: Collection[NewJob], existing: Mapping[int, UUID], replaced: Collection[int]
) -> None:
    """Count what became of these requests. ``existing`` has, by number, what there was instead of those not created.

    A request that is repeated, or takes the place of one that waited, is neither a new job nor a conflict.
    """
    if not _told:
        return
    pending: Counter[Happening] = session.info.setdefault(_PENDING, Counter())
    for job in asked:
        holder = existing.get(job.id.int)
        if holder is None:
            pending[Happening("enqueued", job.queue, job.task)] += 1
        elif holder != job.id and job.id.int not in replaced:
            pending[Happening("conflict", job.queue, job.task)] += 1


def _tell(session: Session) -> None:
    pending: Counter[Happening] | None = session.info.get(_PENDING)
    # The commit of a SAVEPOINT is not yet the commit of the job.
    if pending and not session.in_nested_transaction():
        happened = dict(pending)
        pending.clear()
        for told in _told:
            _tell_one(told, happened)


def _tell_one(told: Told, happened: Mapping[Happening, int]) -> None:
    """The jobs are there: whoever enqueued them must not hear that somebody could not count them."""
    try:
        told(happened)
    except Exception:  # noqa: BLE001 - whatever counts may do, or a disk
        _log.exception("enqueues could not be counted")


def _forget(session: Session, ended: SessionTransaction) -> None:
    pending: Counter[Happening] | None = session.info.get(_PENDING)
    if pending and not ended.nested:
        pending.clear()
