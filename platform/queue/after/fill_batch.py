"""An open batch, as whoever fills it has it in hand."""

from __future__ import annotations

import dataclasses
import uuid
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, Problem
from jobplatform.models import RunIf
from jobplatform.queue.after.batches import close_batch, open_batch
from jobplatform.queue.enqueue import Enqueued, NewJob
from jobplatform.queue.enqueue.edges import Edge
from jobplatform.queue.run.inline import run_after_commit

if TYPE_CHECKING:
    from jobplatform.queue.tasks.registry import Tasks


class OpenBatch:
    """A batch that can be added to. As a context manager it is closed at the end of the block.

    After an exception it is left open: whoever rolls back has no batch, and whoever commits may go on with it.
    """

    def __init__(self, tasks: Tasks, session: Session, workspace_id: uuid.UUID, batch_id: uuid.UUID) -> None:
        self.workspace_id = workspace_id
        self.id = batch_id
        self._tasks = tasks
        self._session = session

    @property
    def is_batch(self) -> bool:
        """So that an edge knows what it leads to."""
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()

    def __repr__(self) -> str:
        return f"<OpenBatch {self.id}>"

    def add(self, *jobs: NewJob) -> list[Enqueued]:
        """Enqueue jobs as members of this batch, in the caller's transaction; the answers come in the same order.

        One that was not created, because an unfinished job holds its uniqueness guard, is no member. Raises
        :class:`InvalidJobError` when the batch is closed or a job is of another workspace.
        """
        if problems := [
            Problem(f"/{number}/workspaceId", "is not the batch's")
            for number, job in enumerate(jobs)
            if job.workspace_id != self.workspace_id
        ]:
            raise InvalidJobError(problems)
        members = [dataclasses.replace(job, batch_id=self.id) for job in jobs]
        return self._tasks.enqueue_many(self._session, members)

    def close(self) -> None:
        """Let nothing more be added, in the caller's transaction."""
        close_batch(self._session, self.workspace_id, self.id)
        if self._tasks.mode == "sync":
            # It may have no jobs, or none that is still to run, and what waits for it would wait for a worker.
            run_after_commit(self._session, self._tasks, self.workspace_id)


def open_batch_of(
    tasks: Tasks,
    session: Session,
    workspace_id: uuid.UUID,
    name: str | None,
    on_complete: NewJob | None,
    on_success: NewJob | None,
    on_failure: NewJob | None,
) -> OpenBatch:
    """A new batch with what is to run when it has ended: jobs that wait for it from now on."""
    batch = OpenBatch(tasks, session, workspace_id, open_batch(session, workspace_id, name))
    waiting = ((on_complete, RunIf.ENDED), (on_success, RunIf.COMPLETED), (on_failure, RunIf.FAILED))
    callbacks = [
        dataclasses.replace(job, after=(*job.after, Edge(batch, run_if))) for job, run_if in waiting if job is not None
    ]
    if callbacks:
        _require_created(tasks.enqueue_many(session, callbacks), callbacks)
    return batch


def _require_created(answers: list[Enqueued], callbacks: list[NewJob]) -> None:
    """A callback that is not made would never be called."""
    if taken := [
        (job.id, Problem("/uniqueKey", f"of {job.task} is taken by the {_which(answer)} job {answer.job_id}"))
        for job, answer in zip(callbacks, answers, strict=True)
        if not answer.created
    ]:
        raise InvalidJobError([problem for _, problem in taken], [job_id for job_id, _ in taken])


def _which(answer: Enqueued) -> str:
    return "unfinished" if answer.unique_until is None else "recent"
