"""Whose things a list shows: everybody's, or those of one workspace."""

from __future__ import annotations

from uuid import UUID

from flask import request


def asked_workspace() -> UUID | None:
    """As the query says; nonsense is everybody's."""
    try:
        return UUID(request.args.get("workspace", ""))
    except ValueError:
        return None
