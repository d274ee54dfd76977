"""Whose things a list shows, everybody's or those of one workspace; and which workspace somebody has typed."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from flask import request
from sqlalchemy.orm import Session

from jobplatform.pages.shell import looking
from jobplatform.pages.words import moment
from jobplatform.queue import nearest_workspace_name, workspaces_named

#: So many of one name are told apart.
MOST_OF_A_NAME: Final = 5
NO_WORKSPACE: Final = "No workspace has this name or id."


def asked_workspace() -> UUID | None:
    """As the query says; nonsense is everybody's."""
    try:
        return UUID(request.args.get("workspace", ""))
    except ValueError:
        return None


def typed_workspace(text: str) -> tuple[UUID | None, str]:
    """The one that has this id or, if it is the only one, this name; else None, and what is wrong with the text. An id
    need not have a row: a host application may keep its workspaces in tables of its own.
    """
    text = text.strip()
    if not text:
        return None, "Say which workspace, by its name or its id."
    try:
        return UUID(text), ""
    except ValueError:
        pass
    with looking() as session:
        found = workspaces_named(session, text)
        if len(found) == 1:
            return found[0][0], ""
        return None, _several(text, found) if found else _none(session, text)


def _several(name: str, found: Sequence[tuple[UUID, datetime.datetime]]) -> str:
    ids = "; ".join(f"{id}, made {moment(made)}" for id, made in found[:MOST_OF_A_NAME])
    more = f"; and {len(found) - MOST_OF_A_NAME} more" if len(found) > MOST_OF_A_NAME else ""
    return f"{len(found)} workspaces are named {name}. Write the id of one: {ids}{more}."


def _none(session: Session, name: str) -> str:
    near = nearest_workspace_name(session, name)
    return f"{NO_WORKSPACE}{f' Did you mean {near}?' if near else ''}"
