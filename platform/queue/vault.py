"""The vault: the data keys of workspaces, and what is done with them to whole jobs.

    1. Enqueuing seals the payload of a job whose task or workspace wants it (:func:`seal_payloads`); the first time in
       a workspace it makes the data key.
    2. Whoever runs the job opens the payload with the same key (:func:`seal_of`) and seals what comes back.
    3. A reader who may see it has it opened (:func:`reveal`), everybody else learns that it is there.

Data keys are kept for a minute in the process that used them, and nowhere else. The key ring is the environment's
(``JOBPLATFORM_ENCRYPTION_KEYS``) unless a host that keeps its secrets elsewhere says :func:`use_key_ring`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import time
import uuid
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from jobplatform.errors import EncryptionError, KeyMissingError, SealBrokenError
from jobplatform.key_ring import KEY_BYTES, VARIABLE, KeyRing, ring_of
from jobplatform.models import Job, JobAttempt, JobLog, JobRecord, JobStep, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.safe_json import strict_json
from jobplatform.queue.seal import DataKey, Seal, SealedPayload, close, key_id_of, schedule_of, sealed_form
from jobplatform.queue.snapshot import says_it_cannot_see
from jobplatform.queue.statement import array, run

if TYPE_CHECKING:
    from jobplatform.queue.enqueue import NewJob

Shown = TypeVar("Shown", Job, JobAttempt, JobLog, JobStep)

#: An erased key opens nothing any more after so many seconds, wherever it had been in use.
KEEP_SECONDS = 60.0
NO_KEY_RING = (
    "this process has no key ring: whoever runs the platform installs jobplatform[encryption] and gives every process "
    "JOBPLATFORM_ENCRYPTION_KEYS (from `jobplatform keys generate`)"
)
#: Of a job, an attempt, a line of log or a step: what may be sealed, and as which field.
FIELDS = {
    Job: {"payload": "payload", "result": "result", "error": "error"},
    JobAttempt: {"error": "error", "traceback": "traceback"},
    JobLog: {"message": "log"},
    JobStep: {"value": "step"},
}

# A key that this transaction itself has made may still vanish in a rollback: it must not be kept.
FIND = """
select k.wrapped_key, k.wrapped_by, k.created_at < jobplatform.clock()
from jobplatform.workspace_keys k
where k.workspace_id = %(workspace_id)s and k.key_id = %(key_id)s
"""
MAKE = """
insert into jobplatform.workspace_keys (workspace_id, key_id, wrapped_key, wrapped_by)
values (%(workspace_id)s, %(key_id)s, %(wrapped_key)s, %(wrapped_by)s)
on conflict do nothing
"""
NEWEST = """
select distinct on (k.workspace_id)
    k.workspace_id::text, k.key_id, k.wrapped_key, k.wrapped_by, bool_or(k.encrypts) over (partition by k.workspace_id)
from jobplatform.workspace_keys k
where k.workspace_id = any(%(workspace_ids)s::uuid[])
order by k.workspace_id, k.key_id desc
"""
ENCRYPTS = "select exists (select from jobplatform.workspace_keys where workspace_id = %(workspace_id)s and encrypts)"
SET_ENCRYPTING = """
update jobplatform.workspace_keys set encrypts = %(encrypts)s where workspace_id = %(workspace_id)s
"""
OTHERWISE_WRAPPED = """
select k.workspace_id::text, k.key_id, k.wrapped_key, k.wrapped_by
from jobplatform.workspace_keys k
where k.wrapped_by <> %(first)s
limit %(limit)s
"""
# Who rotates at the same time has wrapped it already; then this is not needed.
REWRAP = """
update jobplatform.workspace_keys
set wrapped_key = %(wrapped_key)s, wrapped_by = %(wrapped_by)s
where workspace_id = %(workspace_id)s and key_id = %(key_id)s and wrapped_by = %(before)s
"""
IN_USE = "select wrapped_by, count(*) from jobplatform.workspace_keys group by 1 order by 1"


class _Kept(NamedTuple):
    key: DataKey
    until: float


_MAPPER = inspect(JobRecord)
_kept: weakref.WeakKeyDictionary[Engine, dict[tuple[str, int], _Kept]] = weakref.WeakKeyDictionary()
_given: list[KeyRing | None] = []


def use_key_ring(ring: KeyRing | None) -> None:
    """Use this ring in this process instead of the environment's; None goes back to that one."""
    _given[:] = [] if ring is None else [ring]


