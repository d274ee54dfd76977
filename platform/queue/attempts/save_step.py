"""Save a step: what an attempt has done, in the transaction that does it, and only while its lease holds.

    1. The queue row of the attempt is looked at and locked (:data:`HELD`). No row: the lease is lost.
    2. The step, or the checkpoint's state with those of its parts that are new, is written.
    3. Whoever calls commits, and the handler's own rows with it.

The lock is what makes the look count until the commit. Everybody who takes a job away (rescue, fail, release,
reconcile; complete by deleting) locks its queue row ``for update`` first, and that waits for ``for key share`` and is
waited for by it: either the job is taken away before our look, or not before our commit. Without the lock a rescue
could hand the job out in between, and two attempts would both commit the same page. Progress reports and requests to
cancel change no key, so they pass a ``for key share`` in both directions; heartbeats do not touch the row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.errors import LeaseLostError, StepError
from jobplatform.models import CHECKPOINT_PART
from jobplatform.queue.statement import Lease, run, text_array

#: The name under which a job's checkpoint is kept.
CHECKPOINT = ""

# `state + 0`: see COMPLETE.
# What was saved first has the earlier moment, whatever transactions it was saved in: they may have begun in another
# order. So it is the statement's. A clock that a test has moved may stand still; then, and only then, the job's other
# steps are asked for theirs.
HELD = """
with held as materialized (
    select
        q.workspace_id, q.id, q.epoch,
        greatest(
            jobplatform.clock() + (clock_timestamp() - now()),
            (
                select max(s.saved_at) + interval '1 microsecond'
                from jobplatform.job_steps s
                where jobplatform.clock() <> now()
                    and s.workspace_id = %(workspace_id)s and s.job_id = %(job_id)s
            )
        ) as saved_at
    from jobplatform.job_queue q
    where q.workspace_id = %(workspace_id)s and q.id = %(job_id)s and q.epoch = %(epoch)s and q.state + 0 = 2
    for key share
)"""
SAVE_STEP = f"""{HELD},
saved as (
    insert into jobplatform.job_steps (workspace_id, job_id, name, epoch, value, saved_at)
    select h.workspace_id, h.id, %(name)s, h.epoch, %(value)s::jsonb, h.saved_at
    from held h
    on conflict do nothing
    returning 1
)
select (select count(*) from held), (select count(*) from saved)
"""
SAVE_CHECKPOINT = f"""{HELD},
saved as (
    insert into jobplatform.job_steps (workspace_id, job_id, name, epoch, value, saved_at)
    select h.workspace_id, h.id, %(name)s, h.epoch, %(value)s::jsonb, h.saved_at
    from held h
    on conflict (workspace_id, job_id, name) do update
    set value = excluded.value, epoch = excluded.epoch, saved_at = excluded.saved_at
    returning 1
)
select (select count(*) from held), (select count(*) from saved)
"""
# The same with more rows: those of its parts that are new.
SAVE_PARTS = f"""{HELD},
saved as (
    insert into jobplatform.job_steps (workspace_id, job_id, name, epoch, value, saved_at)
    select h.workspace_id, h.id, p.name, h.epoch, p.state::jsonb, h.saved_at
    from held h
    cross join unnest(%(names)s::text[], %(states)s::text[]) as p(name, state)
    on conflict (workspace_id, job_id, name) do update
    set value = excluded.value, epoch = excluded.epoch, saved_at = excluded.saved_at
    returning 1
)
select (select count(*) from held), (select count(*) from saved)
"""
PARTS = """
select substr(s.name, 2), s.value::text
from jobplatform.job_steps s
where s.workspace_id = %(workspace_id)s and s.job_id = %(job_id)s and left(s.name, 1) = chr(30)
"""
DONE = """
select s.name, case when s.name = '' then s.value::text end
from jobplatform.job_steps s
where s.workspace_id = %(workspace_id)s and s.job_id = %(job_id)s
"""
VALUE = """
select s.value::text
from jobplatform.job_steps s
where s.workspace_id = %(workspace_id)s and s.job_id = %(job_id)s and s.name = %(name)s
"""


class Done(NamedTuple):
    """What a job has done: the names of its steps, its checkpoint's state as stored (None without one), and the names
    of that one's parts."""

    steps: set[str]
    state: Any
    parts: set[str]


def save_step(session: Session, lease: Lease, name: str, value: str) -> None:
    """Write that the step ``name`` is done, with its result (JSON text), in the caller's transaction.

    Raises :class:`LeaseLostError` when the lease does not hold: then roll back. Until the commit the lease holds.
    """
    held, saved = run(session, SAVE_STEP, **_place(lease), epoch=lease.epoch, name=name, value=value).one()
    if not held:
        raise LeaseLostError(lease.job_id, lease.epoch)
    if not saved:
        raise StepError(f"the step {name!r} of job {lease.job_id} is done already")


def save_checkpoint(session: Session, lease: Lease, state: str, parts: Mapping[str, str] | None = None) -> None:
    """The same for the job's one checkpoint, whose state (JSON text) takes the place of the one before.

    So does each of the ``parts``, by name; the others stay.
    """
    if parts:
        names = text_array([CHECKPOINT, *(CHECKPOINT_PART + name for name in parts)])
        rows = {"names": names, "states": text_array([state, *parts.values()])}
        held, _ = run(session, SAVE_PARTS, **_place(lease), epoch=lease.epoch, **rows).one()
    else:
        held, _ = run(session, SAVE_CHECKPOINT, **_place(lease), epoch=lease.epoch, name=CHECKPOINT, value=state).one()
    if not held:
        raise LeaseLostError(lease.job_id, lease.epoch)


def find_done(session: Session, lease: Lease) -> Done:
    """What this attempt finds done. Nobody but the lease's holder can add to it."""
    rows: dict[str, str | None] = {row[0]: row[1] for row in run(session, DONE, **_place(lease))}
    state = rows.pop(CHECKPOINT, None)
    parts = {name for name in rows if name.startswith(CHECKPOINT_PART)}
    names = {name.removeprefix(CHECKPOINT_PART) for name in parts}
    return Done(set(rows) - parts, None if state is None else json.loads(state), names)


def find_parts(session: Session, lease: Lease) -> dict[str, Any]:
    """The parts of the job's checkpoint, as stored."""
    return {row[0]: json.loads(row[1]) for row in run(session, PARTS, **_place(lease))}


def find_result(session: Session, lease: Lease, name: str) -> Any:
    """The result of a step that is done, as stored."""
    return json.loads(run(session, VALUE, **_place(lease), name=name).scalar_one())


def _place(lease: Lease) -> dict[str, str]:
    return {"workspace_id": lease.workspace_id, "job_id": lease.job_id}
