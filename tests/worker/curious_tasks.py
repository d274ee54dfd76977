"""Handlers that look around with SQL of their own."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobplatform.errors import InvalidJobError
from jobplatform.queue import RunningJob, Tasks

tasks = Tasks()


@tasks.task("look_around")
def look_around(job: RunningJob, payload: dict[str, Any]) -> dict[str, Any]:
    """The workspaces it sees by a plain select, before and after a commit, a rollback and an error."""

    def look() -> list[str]:
        return sorted({str(row.workspace_id) for row in job.session.execute(text("SELECT * FROM jobs"))})

    first = look()
    job.session.commit()
    second = look()
    job.session.rollback()
    try:
        job.session.execute(text("select 1 / 0"))
    except DBAPIError:
        job.session.rollback()
    return {"seen": [first, second, look()]}


@tasks.task("try_sql")
def try_sql(job: RunningJob, payload: dict[str, Any]) -> dict[str, Any]:
    """How many rows each statement sees or changes, or how the database refuses it."""
    return {statement: _try(job, statement) for statement in payload["statements"]}


def _try(job: RunningJob, statement: str) -> int | str:
    try:
        done = job.session.execute(text(statement))
        return len(done.all()) if done.returns_rows else done.rowcount  # type: ignore[attr-defined]  # a CursorResult
    except DBAPIError as error:
        return str(getattr(error.orig, "sqlstate", "?"))
    finally:
        job.session.rollback()


@tasks.task("write_down")
def write_down(job: RunningJob, payload: dict[str, Any]) -> None:
    """A row of the application's own, and the end of the job, in one transaction."""
    job.session.execute(text("insert into notes (note) values ('done')"))
    job.complete_in(job.session, "written")


@tasks.task("enqueue_for")
def enqueue_for(job: RunningJob, payload: dict[str, Any]) -> str:
    """A job of another workspace is not this one's to make: we say so, and the database to whoever gets around us."""
    workspace_id = UUID(payload["workspace"])
    try:
        write_down.enqueue(job.session, {}, workspace_id=workspace_id)
    except InvalidJobError:
        with job.looking() as apart:
            try:
                write_down.enqueue(apart, {}, workspace_id=workspace_id)
            except DBAPIError as error:
                return str(getattr(error.orig, "sqlstate", "?"))
    return "enqueued"
