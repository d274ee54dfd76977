"""Hooks: make, change, rotate, disable and delete where providers deliver to. Never commits.

What is delivered is :mod:`jobplatform.queue.hooks.receive`'s affair.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict, Unpack

from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.errors import InvalidHookError, Problem, refuse
from jobplatform.models import Hook, HookDelivery, clock, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.hooks.key import digest_of, new_hook_key
from jobplatform.queue.hooks.rules import (
    LONGEST_NAME,
    ROTATION,
    has_as_many,
    keep_secret,
    problem_of_text,
    problems_of_keeping,
)
from jobplatform.queue.snapshot import says_what_it_cannot_see
from jobplatform.queue.vault import seal_value
from jobplatform.webhooks import SCHEMES, new_secret, scheme_named

if TYPE_CHECKING:
    from jobplatform.queue.tasks.task import Task

#: Hooks of one workspace.
MOST_HOOKS: Final = 100
LONGEST_URL: Final = 500
LONGEST_SUBSCRIPTION: Final = 100
REPLAY: Final = range(1, 86_401)
SPLITS: Final = ("event", "delivery")

_NOBODY = uuid.UUID(int=0)


class HookChanges(TypedDict, total=False):
    """What of a hook can be changed."""

    name: str
    split: str
    subscription_id: str | None
    replay_seconds: int
    connection_id: uuid.UUID | None
    base_url: str | None


class NewHook(NamedTuple):
    """A hook and what is known only now: its URL with the key in it, and the secret if that was made here.

    ``url`` is where the provider is to deliver; a path where nobody said how we are reached.
    """

    hook: Hook
    id: uuid.UUID
    url: str
    key: str
    secret: str | None


@checks_arguments(InvalidHookError)
def create_hook(
    session: Session,
    task: Task[Any, Any],
    *,
    workspace_id: uuid.UUID,
    name: str,
    scheme: str,
    secret: str | None = None,
    base_url: str | None = None,
    connection_id: uuid.UUID | None = None,
    split: str = "event",
    subscription_id: str | None = None,
    replay_seconds: int = 300,
    made_by: str = "code",
) -> NewHook:
    """Make a hook in the caller's transaction: each delivery to it becomes a job of ``task``.

    ``scheme`` is how the provider signs (:data:`jobplatform.webhooks.SCHEMES`) and ``secret`` what it signs with; for
    ``standard`` one is made if none is given. ``base_url`` is how the API is reached from outside. With
    ``split="delivery"`` a delivery of several events is one job. Of Strava the ``subscription_id`` is known later:
    :func:`change_hook`. Raises :class:`InvalidHookError` with every problem, and :class:`KeyMissingError` where this
    process has no key to seal the secret with.
    """
    visit(session, workspace_id)
    made = new_secret() if scheme == "standard" and secret is None else None
    columns = {
        "name": name,
        "connection_id": connection_id,
        "split": split,
        "subscription_id": subscription_id,
        "replay_seconds": replay_seconds,
        "url": _without_slash(base_url),
    }
    refuse(InvalidHookError, [*_problems_of_scheme(scheme, secret or made), *_problems(columns)])
    refuse(InvalidHookError, _problem_of_number(session, workspace_id))
    hook_id = uuid7()
    key = new_hook_key(workspace_id, hook_id)
    hook = Hook(
        workspace_id=workspace_id,
        id=hook_id,
        scheme=scheme,
        task=task.name,
        key_hash=digest_of(key),
        secret=_sealed(session, workspace_id, hook_id, secret or made),
        made_by=made_by,
        **columns,
    )
    session.add(hook)
    session.flush()
    session.refresh(hook)
    return _shown(hook, key, made)


@checks_arguments(InvalidHookError)
def change_hook(
    session: Session, hook: Hook, task: Task[Any, Any] | None = None, **changes: Unpack[HookChanges]
) -> Hook:
    """Change ``name``, ``split``, ``subscription_id``, ``replay_seconds``, ``connection_id``, ``base_url`` or the task.

    What is not named stays. Raises :class:`InvalidHookError`.
    """
    if unknown := set(changes) - set(HookChanges.__annotations__):
        raise TypeError(f"a hook's {', '.join(sorted(unknown))} cannot be changed")
    columns: dict[str, Any] = dict(changes)
    if "base_url" in columns:
        columns["url"] = _without_slash(columns.pop("base_url"))
    refuse(InvalidHookError, _problems(columns))
    for column, value in columns.items():
        setattr(hook, column, value)
    if task is not None:
        hook.task = task.name
    session.flush()
    return hook


@checks_arguments(InvalidHookError)
def rotate_hook_key(session: Session, hook: Hook) -> NewHook:
    """Give the hook another URL; the old one leads nowhere from the commit on."""
    key = new_hook_key(hook.workspace_id, hook.id)
    hook.key_hash = digest_of(key)
    session.flush()
    return _shown(hook, key)


@checks_arguments(InvalidHookError)
def rotate_hook_secret(
    session: Session, hook: Hook, secret: str | None = None, *, keep_old: datetime.timedelta = ROTATION
) -> str | None:
    """Have deliveries checked by another secret; what the old one signs is taken for as long as ``keep_old``.

    For ``standard`` one is made if none is given, and is the answer. Raises :class:`InvalidHookError`.
    """
    made = new_secret() if hook.scheme == "standard" and secret is None else None
    refuse(InvalidHookError, [*_problems_of_scheme(hook.scheme, secret or made), *problems_of_keeping(keep_old)])
    if hook.scheme == "none":
        raise InvalidHookError([Problem("/secret", "there is none: the scheme of this hook checks nothing")])
    keep_secret(session, hook, keep_old)
    hook.secret = _sealed(session, hook.workspace_id, hook.id, secret or made)
    session.flush()
    return made


@checks_arguments(InvalidHookError)
def disable_hook(session: Session, hook: Hook, *, actor: str) -> bool:
    """Take nothing more; providers are asked to come again later. Says whether that is new."""
    if hook.disabled_at is not None:
        return False
    hook.disabled_at, hook.disabled_by = session.execute(select(clock())).scalar_one(), actor
    session.flush()
    return True


@checks_arguments(InvalidHookError)
def enable_hook(session: Session, hook: Hook) -> bool:
    """Take deliveries again. Says whether it was disabled."""
    if hook.disabled_at is None:
        return False
    hook.disabled_at = hook.disabled_by = None
    session.flush()
    return True


@checks_arguments(InvalidHookError)
def delete_hook(session: Session, hook: Hook) -> None:
    """Delete a hook: its URL leads nowhere. Jobs it has enqueued stay; what it received is forgotten in time."""
    session.delete(hook)
    session.flush()


@checks_arguments(InvalidHookError)
def delete_hooks_of(session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID) -> int:
    """Delete the hooks of a connection, and say how many there were."""
    visit(session, workspace_id)
    statement = delete(Hook).where(Hook.workspace_id == workspace_id, Hook.connection_id == connection_id)
    result: Any = session.execute(statement)
    return int(result.rowcount)


@checks_arguments(InvalidHookError)
def get_hook(session: Session, workspace_id: uuid.UUID, hook_id: uuid.UUID) -> Hook | None:
    """A hook of this workspace, to look at."""
    visit(session, workspace_id)
    return session.get(Hook, (workspace_id, hook_id), populate_existing=True)


@checks_arguments(InvalidHookError)
@says_what_it_cannot_see
def find_hook(session: Session, workspace_id: uuid.UUID, hook_id: uuid.UUID) -> Hook | None:
    """A hook of this workspace, locked until the transaction's end: for whoever changes it."""
    visit(session, workspace_id)
    return session.get(Hook, (workspace_id, hook_id), populate_existing=True, with_for_update=True)


