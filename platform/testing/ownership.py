"""Whether a database was made by this kit. What would ruin any other one asks here first."""

from __future__ import annotations

from sqlalchemy import Connection, text

from jobplatform.errors import NotATestDatabaseError
from jobplatform.models import SCHEMA
from jobplatform.testing.server import PREFIX

#: The comment of our schema. It is copied with a template, and gone when the schema is.
MARK = "made for a test by jobplatform.testing"

_LOOK = text("select current_database(), obj_description(to_regnamespace(:schema), 'pg_namespace')")


def mark_as_ours(connection: Connection) -> None:
    connection.execute(text(f"comment on schema {SCHEMA} is '{MARK}'"))


def require_ours(connection: Connection, what: str) -> None:
    """Raise :class:`NotATestDatabaseError` unless both name and mark say that this kit made the database."""
    name, comment = connection.execute(_LOOK, {"schema": SCHEMA}).one()
    if not name.startswith(PREFIX) or comment != MARK:
        raise NotATestDatabaseError(name, what)
