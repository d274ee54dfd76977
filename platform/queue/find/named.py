"""Find workspaces by what they are called: people know names, and a name may be several's."""

from __future__ import annotations

import datetime
import difflib
import uuid
from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.models import Workspace

#: For the nearest name. Of very many, a look at all would take longer than to list them.
NEWEST: Final = 1_000


def workspaces_named(session: Session, name: str) -> Sequence[tuple[uuid.UUID, datetime.datetime]]:
    """The ids of those that are called so, and since when they are there, oldest first. On a Session that sees all."""
    if "\0" in name:
        return []
    named = select(Workspace.id, Workspace.created_at).where(Workspace.name == name)
    return [(id, made) for id, made in session.execute(named.order_by(Workspace.created_at, Workspace.id))]


def nearest_workspace_name(session: Session, text: str) -> str | None:
    """Which of the newest workspaces' names somebody may have meant."""
    newest = select(Workspace.name).order_by(Workspace.id.desc()).limit(NEWEST)
    by_name = {name.casefold(): name for name in session.scalars(newest)}
    near = difflib.get_close_matches(text.casefold(), by_name, n=1)
    return by_name[near[0]] if near else None
