"""Receive: a delivery becomes a job exactly once, however often it comes.

    1. Find the hook by the key in its URL (:func:`find_hook_by_key`), and open its secrets.
    2. Nothing is written before the caller knows that the delivery is the provider's.
    3. Remember the ids of its events; those that are remembered already are repeats (:func:`receive`).
    4. Enqueue a job for each of the others, in the same transaction.

The memory and not the uniqueness guard is what a repeat meets: that one is free again when the job has ended, and
providers repeat for days (how long it is kept: see forget_deliveries.py). Two that come at once meet at the key of the
memory: the second waits for the first's commit, and after its rollback it is the first. So the answer 200 means that
the job is there, and any other end (a full quota, a crash) that nothing is, which the provider's next try will find.
"""

from __future__ import annotations

import datetime
import hmac
import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.enqueue import NewJob
from jobplatform.queue.hooks.key import HookKey
from jobplatform.queue.statement import array, run, text_array
from jobplatform.queue.vault import open_secret

if TYPE_CHECKING:
    from jobplatform.queue.tasks.registry import Tasks
    from jobplatform.webhooks import Event

#: Events of one delivery.
MOST_EVENTS: Final = 1_000

_NOBODYS_DIGEST = os.urandom(32)

FIND = """
select
    h.id, h.connection_id, h.scheme, h.task, h.split, h.key_hash, h.secret,
    case when h.previous_until > jobplatform.clock() then h.previous_secret end,
    h.subscription_id, h.replay_seconds, h.url, h.disabled_at is not null, jobplatform.clock()
from jobplatform.hooks h
where h.workspace_id = %(workspace_id)s and h.id = %(hook_id)s
"""

# In the order of the key, so that two deliveries that share events cannot deadlock. One that was turned away is as good
# as new. Whoever is just writing the same row is waited for.
REMEMBER = """
insert into jobplatform.hook_deliveries as d (workspace_id, hook_id, delivery_id, job_id)
select %(workspace_id)s, %(hook_id)s, u.delivery_id, u.job_id
from unnest(%(delivery_ids)s::text[], %(job_ids)s::uuid[]) as u(delivery_id, job_id)
order by u.delivery_id
on conflict (workspace_id, hook_id, delivery_id) do update
set job_id = excluded.job_id, answer = 200, received_at = jobplatform.clock()
where d.job_id is null
returning delivery_id
"""
REPEATED = """
update jobplatform.hook_deliveries
set repeats = repeats + 1, repeated_at = jobplatform.clock()
where workspace_id = %(workspace_id)s and hook_id = %(hook_id)s and delivery_id = any(%(delivery_ids)s::text[])
"""
HELD_BY = """
update jobplatform.hook_deliveries
set job_id = %(job_id)s
where workspace_id = %(workspace_id)s and hook_id = %(hook_id)s and delivery_id = %(delivery_id)s
"""
TURN_AWAY = """
insert into jobplatform.hook_deliveries as d (workspace_id, hook_id, delivery_id, answer)
select %(workspace_id)s, %(hook_id)s, u.delivery_id, %(answer)s
from unnest(%(delivery_ids)s::text[]) as u(delivery_id)
order by u.delivery_id
on conflict (workspace_id, hook_id, delivery_id) do update
set answer = excluded.answer, repeats = d.repeats + 1, repeated_at = jobplatform.clock()
where d.job_id is null
"""


class FoundHook(NamedTuple):
    """A hook as a delivery finds it. ``now`` is the database's moment."""

    workspace_id: uuid.UUID
    id: uuid.UUID
    connection_id: uuid.UUID | None
    scheme: str
    task: str
    split: str
    secret: str | None
    previous_secret: str | None
    subscription_id: str | None
    replay_seconds: int
    url: str | None
    is_disabled: bool
    now: datetime.datetime


class Received(NamedTuple):
    """How many events of a delivery are jobs now, and how many were before."""

    accepted: int
    repeated: int


def find_hook_by_key(session: Session, key: HookKey) -> FoundHook | None:
    """The hook that this is the key of. It takes as long to find that there is none."""
    row = run(session, FIND, workspace_id=key.workspace_id, hook_id=key.hook_id).one_or_none()
    kept = _NOBODYS_DIGEST if row is None else bytes(row[5])
    if not hmac.compare_digest(kept, key.digest) or row is None:
        return None
    return FoundHook(key.workspace_id, *row[:5], *row[6:])


def open_hook_secrets(session: Session, hook: FoundHook) -> list[str]:
    """The secrets that are good now, newest first. Raises :class:`KeyMissingError` or :class:`SealBrokenError`."""
    return [
        open_secret(session, hook.workspace_id, hook.id, "secret", sealed)
        for sealed in (hook.secret, hook.previous_secret)
        if sealed is not None
    ]


def receive(
    session: Session,
    tasks: Tasks,
    hook: FoundHook,
    events: Sequence[Event],
    headers: Mapping[str, str],
    *,
    request_id: str | None = None,
) -> Received:
    """Enqueue a job for each event that did not come before, in the caller's transaction.

    ``events`` differ in their ids. Raises :class:`UnknownTaskError`, :class:`InvalidJobError`,
    :class:`QuotaExceededError` and :class:`KeyMissingError` as any enqueue does: roll back then, and none of it came.
    """
    jobs = _jobs_of(tasks, hook, events, headers, request_id)
    job_ids = array(job.id for job in jobs.values())
    place = _place(hook)
    remembered = run(session, REMEMBER, **place, delivery_ids=text_array(jobs), job_ids=job_ids).scalars()
    new = {delivery_id: jobs[delivery_id] for delivery_id in remembered}
    _count_repeats(session, hook, jobs.keys() - new.keys())
    answers = tasks.enqueue_many(session, list(new.values())) if new else []
    for delivery_id, answer in zip(new, answers, strict=True):
        if not answer.created:
            # It was forgotten before its job had even ended: that one holds the guard, and is the one.
            run(session, HELD_BY, **place, delivery_id=delivery_id, job_id=answer.job_id)
    return Received(len(new), len(jobs) - len(new))


def _jobs_of(
    tasks: Tasks, hook: FoundHook, events: Sequence[Event], headers: Mapping[str, str], request_id: str | None
) -> dict[str, NewJob]:
    """The job of each event, by the event's id."""
    task = tasks.offered(hook.task)
    received_at = hook.now.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    connection_id = None if hook.connection_id is None else str(hook.connection_id)
    return {
        event.id: task.new_job(
            {
                "event": event.value,
                "deliveryId": event.id,
                "receivedAt": received_at,
                "headers": dict(headers),
                "connectionId": connection_id,
            },
            workspace_id=hook.workspace_id,
            unique_key=f"hook:{hook.id}:{event.id}",
            if_active="return",
            request_id=request_id,
        )
        for event in events
    }


def turn_away(session: Session, hook: FoundHook, delivery_ids: Collection[str], answer: int) -> None:
    """Note that these were refused with ``answer``, for whoever looks; they are as good as new when they come again.

    In a transaction of its own: that of :func:`receive` was rolled back.
    """
    run(session, TURN_AWAY, **_place(hook), delivery_ids=text_array(delivery_ids), answer=answer)


def _count_repeats(session: Session, hook: FoundHook, delivery_ids: Collection[str]) -> None:
    if delivery_ids:
        run(session, REPEATED, **_place(hook), delivery_ids=text_array(sorted(delivery_ids)))


def _place(hook: FoundHook) -> dict[str, uuid.UUID]:
    return {"workspace_id": hook.workspace_id, "hook_id": hook.id}
