"""Pages of the jobs that a search finds, and their keys."""

from __future__ import annotations

import base64
import binascii
import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.errors import Problem, SearchError
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.find.asked import Key
from jobplatform.queue.find.lines import LINE, JobLine, line_of
from jobplatform.queue.find.rows import read_rows, visit_workspace
from jobplatform.queue.find.search import Search
from jobplatform.queue.find.ways import way_to


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first. ``next`` is what the next page is ``before``; None when there is nothing more.

    Not ``complete``: only so many of the newest jobs on the way were looked at, back to ``looked_back_to``; ``next``
    goes on from there, even if this page has no job at all.
    """

    jobs: tuple[JobLine, ...]
    next: str | None
    complete: bool
    looked_back_to: datetime.datetime | None


class Keys(NamedTuple):
    """The (workspace, id) of jobs, newest first; how many were looked at; and where to go on, None at the end."""

    keys: Sequence[Key]
    looked_at: int
    next: str | None


@checks_arguments(SearchError)
def find_jobs(session: Session, search: Search, *, limit: int = 50, before: str | None = None) -> JobPage:
    """A page of the jobs that a search finds, newest first. ``before`` is the ``next`` of the page before it.

    On a Session that sees all workspaces; who sees one has to say it in the search, or what is not his would be walked
    past. Raises :class:`SearchError` for what no index leads to, with what to say instead.
    """
    visit_workspace(session, search)
    way = way_to(session, search, _cursor(before))
    rows, end = read_rows(session, way, LINE, limit + 1)
    lines = tuple(line_of(row) for row in rows[:limit])
    if len(rows) > limit:
        return JobPage(lines, _cursor_text(rows[limit - 1]), complete=True, looked_back_to=None)
    if end is None:
        return JobPage(lines, None, complete=True, looked_back_to=None)
    return JobPage(lines, _cursor_text(end), complete=False, looked_back_to=_made_at(end[1]))


def find_keys(
    session: Session, search: Search, *, limit: int, before: str | None, made_until: datetime.datetime
) -> Keys:
    """The next ``limit`` jobs that a search finds, by their keys: for whoever does something to all of them.

    Those that were made after ``made_until`` are left out.
    """
    visit_workspace(session, search)
    way = way_to(session, search, _cursor(before), also="and r.created_at <= %(made_until)s")
    way.parameters["made_until"] = made_until
    rows, end = read_rows(session, way, "r.workspace_id, r.id", limit)
    keys = [(row[0], row[1]) for row in rows]
    if len(keys) == limit:
        return Keys(keys, limit, _cursor_text(keys[-1]))
    return Keys(keys, len(keys) if end is None else way.look or 0, None if end is None else _cursor_text(end))


def _made_at(job_id: uuid.UUID) -> datetime.datetime | None:
    """When a job was made, as its id says; None for an id that was not made by us."""
    if job_id.version != 7:
        return None
    return datetime.datetime.fromtimestamp((job_id.int >> 80) / 1000, tz=datetime.UTC)


def _cursor_text(key: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(key[0].bytes + key[1].bytes).decode().rstrip("=")


def _cursor(text: str | None) -> Key | None:
    if text is None:
        return None
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return uuid.UUID(bytes=value[:16]), uuid.UUID(bytes=value[16:])
    except (binascii.Error, ValueError):
        raise SearchError([Problem("/before", "is no cursor of ours; begin with the first page")]) from None
