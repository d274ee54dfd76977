"""Tasks: what an application knows how to do, as a value and not as a global.

>>> tasks = Tasks()
>>> @tasks.task("greet")
... def greet(job: RunningJob, payload: dict[str, str]) -> str:
...     return f"hello {payload['name']}"
>>> greet.name
'greet'

The task object is the enqueuer, so the payload's type travels from the handler to the call that enqueues it; calling
it is an ordinary call of the handler.
"""

from __future__ import annotations

import datetime
import difflib
import inspect
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal, TypeVar

from sqlalchemy.orm import Session

from jobplatform.errors import (
    InvalidJobError,
    InvalidLimitError,
    InvalidPayloadError,
    Problem,
    TaskDefinitionError,
    UnknownTaskError,
)
from jobplatform.queue.after.fill_batch import OpenBatch, open_batch_of
from jobplatform.queue.enqueue import Enqueued, NewJob, enqueue_jobs
from jobplatform.queue.enqueue.given import require_jobs, require_session
from jobplatform.queue.health.alerts import HOOK, HOOK_ATTEMPTS, HOOK_TIMEOUT, AlertEvent
from jobplatform.queue.health.rules import AlertRule
from jobplatform.queue.keep.how_long import Keep
from jobplatform.queue.run.again import RetryFunction
from jobplatform.queue.run.inline import run_after_commit
from jobplatform.queue.run.items import Items, batch_call, for_one, item_payload
from jobplatform.queue.run.outcomes import Retry
from jobplatform.queue.run.running import RunningJob
from jobplatform.queue.schedules.declare import Declarations
from jobplatform.queue.tasks.describe import payload_schema
from jobplatform.queue.tasks.options import (
    IfActive,
    Isolation,
    TaskOptions,
    Upgrade,
    options_problems,
    retry_options,
)
from jobplatform.queue.tasks.own import is_own_task
from jobplatform.queue.tasks.payloads import PayloadType, RefuseJobs, payload_type, result_type
from jobplatform.queue.tasks.resources import Adaptive, Template
from jobplatform.queue.tasks.retry import RetryPolicy
from jobplatform.queue.tasks.task import Task, hints_of
from jobplatform.queue.tasks.unique import Unique, Uniqueness

P = TypeVar("P")
R = TypeVar("R")
Mode = Literal["queue", "sync"]