def key_ring() -> KeyRing | None:
    """This process's key ring. Raises :class:`SettingsError` when what the environment holds cannot be one."""
    return _given[0] if _given else _parsed(os.environ.get(VARIABLE, ""))


@functools.lru_cache(maxsize=4)
def _parsed(text: str) -> KeyRing | None:
    return ring_of({VARIABLE: text})


# -- keys --------------------------------------------------------------------------------------------


def find_key(session: Session, workspace_id: object, key_id: int) -> DataKey | None:
    """The workspace's data key of this number, or None when there is none.

    Raises :class:`KeyMissingError` when this process cannot unwrap it.
    """
    ring = _require_ring()
    kept = _kept.setdefault(_engine_of(session), {})
    if (found := kept.get((str(workspace_id), key_id))) and found.until > time.monotonic():
        return found.key
    visit(session, uuid.UUID(str(workspace_id)))
    row = run(session, FIND, workspace_id=str(workspace_id), key_id=key_id).one_or_none()
    if row is None:
        kept.pop((str(workspace_id), key_id), None)
        return None
    wrapped, wrapped_by, is_committed = row
    key = _unwrap(ring, workspace_id, key_id, wrapped, wrapped_by)
    if is_committed:
        _keep(kept, (str(workspace_id), key_id), key)
    return key


def _keep(kept: dict[tuple[str, int], _Kept], place: tuple[str, int], key: DataKey) -> None:
    """For a while; what has been here for longer is not only not used any more, it is gone."""
    now = time.monotonic()
    # A copy: other threads keep keys too.
    for old, found in list(kept.items()):
        if found.until <= now:
            kept.pop(old, None)
    kept[place] = _Kept(key, now + KEEP_SECONDS)


@checks_arguments()
def make_key(session: Session, workspace_id: uuid.UUID | str, key_id: int = 1) -> DataKey:
    """The workspace's key of this number, made in the caller's transaction unless somebody was faster."""
    visit(session, uuid.UUID(str(workspace_id)))
    name, wrapped = _require_ring().wrap(os.urandom(KEY_BYTES), _context(workspace_id, key_id))
    run(session, MAKE, workspace_id=str(workspace_id), key_id=key_id, wrapped_key=wrapped, wrapped_by=name)
    made = find_key(session, workspace_id, key_id)
    if made is None:
        raise EncryptionError(
            f"another transaction is just making the key of workspace {workspace_id}; try again in a new transaction"
        )
    return made


@checks_arguments()
@says_it_cannot_see("encryption")
def set_encrypting(session: Session, workspace_id: uuid.UUID, encrypts: bool) -> None:
    """Whether every job that is enqueued for the workspace from now on is sealed. Jobs that are there stay as they are.

    Raises :class:`KeyMissingError` where there is no key yet and this process cannot make one.
    """
    visit(session, workspace_id)
    if encrypts and not _newest(session, [workspace_id]):
        make_key(session, workspace_id)
    run(session, SET_ENCRYPTING, workspace_id=workspace_id, encrypts=encrypts)


@checks_arguments()
def is_encrypting(session: Session, workspace_id: uuid.UUID) -> bool:
    """Whether every job of the workspace is sealed."""
    visit(session, workspace_id)
    return bool(run(session, ENCRYPTS, workspace_id=workspace_id).scalar_one())


@checks_arguments()
def rewrap_keys(session: Session, *, limit: int = 500) -> int:
    """Wrap up to ``limit`` data keys by the first master key and say how many; 0 when that is done for all of them.

    What is sealed does not change, so jobs run on meanwhile. Raises :class:`KeyMissingError` for one that this process
    cannot unwrap.
    """
    ring = _require_ring()
    found = run(session, OTHERWISE_WRAPPED, first=ring.names[0], limit=limit).all()
    for workspace_id, key_id, wrapped, wrapped_by in found:
        context = _context(workspace_id, key_id)
        name, anew = ring.wrap(ring.unwrap(wrapped_by, bytes(wrapped), context), context)
        place = {"workspace_id": workspace_id, "key_id": key_id, "before": wrapped_by}
        run(session, REWRAP, wrapped_key=anew, wrapped_by=name, **place)
    return len(found)


def master_keys_in_use(session: Session) -> dict[str, int]:
    """How many data keys are wrapped by each master key, by its id."""
    return {row[0]: row[1] for row in run(session, IN_USE)}


# -- enqueuing ---------------------------------------------------------------------------------------


