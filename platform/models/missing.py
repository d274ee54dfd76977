"""That something of ours is not in the database, as PostgreSQL says it."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import ProgrammingError

#: A schema, a relation, a column or a function that is not there.
MISSING: Final = ("3F000", "42P01", "42703", "42883")


def mention_migrations(error: ProgrammingError) -> None:
    """Let its traceback end with what to do, if that is why: it is in somebody else's code."""
    if getattr(error.orig, "sqlstate", None) in MISSING:
        error.add_note("the database has no schema of jobplatform, or another version's: run `jobplatform migrate`")
