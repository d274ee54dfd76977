"""Kept answers: the same request sent twice is done once, and answered twice.

What a request does and what it was answered are written in one transaction, under a lock on its key. So an answer is
there exactly when what it tells of has happened, and the second of two that come at once sees the first's lock.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import KEPT_HOURS
from jobplatform.queue.locks import REQUEST
from jobplatform.queue.seal import sealed_form
from jobplatform.queue.statement import run
from jobplatform.queue.vault import seal_if_keys, seal_of

#: Requests that are about no workspace.
NOBODYS = uuid.UUID(int=0)
# The lock is of the transaction: it ends with it, whatever becomes of its process.
TRY_LOCK = f"select pg_try_advisory_xact_lock({REQUEST}, hashtext(%(place)s))"

FIND = f"""
select fingerprint, answer
from jobplatform.kept_answers
where workspace_id = %(workspace_id)s and caller = %(caller)s and key = %(key)s
    and created_at > jobplatform.clock() - interval '{KEPT_HOURS} hours'
"""

KEEP = """
insert into jobplatform.kept_answers (workspace_id, caller, key, fingerprint, answer)
values (%(workspace_id)s, %(caller)s, %(key)s, %(fingerprint)s, %(answer)s::jsonb)
on conflict (workspace_id, caller, key) do update
set fingerprint = excluded.fingerprint, answer = excluded.answer, created_at = jobplatform.clock()
"""


class RequestKey(NamedTuple):
    """Whose request it is, and the key they gave it. ``workspace_id`` is :data:`NOBODYS` when it is about none."""

    workspace_id: uuid.UUID
    caller: str
    key: str

    @property
    def place(self) -> str:
        return f"{self.workspace_id}|{self.caller}|{self.key}"


class Kept(NamedTuple):
    """What was asked (a digest of it) and answered; ``answer`` is None when it held a secret."""

    fingerprint: bytes
    answer: Any


def lock_request(session: Session, request: RequestKey) -> bool:
    """Take the right to do what comes under this key until the transaction ends; False when somebody else has it."""
    return bool(run(session, TRY_LOCK, place=request.place).scalar_one())


def find_answer(session: Session, request: RequestKey) -> Kept | None:
    """What was answered under this key in the last 24 hours. Lock it before, in the same transaction.

    Raises :class:`KeyMissingError` or :class:`SealBrokenError` for one that is sealed and cannot be opened here.
    """
    row = run(session, FIND, **request._asdict()).one_or_none()
    if row is None:
        return None
    fingerprint, answer = row
    if (form := sealed_form(answer)) is not None:
        opened = seal_of(session, request.workspace_id, request.place, form).open("answer", form)
        return Kept(bytes(fingerprint), json.loads(opened))
    return Kept(bytes(fingerprint), answer)


def keep_answer(session: Session, request: RequestKey, fingerprint: bytes, answer: Any) -> None:
    """Keep a JSON value as the answer, or that there was one (None). Sealed where the workspace has keys."""
    text = None
    if answer is not None:
        text = seal_if_keys(session, request.workspace_id, request.place, "answer", json.dumps(answer))
    run(session, KEEP, **request._asdict(), fingerprint=fingerprint, answer=text)