def wants_sealing(jobs: Sequence[NewJob]) -> bool:
    """Whether some of these are to be sealed, as far as that is known without asking the database.

    What is not known here the statement that enqueues finds out, and writes nothing then.
    """
    if any(job.encrypted for job in jobs):
        return True
    return bool(_encrypting_lately) and any(job.workspace_id in _encrypting_lately for job in jobs)


def is_open(job: NewJob) -> bool:
    """Whether its payload would be written as it is."""
    return not isinstance(job.payload, SealedPayload)


def seal_payloads(session: Session, jobs: Sequence[NewJob]) -> list[NewJob]:
    """These jobs, with the payload sealed where the task or the workspace wants that and it is not done yet.

    Raises :class:`InvalidPayloadError` for a payload that is too large, or nothing that can be stored, as it is; and
    :class:`KeyMissingError` when this process cannot seal: then it is not written at all.
    """
    newest = _newest(session, {job.workspace_id for job in jobs})
    _remember(newest, {job.workspace_id for job in jobs})
    made: dict[str, DataKey] = {}

    def key_of(workspace_id: str) -> DataKey:
        if workspace_id not in made:
            found = newest.get(workspace_id)
            made[workspace_id] = found.unwrap(_require_ring()) if found else make_key(session, workspace_id)
        return made[workspace_id]

    def sealed(job: NewJob) -> NewJob:
        text = strict_json(job.payload)
        seal = Seal(key_of(str(job.workspace_id)), job.workspace_id, job.id)
        return dataclasses.replace(job, payload=SealedPayload(seal.seal("payload", text)))

    encrypting = {workspace_id for workspace_id, found in newest.items() if found.encrypts}
    return [
        sealed(job) if is_open(job) and (job.encrypted or str(job.workspace_id) in encrypting) else job for job in jobs
    ]


def seal_if_keys(session: Session, workspace_id: object, place: object, field: str, text: str) -> str:
    """JSON text sealed for ``place`` by the workspace's newest key, and as it is where the workspace has none.

    :func:`seal_of` opens it. Raises :class:`KeyMissingError` where there is a key that this process cannot unwrap.
    """
    workspace = uuid.UUID(str(workspace_id))
    found = _newest(session, [workspace]).get(str(workspace))
    if found is None:
        return text
    return Seal(found.unwrap(_require_ring()), workspace, place).seal(field, text)


def seal_value(session: Session, workspace_id: object, place: object, field: str, text: str) -> str:
    """JSON text sealed for ``place`` by the workspace's newest key, which is made where there is none.

    :func:`seal_of` opens it. Raises :class:`KeyMissingError` where this process cannot seal: nothing is written then.
    """
    workspace = uuid.UUID(str(workspace_id))
    visit(session, workspace)
    found = _newest(session, [workspace]).get(str(workspace))
    key = found.unwrap(_require_ring()) if found else make_key(session, workspace)
    return Seal(key, workspace, place).seal(field, text)


def open_secret(session: Session, workspace_id: uuid.UUID, place: object, field: str, sealed: str) -> str:
    """A secret's text that :func:`seal_value` sealed. Raises :class:`KeyMissingError` or :class:`SealBrokenError`."""
    form = sealed_form(sealed)
    if form is None:
        raise SealBrokenError(f"the {field} is not sealed")
    return seal_of(session, workspace_id, place, form).open(field, form)


class _Newest(NamedTuple):
    workspace_id: str
    key_id: int
    wrapped_key: bytes
    wrapped_by: str
    encrypts: bool

    def unwrap(self, ring: KeyRing) -> DataKey:
        return _unwrap(ring, self.workspace_id, self.key_id, self.wrapped_key, self.wrapped_by)


def _newest(session: Session, workspace_ids: Iterable[uuid.UUID]) -> dict[str, _Newest]:
    """The newest key of each workspace that has one. Read each time: what an erased key seals, nobody can open."""
    return {row[0]: _Newest(*row) for row in run(session, NEWEST, workspace_ids=array(workspace_ids))}


#: Saves such a workspace's enqueue the statement that writes nothing. Too long in here means sealed for no reason.
_encrypting_lately: set[uuid.UUID] = set()


def _remember(newest: dict[str, _Newest], looked_at: set[uuid.UUID]) -> None:
    for workspace_id in looked_at:
        found = newest.get(str(workspace_id))
        if found and found.encrypts:
            _encrypting_lately.add(workspace_id)
        else:
            _encrypting_lately.discard(workspace_id)


# -- running and reading -----------------------------------------------------------------------------


