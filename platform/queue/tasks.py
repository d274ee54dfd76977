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
import importlib
import inspect
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_type_hints

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, InvalidLimitError, SettingsError, TaskDefinitionError, UnknownTaskError
from jobplatform.queue.alerts import HOOK, HOOK_ATTEMPTS, HOOK_TIMEOUT, AlertEvent
from jobplatform.queue.declare import Declarations
from jobplatform.queue.edges import Edge, Predecessor
from jobplatform.queue.enqueue import Enqueued, NewJob, enqueue_jobs
from jobplatform.queue.fill_batch import OpenBatch, open_batch_of
from jobplatform.queue.inline import run_after_commit
from jobplatform.queue.keep import Keep
from jobplatform.queue.payloads import PayloadType, payload_type
from jobplatform.queue.resources import Template
from jobplatform.queue.retry import Retry
from jobplatform.queue.rules import AlertRule
from jobplatform.queue.running import RunningJob

P = TypeVar("P")
R = TypeVar("R")
Mode = Literal["queue", "sync"]


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The defaults a task gives to its jobs; each can be overridden when one is enqueued."""

    queue: str
    priority: int
    timeout: datetime.timedelta
    retry: Retry
    payload_version: int
    units: int = 1
    encrypted: bool = False
    keep: Keep = field(default_factory=Keep)


class Task(Generic[P, R]):
    """Something we know how to do. Made by :meth:`Tasks.task`."""

    def __init__(
        self,
        registry: Tasks,
        name: str,
        handler: Callable[[RunningJob, P], R],
        payload: PayloadType[P],
        options: TaskOptions,
        unique: Literal["workspace"] | Callable[[P], str | None] | None,
        resource: Template | Callable[[P], str | None] | None = None,
    ) -> None:
        self.name = name
        self.handler = handler
        self.payload = payload
        self.options = options
        self._registry = registry
        self._unique = unique
        self._resource = resource
        self.__doc__ = handler.__doc__

    def __call__(self, job: RunningJob, payload: P) -> R:
        return self.handler(job, payload)

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"

    @property
    def queue(self) -> str:
        return self.options.queue

    @property
    def retry(self) -> Retry:
        return self.options.retry

    def enqueue(
        self,
        session: Session,
        payload: P | Mapping[str, Any] | None = None,
        *,
        workspace_id: uuid.UUID,
        **options: Any,
    ) -> Enqueued:
        """Enqueue a job of this task in the caller's transaction. Never commits.

        ``options`` are those of :meth:`new_job`. The answer says whether a job was created, or which unfinished job
        holds the uniqueness guard. Raises :class:`InvalidPayloadError` or :class:`InvalidJobError`.
        """
        return self._registry.enqueue(session, self.new_job(payload, workspace_id=workspace_id, **options))

    def new_job(
        self,
        payload: P | Mapping[str, Any] | None = None,
        *,
        workspace_id: uuid.UUID,
        queue: str | None = None,
        priority: int | None = None,
        run_after: datetime.datetime | None = None,
        delay: datetime.timedelta | None = None,
        max_attempts: int | None = None,
        timeout: datetime.timedelta | None = None,
        unique_key: str | None = None,
        resource: str | None = None,
        units: int | None = None,
        tags: tuple[str, ...] = (),
        request_id: str | None = None,
        trace_parent: str | None = None,
        after: Sequence[Edge | Predecessor] = (),
        batch_id: uuid.UUID | None = None,
    ) -> NewJob:
        """A job of this task, checked and ready for :meth:`Tasks.enqueue_many`. The rest is the task's default.

        ``after`` names jobs or batches that it waits for, ``batch_id`` an open batch that it is to belong to.
        """
        value = self.payload.dump(payload)
        return NewJob(
            workspace_id=workspace_id,
            task=self.name,
            payload=value,
            payload_version=self.options.payload_version,
            queue=self.options.queue if queue is None else queue,
            priority=self.options.priority if priority is None else priority,
            run_after=run_after,
            delay=delay,
            max_attempts=self.options.retry.max_attempts if max_attempts is None else max_attempts,
            timeout=self.options.timeout if timeout is None else timeout,
            unique_key=self._unique_key(value) if unique_key is None else unique_key,
            resource=self._resource_of(value) if resource is None else resource,
            units=self.options.units if units is None else units,
            tags=tags,
            request_id=request_id,
            trace_parent=trace_parent,
            encrypted=self.options.encrypted,
            after=after,
            batch_id=batch_id,
        )

    def _unique_key(self, value: Any) -> str | None:
        if self._unique is None or self._unique == "workspace":
            # The index behind the guard begins with the workspace, so the key need not name it.
            return self.name if self._unique else None
        key = self._unique(self.payload.load(value))
        return None if key is None else f"{self.name}:{key}"

    def _resource_of(self, value: Any) -> str | None:
        if self._resource is None:
            return None
        if isinstance(self._resource, Template):
            return self._resource.fill(value, lambda: self._with_defaults(value))
        return self._resource(self.payload.load(value))

    def _with_defaults(self, value: Any) -> Any:
        """What came as a mapping need not name the fields that have a default."""
        loaded: Any = self.payload.load(value)
        return loaded if isinstance(loaded, Mapping) else self.payload.dump(loaded)


class Tasks(Declarations):
    """The tasks of an application, and the schedules declared beside them.

    ``mode="sync"`` runs each job in the enqueuing process, right after its commit.
    """

    def __init__(self, *, mode: Mode = "queue") -> None:
        super().__init__()
        self.mode: Mode = mode
        self._tasks: dict[str, Task[Any, Any]] = {}
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
            near = difflib.get_close_matches(name, self._tasks, n=1)
            raise UnknownTaskError(name, near[0] if near else None) from None

    def names(self) -> list[str]:
        return sorted(self._tasks)

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
                "retry": task.retry.as_dict(),
                "payload_version": task.options.payload_version,
                "priority": task.options.priority,
                "encrypted": task.options.encrypted,
                "is_async": inspect.iscoroutinefunction(task.handler),
                "keep": task.options.keep.as_seconds(),
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
        retry = Retry(max_attempts=HOOK_ATTEMPTS)
        return self.task(HOOK, retry=retry, timeout=HOOK_TIMEOUT, payload=AlertEvent)(hook)

    def task(
        self,
        name: str,
        *,
        queue: str = "default",
        priority: int = 0,
        timeout: datetime.timedelta = datetime.timedelta(minutes=10),
        max_attempts: int | None = None,
        retry: Retry | None = None,
        unique: Literal["workspace"] | Callable[[Any], str | None] | None = None,
        resource: str | Callable[[Any], str | None] | None = None,
        units: int = 1,
        encrypted: bool = False,
        keep: Keep | None = None,
        payload: Any = None,
        payload_version: int = 1,
    ) -> Callable[[Callable[[RunningJob, P], R]], Task[P, R]]:
        """Declare a task; the decorated handler takes the :class:`RunningJob` and the payload, and may be ``async``.

        ``unique="workspace"`` allows one unfinished job of this task in each workspace; a function from payload to
        key allows one for each key. ``resource`` names what a job uses outside, so that limits and rates can be set
        for it: a text with fields of the payload in it (``"hubspot:{account}"``) or a function of the payload;
        ``units`` is how much of the resource's rate an attempt takes. ``encrypted`` seals payload, result, errors, log
        lines and progress messages of its jobs. ``keep`` says how long its jobs are kept after they ended. ``payload``
        is only needed where the handler's annotation does not say it. Raises :class:`TaskDefinitionError` for what
        cannot work.
        """
        policy = retry or Retry()
        if max_attempts is not None:
            policy = Retry(**{**policy.as_dict(), "max_attempts": max_attempts})
        options = TaskOptions(queue, priority, timeout, policy, payload_version, units, encrypted, keep or Keep())

        def declare(handler: Callable[[RunningJob, P], R]) -> Task[P, R]:
            named = Template(resource) if isinstance(resource, str) else resource
            self._refuse_bad_options(name, options, named)
            taken: PayloadType[P] = payload_type(_annotated_payload(handler) if payload is None else payload)
            task = Task(self, name, handler, taken, options, unique, named)
            self._tasks[name] = task
            return task

        return declare

    def _refuse_bad_options(self, name: str, options: TaskOptions, resource: object) -> None:
        """What no job of this task could be enqueued with is refused now, not at the first enqueue."""
        if name in self._tasks:
            raise TaskDefinitionError(f"two tasks are named {name!r}")
        try:
            NewJob(
                workspace_id=uuid.UUID(int=0),
                task=name,
                queue=options.queue,
                priority=options.priority,
                timeout=options.timeout,
                max_attempts=options.retry.max_attempts,
                # A name that fields are still to be put into is checked with them, at each enqueue.
                resource=resource.text if isinstance(resource, Template) and not resource.fields else None,
                units=options.units,
            )
        except InvalidJobError as error:
            raise TaskDefinitionError(f"task {name!r}: {error}") from None

    def enqueue(self, session: Session, job: NewJob) -> Enqueued:
        """Enqueue one job in the caller's transaction; see :meth:`enqueue_many`."""
        return self.enqueue_many(session, [job])[0]

    def enqueue_many(self, session: Session, jobs: list[NewJob]) -> list[Enqueued]:
        """Enqueue jobs in the caller's transaction. In synchronous mode they run as soon as it has committed."""
        answers = enqueue_jobs(session, jobs)
        if self.mode == "sync":
            for job, answer in zip(jobs, answers, strict=True):
                if answer.created:
                    run_after_commit(session, self, job.workspace_id, [answer.job_id])
        return answers

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


