"""Fork: a new job of the same task is made from one that has ended, and begins where that had come to.

The old job stays as it is, as a record of what happened; the new one has it as its parent. It is an enqueue as any
other: payload, uniqueness guard and quota are looked at anew. Steps that are kept are copied in the same transaction.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import CHECKPOINT_PART, Job, JobStep, as_the_api, visit
from jobplatform.queue.by_hand.from_step import done_before
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.enqueue import Enqueued, NewJob
from jobplatform.queue.reading.read import get_job, list_steps
from jobplatform.queue.run.steps import FIELD
from jobplatform.queue.seal import Seal, sealed_form
from jobplatform.queue.statement import one_transaction, run, text_array
from jobplatform.queue.vault import seal_of, seals_of

if TYPE_CHECKING:
    from jobplatform.queue.tasks.registry import Tasks
    from jobplatform.queue.tasks.task import Task

# A retry by hand, which may forget its steps, waits for us or we for it.
HOLD = """
select r.status
from jobplatform.job_records r
where r.workspace_id = %(workspace_id)s and r.id = %(id)s
for share
"""
# No attempt of the new job has done them. When they were saved says in which order they were, and stays.
COPY = """
insert into jobplatform.job_steps (workspace_id, job_id, name, epoch, value, saved_at)
select s.workspace_id, %(new_id)s, s.name, 0, s.value, s.saved_at
from jobplatform.job_steps s
where s.workspace_id = %(workspace_id)s and s.job_id = %(id)s and s.name = any(%(names)s::text[])
"""
WRITE = """
insert into jobplatform.job_steps (workspace_id, job_id, name, epoch, value, saved_at)
select s.workspace_id, %(new_id)s, s.name, 0, u.value, s.saved_at
from unnest(%(names)s::text[], %(values)s::jsonb[]) as u(name, value)
join jobplatform.job_steps s
    on s.workspace_id = %(workspace_id)s and s.job_id = %(id)s and s.name = u.name
