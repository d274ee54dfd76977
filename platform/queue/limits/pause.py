"""Pause: nothing more of a queue, task, workspace or resource is started, until it is resumed or a given moment.

A pause is a row that every claim looks at. What runs already goes on to its end.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, Problem
from jobplatform.models import Pause, PauseKind, clock, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.snapshot import says_it_cannot_see
from jobplatform.queue.statement import run
from jobplatform.queue.waking import wake_workers
from jobplatform.settings import QUEUE_NAME

LONGEST_REASON = 500
LONGEST_RESOURCE = 200

# Nothing is written, and nothing answered, when the moment has passed already by the database's clock.
PAUSE = """
insert into jobplatform.pauses (kind, key, reason, actor, until)
select %(kind)s, %(key)s, %(reason)s, %(actor)s, %(until)s::timestamptz
where %(until)s::timestamptz is null or %(until)s::timestamptz > jobplatform.clock()
on conflict (kind, key) do update
set reason = excluded.reason,
    actor = excluded.actor,
    until = excluded.until,
    paused_at = jobplatform.clock()
returning kind
"""


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("pause", "key")
def pause(
    session: Session,
    kind: PauseKind | str,
    key: str,
    *,
    reason: str,
    actor: str,
    until: datetime.datetime | None = None,
) -> Pause:
    """Pause something, in the caller's transaction. Pausing again replaces reason, actor and ``until``.

    ``key`` is the name of a queue or task, the id of a workspace, or a resource (``hubspot:4711``). Raises
    :class:`InvalidLimitError` for what cannot be the name of such a thing, for no reason given, and for an ``until``
    in the past.
    """
    kind, key = _reach(session, kind, key)
    _require(_reason_problem(reason), "/reason")
    written = run(session, PAUSE, kind=kind.value, key=key, reason=reason, actor=actor, until=until).one_or_none()
    _require(None if written else "must be in the future", "/until")
    return session.get_one(Pause, (kind.value, key), populate_existing=True)


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("pause", "key")
def resume(session: Session, kind: PauseKind | str, key: str) -> bool:
    """End a pause, in the caller's transaction; says whether there was one. After the commit idle workers look at once.

    A pause whose moment has passed is no pause any more: its row is cleared away and the answer is False.
    """
    kind, key = _reach(session, kind, key)
    statement = delete(Pause).where(Pause.kind == kind.value, Pause.key == key).returning(_in_force())
    was_in_force = session.execute(statement, execution_options={"synchronize_session": False}).scalar_one_or_none()
    if was_in_force:
        wake_workers(session, key if kind is PauseKind.QUEUE else None)
    return bool(was_in_force)


@checks_arguments(InvalidLimitError)
def list_pauses(session: Session, kind: PauseKind | str | None = None) -> Sequence[Pause]:
    """What is paused now, by kind and key."""
    statement = select(Pause).where(_in_force()).order_by(Pause.kind, Pause.key)
    if kind is not None:
        statement = statement.where(Pause.kind == PauseKind(kind).value)
    return session.scalars(statement, execution_options={"populate_existing": True}).all()


@checks_arguments(InvalidLimitError)
def pauses_of(session: Session, kind: PauseKind, keys: Iterable[str]) -> dict[str, Pause]:
    """The pauses of these things of a kind, by key; what is not paused is not in it."""
    statement = select(Pause).where(_in_force(), Pause.kind == PauseKind(kind).value, Pause.key.in_(keys))
    return {found.key: found for found in session.scalars(statement, execution_options={"populate_existing": True})}


@checks_arguments(InvalidLimitError)
def find_pause(session: Session, kind: PauseKind | str, key: str) -> Pause | None:
    """The pause of this very thing, if it is paused now."""
    kind, key = _reach(session, kind, key)
    statement = select(Pause).where(_in_force(), Pause.kind == kind.value, Pause.key == key)
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


def _in_force() -> ColumnElement[bool]:
    return or_(Pause.until.is_(None), Pause.until > clock())


def _reach(session: Session, kind: PauseKind | str, key: str) -> tuple[PauseKind, str]:
    """The kind and key of the database, which lets a host's own Session see the workspace that they name."""
    kind, key = _known(kind, key)
    if kind is PauseKind.WORKSPACE:
        visit(session, uuid.UUID(key))
    return kind, key


def _known(kind: PauseKind | str, key: str) -> tuple[PauseKind, str]:
    """The kind as one of ours and the key as the database spells it."""
    kind = PauseKind(kind)
    if kind is PauseKind.WORKSPACE:
        return kind, _canonical(key)
    if kind is PauseKind.RESOURCE:
        _require(_resource_problem(key), "/key")
    else:
        _require(None if QUEUE_NAME.match(key) else f"is not a {kind} name", "/key")
    return kind, key


def _canonical(key: str) -> str:
    try:
        return str(uuid.UUID(key))
    except ValueError:
        raise InvalidLimitError([Problem("/key", "is not the id of a workspace")]) from None


def _resource_problem(key: str) -> str | None:
    if not 1 <= len(key) <= LONGEST_RESOURCE:
        return f"must be 1 to {LONGEST_RESOURCE} characters"
    return None


def _reason_problem(reason: str) -> str | None:
    if not reason.strip():
        return "must say why"
    if len(reason) > LONGEST_REASON:
        return f"must be at most {LONGEST_REASON} characters"
    return None


def _require(problem: str | None, path: str) -> None:
    if problem:
        raise InvalidLimitError([Problem(path, problem)])