@checks_arguments(InvalidHookError)
def list_hooks(
    session: Session, workspace_id: uuid.UUID, *, limit: int = 20, after: uuid.UUID | None = None
) -> Sequence[Hook]:
    """The hooks of a workspace, oldest first. ``after`` is the id of the last one seen."""
    visit(session, workspace_id)
    statement = select(Hook).where(Hook.workspace_id == workspace_id, Hook.id > (after or _NOBODY))
    return session.scalars(statement.order_by(Hook.id).limit(limit)).all()


@checks_arguments(InvalidHookError)
def list_deliveries(
    session: Session, workspace_id: uuid.UUID, hook_id: uuid.UUID, *, limit: int = 100
) -> Sequence[HookDelivery]:
    """What was delivered to a hook last, newest first."""
    visit(session, workspace_id)
    statement = select(HookDelivery).where(HookDelivery.workspace_id == workspace_id, HookDelivery.hook_id == hook_id)
    return session.scalars(statement.order_by(HookDelivery.received_at.desc()).limit(limit)).all()


def _without_slash(base_url: str | None) -> str | None:
    return None if base_url is None else base_url.rstrip("/")


def _shown(hook: Hook, key: str, secret: str | None = None) -> NewHook:
    return NewHook(hook, hook.id, f"{hook.url or ''}/hooks/{key}", key, secret)


def _sealed(session: Session, workspace_id: uuid.UUID, hook_id: uuid.UUID, secret: str | None) -> str | None:
    return None if secret is None else seal_value(session, workspace_id, hook_id, "secret", secret)


# -- problems ----------------------------------------------------------------------------------------


def _problems_of_scheme(name: str, secret: str | None) -> Iterator[Problem]:
    scheme = scheme_named(name)
    if scheme is None:
        yield Problem("/scheme", f"must be one of {', '.join(SCHEMES)}")
    elif problem := scheme.problem_of_secret(secret):
        yield Problem("/secret", problem)


def _problems(columns: dict[str, Any]) -> Iterator[Problem]:
    if "name" in columns:
        yield from problem_of_text("/name", columns["name"], LONGEST_NAME)
    if "split" in columns and columns["split"] not in SPLITS:
        yield Problem("/split", f"must be one of {', '.join(SPLITS)}")
    if "replay_seconds" in columns and columns["replay_seconds"] not in REPLAY:
        yield Problem("/replaySeconds", f"must be from {REPLAY[0]} to {REPLAY[-1]}")
    if columns.get("subscription_id") is not None:
        yield from problem_of_text("/subscriptionId", columns["subscription_id"], LONGEST_SUBSCRIPTION)
    if (url := columns.get("url")) is not None:
        yield from problem_of_text("/publicUrl", url, LONGEST_URL)
        if not url.startswith(("https://", "http://")) or not url.isprintable() or "?" in url or "#" in url:
            yield Problem("/publicUrl", "must be an http or https URL without query")


def _problem_of_number(session: Session, workspace_id: uuid.UUID) -> Iterator[Problem]:
    if has_as_many(session, Hook, workspace_id, MOST_HOOKS):
        yield Problem("", f"a workspace may have {MOST_HOOKS} hooks, and this one has; delete one that is not needed")
