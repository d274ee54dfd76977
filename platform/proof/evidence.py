"""All that is known about a run, gathered for the checker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from jobplatform.proof.changes import Changes, read_changes
from jobplatform.proof.clients import Promises
from jobplatform.proof.diary import Entry
from jobplatform.proof.history import Event, read_history
from jobplatform.proof.onlooker import as_role
from jobplatform.proof.watcher import Seen

Row = dict[str, Any]

RECORDS = "select *, id::text as job_id from jobplatform.job_records"
QUEUE_ROWS = "select *, id::text as job_id from jobplatform.job_queue"
ATTEMPTS = "select *, job_id::text as job_id from jobplatform.job_attempts order by epoch"
LINES = "select *, job_id::text as job_id from jobplatform.job_logs"
SCHEDULES = "select *, id::text as id from jobplatform.schedules"
TICKS = """
select *, schedule_id::text as schedule_id, job_id::text as job_id from jobplatform.schedule_ticks order by tick_at
"""
PAGES = "select job_id, page, epoch from chaos.pages order by seq"
EDGES = """
select job_id::text as job_id, after_id::text as after_id, of_batch, run_if, after_status from jobplatform.job_edges
"""
BATCHES = """
select id::text as id, total, completed, failed, cancelled, closed_at, ended_at from jobplatform.batches
"""
NOTICES = "select *, job_id::text as job_id from jobplatform.notices"
EFFECTS = "select job_id, epoch from chaos.effects order by seq"


@dataclass(slots=True)
class Evidence:
    """``history`` is what the database wrote down, ``diary`` what handlers did, ``promises`` what clients were told,
    ``seen`` what the watcher saw, ``changes`` what limits were set, and the rest what is there at the end."""

    crash_limit: int
    promises: Promises
    diary: Sequence[Entry]
    seen: Seen
    history: list[Event] = field(default_factory=list)
    records: dict[str, Row] = field(default_factory=dict)
    queue_rows: dict[str, Row] = field(default_factory=dict)
    attempts: list[Row] = field(default_factory=list)
    lines: list[Row] = field(default_factory=list)
    effects: list[Row] = field(default_factory=list)
    schedules: list[Row] = field(default_factory=list)
    ticks: list[Row] = field(default_factory=list)
    pages: list[Row] = field(default_factory=list)
    edges: list[Row] = field(default_factory=list)
    batches: list[Row] = field(default_factory=list)
    notices: list[Row] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)
    demanded: frozenset[str] = frozenset()
    """What must have been reached, or the run says nothing about it."""
    patience: float = 30.0
    """For how many seconds a job that could start may be left waiting while slots are free."""
    complaints: list[str] = field(default_factory=list)
    """What went wrong with processes rather than with jobs."""

    @property
    def ran(self) -> set[str]:
        """The jobs of which some attempt was started."""
        return {entry.job_id for entry in self.diary}

    def of_job(self, job_id: str) -> list[str]:
        """Everything about one job, to be read by somebody who looks for the cause."""
        events = [str(event) for event in self.history if event.job_id == job_id and event.source != "workers"]
        entries = [f"         diary        {entry}" for entry in self.diary if entry.job_id == job_id]
        attempts = [f"         attempt      {_short(row)}" for row in self.attempts if row["job_id"] == job_id]
        return events + entries + attempts


def gather(
    connection: psycopg.Connection[Any],
    *,
    crash_limit: int,
    promises: Promises,
    diary: Sequence[Entry],
    seen: Seen,
) -> Evidence:
    """Read what the database holds, once everything has come to rest."""

    def rows(statement: str) -> list[Row]:
        with as_role(connection), connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement).fetchall()

    def own_rows(statement: str) -> list[Row]:
        with connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement).fetchall()

    return Evidence(
        crash_limit=crash_limit,
        promises=promises,
        diary=diary,
        seen=seen,
        history=read_history(connection),
        records={row["job_id"]: row for row in rows(RECORDS)},
        queue_rows={row["job_id"]: row for row in rows(QUEUE_ROWS)},
        attempts=rows(ATTEMPTS),
        lines=rows(LINES),
        effects=own_rows(EFFECTS),
        schedules=rows(SCHEDULES),
        ticks=rows(TICKS),
        pages=own_rows(PAGES),
        edges=rows(EDGES),
        batches=rows(BATCHES),
        notices=rows(NOTICES),
        changes=read_changes(connection),
    )


def _short(row: Row) -> str:
    names = ("epoch", "attempt", "worker_id", "outcome", "final", "error_type", "error")
    return ", ".join(f"{name}={row[name]}" for name in names)