def seal_of(session: Session, workspace_id: object, job_id: object, form: str) -> Seal:
    """The seal of the job that ``form`` is a part of.

    Raises :class:`KeyMissingError` when another process may have the key, :class:`SealBrokenError` when nobody can.
    """
    key_id = key_id_of(form)
    key = find_key(session, workspace_id, key_id)
    if key is None:
        raise SealBrokenError(f"the key {key_id} of workspace {workspace_id} is gone, and with it what it sealed")
    return Seal(key, workspace_id, job_id, schedule_id=schedule_of(form))


def seals_of(session: Session, workspace_id: object, job_id: object, form: str) -> tuple[Seal, Seal]:
    """What opens the job's payload, and the job's own seal, by the same key. They differ for what a schedule sealed."""
    opener = seal_of(session, workspace_id, job_id, form)
    key = find_key(session, workspace_id, key_id_of(form))
    assert key is not None
    return opener, Seal(key, workspace_id, job_id)


def seal_for_schedule(session: Session, workspace_id: uuid.UUID, schedule_id: uuid.UUID, payload: Any) -> Any:
    """A schedule's payload, sealed: a JSON value for its row and for each of its jobs. :func:`seal_of` opens it.

    It is bound to workspace and schedule. Raises :class:`KeyMissingError` when this process cannot seal.
    """
    found = _newest(session, [workspace_id]).get(str(workspace_id))
    key = found.unwrap(_require_ring()) if found else make_key(session, workspace_id)
    seal = Seal(key, workspace_id, None, schedule_id=schedule_id)
    return json.loads(seal.seal("payload", strict_json(payload)))


def open_payload(session: Session, workspace_id: object, payload: Any) -> Any:
    """The payload of a schedule as it was before it was sealed, if it was."""
    form = sealed_form(payload)
    if form is None:
        return payload
    return json.loads(seal_of(session, workspace_id, None, form).open("payload", form))


@checks_arguments()
def reveal(session: Session, found: Iterable[Shown], *, to_reader: bool = True) -> None:
    """Open what is sealed in jobs, attempts, lines of log or steps, in place and in memory only.

    What cannot be opened here, and everything when the reader may not see it, becomes ``{"sealed": true}`` or, where
    only a text can stand, ``[sealed]``.
    """
    for row in found:
        for name, field in FIELDS[type(row)].items():
            value = getattr(row, name)
            if sealed_form(value) is not None:
                set_committed_value(row, name, _revealed(session, row, field, value, to_reader))
        if isinstance(row, Job):
            _reveal_progress(session, row, to_reader)


def _reveal_progress(session: Session, job: Job, to_reader: bool) -> None:
    message = job.progress.get("message") if isinstance(job.progress, dict) else None
    if sealed_form(message) is not None:
        shown = _revealed(session, job, "progress", message, to_reader)
        set_committed_value(job, "progress", {**(job.progress or {}), "message": shown})


def _revealed(
    session: Session, row: Job | JobAttempt | JobLog | JobStep, field: str, value: Any, to_reader: bool
) -> Any:
    job_id = row.id if isinstance(row, Job) else row.job_id
    return reveal_value(session, row.workspace_id, job_id, field, value, to_reader=to_reader)


def reveal_value(
    session: Session, workspace_id: object, job_id: object, field: str, value: Any, *, to_reader: bool = True
) -> Any:
    """:func:`reveal` for one value of a job that was read by hand."""
    form = sealed_form(value)
    if form is None or not to_reader:
        return close(value)
    try:
        opened = seal_of(session, workspace_id, job_id, form).open(field, form)
    except EncryptionError:
        return close(value)
    return json.loads(opened) if isinstance(value, dict) else opened


def _require_ring() -> KeyRing:
    ring = key_ring()
    if ring is None:
        raise KeyMissingError(None, NO_KEY_RING)
    return ring


def _unwrap(ring: KeyRing, workspace_id: object, key_id: int, wrapped: bytes, wrapped_by: str) -> DataKey:
    return DataKey(key_id, ring.unwrap(wrapped_by, bytes(wrapped), _context(workspace_id, key_id)))


def _context(workspace_id: object, key_id: int) -> str:
    """What a wrapped key is bound to: moved to another workspace or number it does not unwrap."""
    return f"jobplatform data key v1|{workspace_id}|{key_id}"


def _engine_of(session: Session) -> Engine:
    bind = session.get_bind(_MAPPER)
    return bind.engine if isinstance(bind, Connection) else bind