def load_tasks(name: str) -> Tasks:
    """Import the :class:`Tasks` that ``module:attribute`` names; the current folder is searched too.

    Raises :class:`SettingsError` with what to correct.
    """
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        tasks = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise SettingsError([f"JOBPLATFORM_TASKS={name!r}: cannot import {module_name}: {error}"]) from error
    except AttributeError:
        raise SettingsError([f"JOBPLATFORM_TASKS={name!r}: {module_name} has no attribute {attribute!r}"]) from None
    if not isinstance(tasks, Tasks):
        raise SettingsError([f"JOBPLATFORM_TASKS={name!r}: is a {type(tasks).__name__}, not a Tasks"])
    return tasks


def _annotated_payload(handler: Callable[..., Any]) -> Any:
    """The annotation of the handler's second parameter."""
    parameters = list(inspect.signature(handler).parameters.values())
    if len(parameters) != 2:
        raise TaskDefinitionError(f"{handler.__qualname__} must take two arguments: the running job and the payload")
    try:
        hints = get_type_hints(handler)
    except NameError as error:
        raise TaskDefinitionError(
            f"the annotations of {handler.__qualname__} cannot be read ({error}); pass payload= to the decorator"
        ) from None
    return hints.get(parameters[1].name, inspect.Parameter.empty)
