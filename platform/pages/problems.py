"""Pages that say what went wrong, and never how it looks inside."""

from __future__ import annotations

import logging

from sqlalchemy import exc
from werkzeug.exceptions import HTTPException, NotFound

from jobplatform.api.problems import DATABASE_TROUBLE, IN_THE_WAY, ProblemError, is_about_query
from jobplatform.api.requests import current_request_id
from jobplatform.errors import SearchError
from jobplatform.models import MISSING

log = logging.getLogger("jobplatform.pages")

_CANCELLED = "57014"


class PageError(Exception):
    """Ends a request with a page that says what is wrong."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(title)
        self.status, self.title, self.detail = status, title, detail


def nothing_here() -> PageError:
    """The one answer for what does not exist and for what belongs to somebody else."""
    return PageError(404, "There is nothing here", "It does not exist (any more), or it is not yours to see.")


class AbsentError(NotFound):
    """There are no pages here: the application answers as for any path that it does not have."""


def as_page_error(error: Exception) -> PageError:
    """Whatever a view let through, as what there is to say about it."""
    if isinstance(error, PageError):
        return error
    if is_about_query(error):
        return PageError(400, "This address leads nowhere", "There are bytes in it that are no text.")
    if isinstance(error, SearchError):
        return PageError(400, "This address leads nowhere", "Something in it was changed. Begin with the first page.")
    if isinstance(error, ProblemError):
        return PageError(error.code or 500, error.title, str(error.description))
    if isinstance(error, HTTPException):
        return PageError(error.code or 500, error.name, "The request could not be understood.")
    if isinstance(error, exc.DBAPIError) and getattr(error.orig, "sqlstate", None) == _CANCELLED:
        return PageError(
            503, "This takes too long", "The database was asked for more than it could find in time. Narrow the search."
        )
    if isinstance(error, exc.ProgrammingError) and getattr(error.orig, "sqlstate", None) in MISSING:
        log.error("pages.schema_missing", extra={"request_id": current_request_id()})
        return PageError(503, "The database is not set up", "Run `jobplatform migrate`, then load this page again.")
    if isinstance(error, exc.DBAPIError) and getattr(error.orig, "sqlstate", None) in IN_THE_WAY:
        log.warning("pages.somebody_in_the_way", extra={"request_id": current_request_id()})
        return PageError(503, "Somebody else is changing the same", "At this very moment. Try again shortly.")
    if isinstance(error, DATABASE_TROUBLE):
        log.warning("pages.database_unavailable", extra={"error": type(error).__name__})
        return PageError(503, "The database cannot be reached", "Try again shortly.")
    log.error("pages.failed", extra={"request_id": current_request_id()}, exc_info=error)
    return PageError(500, "Something went wrong on our side", "It is in the log, under the id below.")
