"""What a worker may be told, checked before anything starts."""

import os
import socket
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final

from jobplatform.errors import SettingsError
from jobplatform.queue.allowed import duration_problem, seconds_wanted
from jobplatform.settings import Settings

LEAST: Final = {"slots": 1, "threads": 1, "memory_mb": 0, "max_jobs_per_child": 0, "crash_limit": 1, "max_jobs": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The options of one worker process. Durations are seconds."""

    database_url: str
    direct_database_url: str | None = None
    tasks: str = "jobplatform.connectors:tasks"
    slots: int = 8
    threads: int = 1
    queues: tuple[str, ...] = ()
    name: str | None = None
    drain_timeout: float = 30.0
    lease: float = 30.0
    heartbeat: float = 10.0
    poll: float = 1.0
    kill_grace: float = 5.0
    memory_mb: int = 0
    max_jobs_per_child: int = 0
    crash_limit: int = 3
    until_empty: bool = False
    """Whether to leave when nothing is left to do."""
    max_jobs: int = 0
    """Leave after having started so many; 0 is never."""
    completed_retention: timedelta = timedelta(days=7)
    failed_retention: timedelta = timedelta(days=30)
    audit_retention: timedelta = timedelta(days=400)
    tick_retention: timedelta = timedelta(days=35)
    sync_log_retention: timedelta = timedelta(days=90)
    doorbell: bool = True
    trust_login: bool = False
    health_host: str = "127.0.0.1"
    health_port: int | None = None
    """Where probes and numbers are served; nowhere unless it is said. 0 is any port that is free."""

    def __post_init__(self) -> None:
        if problems := _problems(self):
            raise SettingsError(problems)

    @classmethod
    def from_settings(cls, settings: Settings, **changes: Any) -> "WorkerOptions":
        """The options that `settings` name; `changes` win. The database's URL must be in one of the two."""
        values: dict[str, Any] = {
            "database_url": settings.database_url or "",
            "direct_database_url": settings.direct_database_url,
            "tasks": settings.tasks,
            "slots": settings.concurrency,
            "threads": settings.threads,
            "queues": settings.queues,
            "drain_timeout": settings.drain_timeout,
            "lease": settings.lease_seconds,
            "heartbeat": settings.heartbeat_seconds,
            "poll": settings.poll_seconds,
            "kill_grace": settings.kill_grace_seconds,
            "memory_mb": settings.memory_mb,
            "max_jobs_per_child": settings.max_jobs_per_child,
            "crash_limit": settings.crash_limit,
            "completed_retention": timedelta(days=settings.completed_retention_days),
            "failed_retention": timedelta(days=settings.failed_retention_days),
            "audit_retention": timedelta(days=settings.audit_retention_days),
            "tick_retention": timedelta(days=settings.tick_retention_days),
            "sync_log_retention": timedelta(days=settings.sync_log_retention_days),
            "doorbell": settings.doorbell,
            "trust_login": settings.trust_login,
            "health_host": settings.health_host,
            "health_port": settings.health_port,
        }
        return cls(**(values | changes))

    @property
    def own_database_url(self) -> str:
        """Where the worker's own connections go; its handlers' may go through a pooler."""
        return self.direct_database_url or self.database_url

    @property
    def capacity(self) -> int:
        """Jobs that can run at the same time."""
        return self.slots * self.threads

    @property
    def worker_name(self) -> str:
        return self.name or f"{socket.gethostname()}:{os.getpid()}"


def _problems_of_durations(options: WorkerOptions) -> list[str]:
    """Before anything is compared: each way of saying how long is refused where the other one is meant."""
    given = [(field.name, field.type, getattr(options, field.name)) for field in fields(options)]
    numbers = [
        problem for name, kind, value in given if kind is timedelta and (problem := duration_problem(name, value))
    ]
    return numbers + [
        seconds_wanted(name, value) for name, kind, value in given if kind is float and isinstance(value, timedelta)
    ]


def _problems(options: WorkerOptions) -> list[str]:
    if problems := _problems_of_durations(options):
        return problems
    if not options.database_url:
        problems.append("a worker needs a database: set DATABASE_URL or pass database_url")
    if ":" not in options.tasks:
        problems.append(f"tasks={options.tasks!r} must look like module:attribute")
    problems += [
        f"{name}={getattr(options, name)} must be at least {low}"
        for name, low in LEAST.items()
        if getattr(options, name) < low
    ]
    durations = [field.name for field in fields(options) if field.type is float]
    problems += [f"{name} must not be negative" for name in durations if getattr(options, name) < 0]
    if options.heartbeat * 2 > options.lease:
        problems.append(f"heartbeat={options.heartbeat:g} must be at most half of lease={options.lease:g}")
    return problems
