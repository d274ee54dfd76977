"""What the server said, in short."""

from __future__ import annotations

from typing import Final

#: What PostgreSQL calls a schema, a relation, a column or a function that is not there: as in our models, which need
#: not be loaded to show the help.
MISSING: Final = ("3F000", "42P01", "42703", "42883")
#: And a right that a login does not have.
NOT_ALLOWED: Final = "42501"
#: What another transaction was in the way of: two that wait for each other, a change that was not seen, a lock that was
#: not to be had in time.
IN_THE_WAY: Final = ("40P01", "40001", "55P03")


def sqlstate_of(error: BaseException) -> str | None:
    """Of an error of the database; None of any other."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def first_line(error: BaseException) -> str:
    """The rest is the place in a statement that nobody has typed."""
    return str(getattr(error, "orig", error)).strip().partition("\n")[0]