"""
PAYLOAD = "select r.payload from jobplatform.job_records r where r.workspace_id = %(workspace_id)s and r.id = %(id)s"
MAY_WRITE = "select has_table_privilege('jobplatform.job_steps', 'insert')"


class ForkKind(enum.Enum):
    """What became of a request to fork."""

    FORKED = "forked"
    DUPLICATE = "duplicate"
    LIVE = "live"
    UNKNOWN = "unknown"


class ForkAnswer(NamedTuple):
    """``enqueued`` is the new job, for ``FORKED``, or the one that holds its uniqueness guard, for ``DUPLICATE``.
    ``kept`` are the names of the steps that the new job finds done."""

    kind: ForkKind
    enqueued: Enqueued | None = None
    kept: Sequence[str] = ()


@checks_arguments()
def fork_job(
    session: Session,
    tasks: Tasks,
    workspace_id: uuid.UUID,
    job_id: uuid.UUID,
    *,
    from_step: str | None = None,
    from_start: bool = False,
    payload: Any = None,
    request_id: str | None = None,
    trace_parent: str | None = None,
) -> ForkAnswer:
    """Enqueue a job like one that has ended, however it did, in the caller's transaction. The old one stays as it is.

    It goes on after the steps and the checkpoint that the old one has saved; with ``from_step`` it keeps those that
    were saved before that step, with ``from_start`` none. ``payload`` takes the place of the old one's. Queue,
    priority, timeout, number of attempts, resource and tags are the old one's; it runs as soon as it is its turn, in no
    batch, and waits for no other job.

    ``DUPLICATE``: an unfinished job, or one that was made too recently, holds its uniqueness guard. ``LIVE``: the old
    job has not ended. ``UNKNOWN``: the workspace has no such job. Raises :class:`InvalidJobError` for a step that it
    has not done, and what an enqueue raises; :class:`KeyMissingError` too when steps are sealed and cannot be opened
    here.
    """
    with one_transaction(session):
        visit(session, workspace_id)
        status = run(session, HOLD, workspace_id=workspace_id, id=job_id).one_or_none()
        old = get_job(session, workspace_id, job_id)
        if status is None or old is None:
            return ForkAnswer(ForkKind.UNKNOWN)
        if status[0] is None:
            return ForkAnswer(ForkKind.LIVE)
        names = [] if from_start else _names_to_keep(session, old, from_step)
        job = _new_job(session, tasks.offered(old.job_type), old, payload)
        job = dataclasses.replace(job, request_id=request_id, trace_parent=trace_parent)
        enqueued = tasks.enqueue(session, job)
        if not enqueued.created:
            return ForkAnswer(ForkKind.DUPLICATE, enqueued)
        if names:
            _copy(session, old, job.id, names)
        return ForkAnswer(ForkKind.FORKED, enqueued, [name for name in names if name[:1] not in ("", CHECKPOINT_PART)])


def _names_to_keep(session: Session, old: Job, from_step: str | None) -> list[str]:
    """With those of the checkpoint, which is empty, and its parts. No result is read for that."""
    steps = list_steps(session, old.workspace_id, old.id, largest=0, parts=True)
    return [step.name for step in (steps if from_step is None else done_before(steps, from_step))]


def _new_job(session: Session, task: Task[Any, Any], old: Job, payload: Any) -> NewJob:
    """As the old one was asked for. What follows from the payload follows from the new one, if there is one."""
    form = sealed_form(old.payload)
    value = _opened_payload(session, old, form) if form is not None and payload is None else old.payload
    job = NewJob(
        workspace_id=old.workspace_id,
        task=old.job_type,
        payload=value,
        payload_version=old.payload_version,
        queue=old.queue,
        priority=old.priority,
        max_attempts=old.max_attempts,
        timeout=datetime.timedelta(milliseconds=old.timeout_ms),
        start_within=None if old.start_within_ms is None else datetime.timedelta(milliseconds=old.start_within_ms),
        unique_key=old.unique_key,
        unique_for=None if old.unique_key is None else task.options.unique_for,
        resource=old.resource,
        units=old.units,
        tags=tuple(old.tags),
        encrypted=task.options.encrypted or form is not None,
        parent_id=old.id,
    )
    if payload is None:
        if job.payload_version <= task.payload_version:
            task.read_payload(value, job.payload_version)
        return job
    given = task.new_job(payload, workspace_id=old.workspace_id)
    return dataclasses.replace(
        job,
        payload=given.payload,
        payload_version=given.payload_version,
        unique_key=given.unique_key if task.names_key else job.unique_key,
        unique_for=given.unique_for if task.names_key else job.unique_for,
        resource=given.resource if task.names_resource else job.resource,
    )


def _opened_payload(session: Session, old: Job, form: str) -> Any:
    opener, _ = seals_of(session, old.workspace_id, old.id, form)
    return json.loads(opener.open("payload", form))


def _copy(session: Session, old: Job, new_id: uuid.UUID, names: Sequence[str]) -> None:
    place = {"workspace_id": old.workspace_id, "id": old.id, "new_id": new_id, "names": text_array(names)}
    values = _sealed_anew(session, old, new_id, names)
    # An operator only reads what jobs have done.
    with as_the_api(session, old.workspace_id, unless=run(session, MAY_WRITE).scalar_one()):
        if values is None:
            run(session, COPY, **place)
        else:
            run(session, WRITE, values=text_array(values), **place)


def _sealed_anew(session: Session, old: Job, new_id: uuid.UUID, names: Sequence[str]) -> list[str] | None:
    """What is sealed is bound to its job: the values as the new one can open them, as JSON. None where nothing is."""
    payload = run(session, PAYLOAD, workspace_id=old.workspace_id, id=new_id).scalar_one()
    old_form, new_form = sealed_form(old.payload), sealed_form(payload)
    if old_form is None and new_form is None:
        return None
    opener = None if old_form is None else seals_of(session, old.workspace_id, old.id, old_form)[1]
    closer = None if new_form is None else seal_of(session, old.workspace_id, new_id, new_form)
    found = {step.name: step for step in list_steps(session, old.workspace_id, old.id, parts=True)}
    return [_resealed(found[name], opener, closer) for name in names]


def _resealed(step: JobStep, opener: Seal | None, closer: Seal | None) -> str:
    form = sealed_form(step.value)
    text = json.dumps(step.value) if form is None or opener is None else opener.open(FIELD, form)
    return text if closer is None else closer.seal(FIELD, text)