class Tasks(Declarations):
    """The tasks of an application, and the schedules declared beside them.

    ``mode="sync"`` runs each job in the enqueuing process, right after its commit.
    """

    def __init__(self, *, mode: Mode = "queue") -> None:
        super().__init__()
        if mode not in ("queue", "sync"):
            raise TaskDefinitionError(f'mode={mode!r:.100} must be "queue" or "sync"')
        self.mode: Mode = mode
        self.loaded_from: str | None = None
        """``module:attribute``, where :func:`load_tasks` found them."""
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._refusing: dict[str, RefuseJobs] = {}
        self._rules: dict[str, AlertRule] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[Task[Any, Any]]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, name: str) -> Task[Any, Any]:
        """The task of that name. Raises :class:`UnknownTaskError` with the nearest name there is."""
        try:
            return self._tasks[name]
        except KeyError:
            raise self._unknown(name, self.names()) from None

    def names(self) -> list[str]:
        return sorted(self._tasks)

    def offered(self, name: str) -> Task[Any, Any]:
        """The task of that name, for who asks from outside the code: over HTTP, at the command line, by a schedule or a
        hook. The platform's own are unknown there. Raises :class:`UnknownTaskError`.
        """
        task = self._tasks.get(name)
        if task is None or is_own_task(name):
            raise self._unknown(name, self.offered_names())
        return task

    def offered_names(self) -> list[str]:
        return [name for name in self.names() if not is_own_task(name)]

    def _unknown(self, name: str, known: Sequence[str]) -> UnknownTaskError:
        near = difflib.get_close_matches(str(name), known, n=1)
        return UnknownTaskError(name, near[0] if near else None, looked_in=self.loaded_from, known=known)

    def queues(self) -> list[str]:
        """Every queue that a task names, and ``default``."""
        return sorted({"default", *(task.queue for task in self)})

    def catalogue(self) -> list[dict[str, Any]]:
        """What there is to know about each task without importing it, as JSON: for the worker's parent process."""
        return [
            {
                "name": task.name,
                "queue": task.queue,
                "timeout_ms": round(task.options.timeout.total_seconds() * 1000),
                "start_within_ms": _milliseconds(task.options.start_within),
                "retry": task.retry.as_dict(),
                "payload_version": task.payload_version,
                "limit": task.options.limit,
                "limit_per_workspace": task.options.limit_per_workspace,
                "resource_limits": {rule: _as_json(most) for rule, most in task.resource_limits.items()},
                "isolation": task.options.isolation,
                "batch": None if task.batch is None else [task.batch.size, task.batch.wait],
                "is_async": inspect.iscoroutinefunction(task.handler if task.batch is None else task.batch.handler),
                "priority": task.options.priority,
                "encrypted": task.options.encrypted,
                "if_active": task.options.if_active,
                "unique_for": task.options.unique_for and task.options.unique_for.total_seconds(),
                "keep": task.options.keep.as_seconds(),
                "description": task.description and task.description[:500],
                "tags": list(task.options.tags),
                "payload_schema": payload_schema(task.payload.schema),
            }
            for task in sorted(self, key=lambda task: task.name)
        ]

    def rules(self) -> list[dict[str, Any]]:
        """The declared rules of health, as JSON."""
        return [asdict(rule) for _, rule in sorted(self._rules.items())]

    def alert(
        self, name: str, metric: str, *, above: float, queue: str | None = None, task: str | None = None
    ) -> AlertRule:
        """Declare a rule of health: an alert ``name`` while ``metric`` is above ``above``, of a queue, a task or all.

        Workers write it down when they start; from then on health everywhere knows it, and an operator may change its
        threshold. Raises :class:`TaskDefinitionError` for what cannot work.
        """
        if name in self._rules:
            raise TaskDefinitionError(f"two rules are named {name!r}")
        try:
            self._rules[name] = AlertRule(name, metric, above, queue, task)
        except InvalidLimitError as error:
            raise TaskDefinitionError(f"rule {name!r}: {error}") from None
        return self._rules[name]

    def on_alert(self, hook: Callable[[RunningJob, AlertEvent], Any]) -> Task[AlertEvent, Any]:
        """Have this called once when an alert is raised, and once when it is over: a decorator without arguments.

        It runs as a job of the task ``jobplatform.alert``: in a handler's process, with ten attempts, in the platform's
        own workspace. So it may be called again if it fails or its worker dies.
        """
        retry = RetryPolicy(max_attempts=HOOK_ATTEMPTS)
        return self.task(HOOK, retry=retry, timeout=HOOK_TIMEOUT, payload=AlertEvent)(hook)

    def task(
        self,
        name: str,
        *,
        queue: str = "default",
        priority: int = 0,
        timeout: datetime.timedelta = datetime.timedelta(minutes=10),
        start_within: datetime.timedelta | None = None,
        max_attempts: int | None = None,
        retry: RetryPolicy | RetryFunction | Retry | None = None,
        unique: Unique | None = None,
        unique_for: datetime.timedelta | None = None,
        if_active: IfActive = "return",
        limit: int | None = None,
        limit_per_workspace: int | None = None,
        limit_per_resource: int | Adaptive | None = None,
        resource: str | Callable[[Any], str | None] | None = None,
        units: int = 1,
        tags: Sequence[str] = (),
        isolation: Isolation = "thread",
        encrypted: bool = False,
        keep: Keep | None = None,
        payload: Any = None,
        payload_version: int = 1,
        upgrade: Upgrade | None = None,
        result: Any = None,
        description: str | None = None,
    ) -> Callable[[Callable[[RunningJob, P], R]], Task[P, R]]:
        """Declare a task; the decorated handler takes the :class:`RunningJob` and the payload, and may be ``async``.

        When: ``start_within`` is for what is of no use late: a job whose first attempt has not begun within it, from
        when the job is due, is never started and ends as cancelled. ``retry`` is a policy, or a function of the
        attempt's number and its exception (see :data:`RetryFunction`).

        How often: ``unique="workspace"`` allows one unfinished job of this task in each workspace; names of payload
        fields allow one for each combination of their values, a function from payload to key one for each key. With
        ``unique_for`` there is no other for so long after the last one was made, also when that has completed. With
        ``if_active="replace"`` a further request is not turned away: it waits, with the newest payload, until the
        running one has ended.

        How many: ``limit`` and ``limit_per_workspace`` are how many run at a time; operators may change that while
        everything runs. ``resource`` names what a job uses outside, so that limits and rates can be set for it: a text
        with fields of the payload in it (``"hubspot:{account}"``) or a function of the payload; ``units`` is how much
        of the resource's rate an attempt takes, and ``limit_per_resource`` how many jobs, of all tasks and workspaces,
        use the same one at a time: a number, or ``Adaptive(1, 50)`` for as many as it turns out to take.

        What with: ``isolation="process"`` keeps an attempt's process to itself where workers run several in threads.
        ``encrypted`` seals payload, result, errors, log lines and progress messages of its jobs. ``keep`` says how long
        its jobs are kept after they ended. ``payload`` and ``result`` are only needed where the handler's annotations
        do not say it. A payload that was enqueued with an older ``payload_version`` goes through ``upgrade(payload, its
        version)`` first; one of a newer version waits for a worker with newer code.

        Raises :class:`TaskDefinitionError` for what cannot work.
        """
        if not isinstance(name, str):
            # A decorator without its brackets gets the handler, and would answer with a function that is no task.
            raise TaskDefinitionError('a task is declared with its name: write @tasks.task("send-invoice")')
        policy, decide = retry_options(retry, max_attempts)

        def declare(handler: Callable[[RunningJob, P], R]) -> Task[P, R]:
            _refuse_what_is_none(name, handler, tags)
            options = TaskOptions(
                queue=queue,
                priority=priority,
                timeout=timeout,
                retry=policy,
                payload_version=payload_version,
                units=units,
                start_within=start_within,
                encrypted=encrypted,
                decide=decide,
                upgrade=upgrade,
                if_active=if_active,
                unique_for=unique_for,
                tags=tuple(tags),
                description=description or _first_line(handler),
                limit=limit,
                limit_per_workspace=limit_per_workspace,
                limit_per_resource=limit_per_resource,
                isolation=isolation,
                keep=Keep() if keep is None else keep,
            )
            named = Template(resource) if isinstance(resource, str) else resource
            self._refuse_bad_options(name, options, named, unique)
            annotated, returned = hints_of(handler, declared=payload is not None)
            taken: PayloadType[P] = payload_type(annotated if payload is None else payload)
            key = None if unique is None else Uniqueness(name, unique, taken)
            returning = result_type(result, returned)
            return self._add(Task(self, name, handler, taken, options, result=returning, unique=key, resource=named))

        return declare

    def _add(self, task: Task[P, R]) -> Task[P, R]:
        self._tasks[task.name] = task
        if task.payload.refuse is not None:
            self._refusing[task.name] = task.payload.refuse
        return task

    def batch_task(
        self,
        name: str,
        *,
        size: int,
        wait: datetime.timedelta | float = 0.0,
        payload: Any = None,
        **options: Any,
    ) -> Callable[[Callable[[Items[P]], Any]], Task[P, Any]]:
        """Declare a task whose handler takes up to ``size`` jobs of one workspace at a time, as a :class:`Items`.

        ``wait`` (a duration or seconds) is how long a worker lets some wait for more. Further options are those of
        :meth:`task`; ``timeout`` is that of a whole call. A job that is tried again is called by itself, so that one
        that fails all others costs each of them one attempt at most.
        """
        if not isinstance(wait, datetime.timedelta | float | int):
            raise TaskDefinitionError(f"task {name!r}: wait={wait!r} is neither a duration nor a number of seconds")
        seconds = wait.total_seconds() if isinstance(wait, datetime.timedelta) else wait

        def declare(handler: Callable[[Items[P]], Any]) -> Task[P, Any]:
            call = batch_call(handler, size, seconds)
            taken = item_payload(handler, declared=payload is not None) if payload is None else payload
            task: Task[P, Any] = self.task(name, payload=taken, **options)(for_one(handler))
            task.batch = call
            return task

        return declare

    def _refuse_bad_options(self, name: str, options: TaskOptions, resource: object, unique: object) -> None:
        """What no job of this task could be enqueued with is refused now, not at the first enqueue."""
        if name in self._tasks:
            first = self._tasks[name].handler
            where = f"{first.__module__}.{getattr(first, '__qualname__', type(first).__name__)}"
            raise TaskDefinitionError(f"two tasks are named {name!r}: {where} is one already; give one another name")
        problems = options_problems(options)
        if options.if_active == "replace" and unique is None:
            problems.append('if_active="replace" needs unique=…: it is about jobs that are the same')
        if options.unique_for is not None and unique is None:
            problems.append("unique_for needs unique=…: it is about jobs that are the same")
        if not (resource is None or isinstance(resource, Template) or callable(resource)):
            problems.append(f"resource={resource!r:.100} is neither a text nor a function of the payload")
        if options.limit_per_resource is not None and not problems:
            problems += self._resource_limit_problems(options.limit_per_resource, resource)
        if problems:
            raise TaskDefinitionError(f"task {name!r}: {'; '.join(problems)}")
        try:
            NewJob(
                workspace_id=uuid.UUID(int=0),
                task=name,
                queue=options.queue,
                priority=options.priority,
                timeout=options.timeout,
                start_within=options.start_within,
                max_attempts=options.retry.max_attempts,
                # A name that fields are still to be put into is checked with them, at each enqueue.
                resource=resource.text if isinstance(resource, Template) and not resource.fields else None,
                units=options.units,
                tags=options.tags,
                unique_key=None if options.unique_for is None else name,
                unique_for=options.unique_for,
                if_active=options.if_active,
            )
        except InvalidJobError as error:
            raise TaskDefinitionError(f"task {name!r}: {error}") from None

    def _resource_limit_problems(self, most: int | Adaptive, resource: object) -> list[str]:
        """A limit is for what the text says before it is filled, and one for all tasks that use the same."""
        rule = resource.rule if isinstance(resource, Template) else None
        if rule is None:
            return ['limit_per_resource needs a resource whose kind is in its text, as in resource="account:{id}"']
        others = {task.name: task.resource_limits.get(rule, most) for task in self}
        return [
            f"limit_per_resource={most} of {rule} is {other} in the task {name!r}: all that use it share one limit"
            for name, other in others.items()
            if other != most
        ][:1]

    def enqueue(self, session: Session, job: NewJob) -> Enqueued:
        """Enqueue one job in the caller's transaction; see :meth:`enqueue_many`."""
        return self.enqueue_many(session, [job])[0]

    def enqueue_many(self, session: Session, jobs: list[NewJob]) -> list[Enqueued]:
        """Enqueue jobs in the caller's transaction. In synchronous mode they run as soon as it has committed.

        Raises :class:`InvalidPayloadError`, with the id of each job, when payloads name what is not there (see
        :attr:`PayloadType.refuse`), and what :func:`enqueue_jobs` raises. Then nothing was enqueued.
        """
        require_session(session)
        jobs = require_jobs(jobs)
        if refused := self.refused(session, jobs):
            raise InvalidPayloadError(list(refused.values()), list(refused))
        answers = enqueue_jobs(session, jobs)
        if self.mode == "sync":
            for job, answer in zip(jobs, answers, strict=True):
                if answer.created:
                    run_after_commit(session, self, job.workspace_id, [answer.job_id])
        return answers

    def refused(self, session: Session, jobs: Sequence[NewJob]) -> dict[uuid.UUID, Problem]:
        """Which of these jobs name what is not there, and what, by their ids. Nothing is enqueued.

        Nearly no task has a say, so most jobs are not looked at.
        """
        refused: dict[uuid.UUID, Problem] = {}
        for name, refuse in self._refusing.items():
            if asked := [job for job in jobs if job.task == name]:
                refused.update(refuse(session, asked))
        return refused

    def batch(
        self,
        session: Session,
        *,
        workspace_id: uuid.UUID,
        name: str | None = None,
        on_complete: NewJob | None = None,
        on_success: NewJob | None = None,
        on_failure: NewJob | None = None,
    ) -> OpenBatch:
        """Open a batch in the caller's transaction::

            with tasks.batch(session, workspace_id=ws, on_success=report.new_job(workspace_id=ws)) as batch:
                batch.add(sync.new_job({"page": 1}, workspace_id=ws), sync.new_job({"page": 2}, workspace_id=ws))

        Of the three jobs each runs once at most: ``on_complete`` when all members have ended, however; ``on_success``
        when all of them completed; ``on_failure`` when not. A handler finds its batch as ``job.batch``.
        """
        return open_batch_of(self, session, workspace_id, name, on_complete, on_success, on_failure)


def _refuse_what_is_none(name: str, handler: object, tags: object) -> None:
    """What nothing could be made of, before anything is made of it."""
    if not callable(handler):
        raise TaskDefinitionError(f"task {name!r}: a function is declared, and not a {type(handler).__name__}")
    if isinstance(tags, str):
        raise TaskDefinitionError(f"task {name!r}: tags={tags!r} is a single text; write ({tags!r},)")
    if not isinstance(tags, Iterable):
        raise TaskDefinitionError(f"task {name!r}: tags={tags!r:.100} is no list of texts")


def _as_json(limit: int | Adaptive) -> int | list[int]:
    return [limit.least, limit.most] if isinstance(limit, Adaptive) else limit


def _milliseconds(duration: datetime.timedelta | None) -> int | None:
    return None if duration is None else round(duration.total_seconds() * 1000)


def _first_line(handler: Callable[..., Any]) -> str | None:
    lines = inspect.cleandoc(handler.__doc__ or "").splitlines()
    return lines[0] if lines else None
