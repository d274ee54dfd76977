"""A task: something we know how to do, and the enqueuer of its jobs."""

from __future__ import annotations

import datetime
import inspect
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, get_type_hints, overload

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, InvalidPayloadError, Problem, TaskDefinitionError
from jobplatform.queue.enqueue import Enqueued, NewJob
from jobplatform.queue.enqueue.edges import Edge, Predecessor
from jobplatform.queue.enqueue.given import require_session, several
from jobplatform.queue.enqueue.parent import parent_of
from jobplatform.queue.run.running import RunningJob
from jobplatform.queue.tasks.options import IfActive, JobOptions, TaskOptions
from jobplatform.queue.tasks.payloads import PayloadType, ResultType
from jobplatform.queue.tasks.resources import Adaptive, Template
from jobplatform.queue.tasks.retry import RetryPolicy
from jobplatform.queue.tasks.unique import Uniqueness

if TYPE_CHECKING:
    from jobplatform.queue.run.items import BatchCall
    from jobplatform.queue.tasks.registry import Tasks

P = TypeVar("P")
R = TypeVar("R")
T = TypeVar("T")


class Task(Generic[P, R]):
    """Something we know how to do. Made by :meth:`Tasks.task`."""

    def __init__(
        self,
        registry: Tasks,
        name: str,
        handler: Callable[[RunningJob, P], R],
        payload: PayloadType[P],
        options: TaskOptions,
        *,
        result: ResultType | None = None,
        unique: Uniqueness | None = None,
        resource: Template | Callable[[P], str | None] | None = None,
    ) -> None:
        self.name = name
        self.handler = handler
        self.payload = payload
        self.result = result
        self.options = options
        self.payload_version = options.payload_version
        self.batch: BatchCall | None = None
        """How several of its jobs are called together, if they are."""
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
    def retry(self) -> RetryPolicy:
        return self.options.retry

    @property
    def resource_limits(self) -> dict[str, int | Adaptive]:
        """How many jobs use its resource at a time, for all that use it: of one, or of each of its kind."""
        rule = self._resource.rule if isinstance(self._resource, Template) else None
        most = self.options.limit_per_resource
        return {} if rule is None or most is None else {rule: most}

    @property
    def names_key(self) -> bool:
        """Whether a payload says which other jobs of this task are the same."""
        return self._unique is not None

    @property
    def names_resource(self) -> bool:
        """Whether a payload says what its job uses outside."""
        return self._resource is not None

    @property
    def description(self) -> str | None:
        return self.options.description

    def enqueue(
        self,
        session: Session,
        payload: P | Mapping[str, Any] | None = None,
        *,
        workspace_id: uuid.UUID | None = None,
        **options: Unpack[JobOptions],
    ) -> Enqueued:
        """Enqueue a job of this task in the caller's transaction. Never commits.

        ``options`` are those of :meth:`new_job`; ``if_active="replace"`` has the job wait in the place of one that
        waits under its key, or for the one that runs; each request with a ``delay`` puts it off again, until
        ``longest_delay`` after the first of them. With ``unique_for`` no other is made for so long after the last one
        was, also when that has completed. With a handler's own Session (``job.session``) the job is a
        child of the running one, and its workspace need not be named. The answer says whether a job was created, or
        which job there is already.
        Raises :class:`InvalidPayloadError` or :class:`InvalidJobError`.
        """
        where = _workspace(session, workspace_id)
        return self._registry.enqueue(session, self.new_job(payload, workspace_id=where, **options))

    def enqueue_many(
        self,
        session: Session,
        payloads: Iterable[P | Mapping[str, Any]],
        *,
        workspace_id: uuid.UUID | None = None,
        **options: Unpack[JobOptions],
    ) -> list[Enqueued]:
        """Enqueue a job for each of ``payloads`` in one statement; the answers come in the same order.

        Raises :class:`InvalidPayloadError` with the position of each payload that does not fit, or names what is not
        there (``/3/name``); then nothing was enqueued.
        """
        where = _workspace(session, workspace_id)
        problems: list[Problem] = []
        jobs: list[NewJob] = []
        for position, payload in enumerate(several(payloads, "payloads")):
            try:
                jobs.append(self.new_job(payload, workspace_id=where, **options))
            except InvalidPayloadError as error:
                problems += [Problem(f"/{position}{path}", message) for path, message in error.problems]
        if problems:
            raise InvalidPayloadError(problems)
        try:
            return self._registry.enqueue_many(session, jobs)
        except InvalidPayloadError as error:
            raise _by_position(error, jobs) from None

    def new_job(
        self,
        payload: P | Mapping[str, Any] | None = None,
        *,
        workspace_id: uuid.UUID,
        queue: str | None = None,
        priority: int | None = None,
        run_after: datetime.datetime | None = None,
        delay: datetime.timedelta | None = None,
        longest_delay: datetime.timedelta | None = None,
        max_attempts: int | None = None,
        timeout: datetime.timedelta | None = None,
        start_within: datetime.timedelta | None = None,
        unique_key: str | None = None,
        unique_for: datetime.timedelta | None = None,
        if_active: IfActive | None = None,
        resource: str | None = None,
        units: int | None = None,
        tags: tuple[str, ...] | None = None,
        request_id: str | None = None,
        trace_parent: str | None = None,
        after: Sequence[Edge | Predecessor] = (),
        batch_id: uuid.UUID | None = None,
    ) -> NewJob:
        """A job of this task, checked and ready for :meth:`Tasks.enqueue_many`. The rest is the task's default.

        ``after`` names jobs or batches that it waits for, ``batch_id`` an open batch that it is to belong to.
        """
        value = self.payload.dump(payload)
        defaults = self.options
        key = self._unique_key(value) if unique_key is None else unique_key
        return NewJob(
            workspace_id=workspace_id,
            task=self.name,
            payload=value,
            payload_version=self.payload_version,
            queue=defaults.queue if queue is None else queue,
            priority=defaults.priority if priority is None else priority,
            run_after=run_after,
            delay=delay,
            longest_delay=longest_delay,
            max_attempts=defaults.retry.max_attempts if max_attempts is None else max_attempts,
            timeout=defaults.timeout if timeout is None else timeout,
            start_within=defaults.start_within if start_within is None else start_within,
            unique_key=key,
            # A payload that is like no other has no last job either.
            unique_for=defaults.unique_for if unique_for is None and key is not None else unique_for,
            if_active=defaults.if_active if if_active is None else if_active,
            resource=self._resource_of(value) if resource is None else resource,
            units=defaults.units if units is None else units,
            tags=defaults.tags if tags is None else tags,
            request_id=request_id,
            trace_parent=trace_parent,
            encrypted=defaults.encrypted,
            after=after,
            batch_id=batch_id,
        )

    def read_payload(self, value: Any, version: int) -> P:
        """The handler's payload from the JSON of a job that an older version of the code enqueued.

        Raises :class:`InvalidPayloadError` when it does not load, not even after the task's ``upgrade``.
        """
        if version < self.payload_version and self.options.upgrade is not None:
            value = self.options.upgrade(value, version)
        try:
            return self.payload.load(value)
        except InvalidPayloadError as error:
            note = f"(a payload of version {version}, read by code for version {self.payload_version})"
            raise InvalidPayloadError([Problem(path, f"{text} {note}") for path, text in error.problems]) from None

    @overload
    def load_result(self: Task[Any, Coroutine[Any, Any, T]], value: Any) -> T: ...

    @overload
    def load_result(self: Task[Any, R], value: Any) -> R: ...

    def load_result(self, value: Any) -> Any:
        """What the handler returned, from a job's ``result``: an instance where the task declares what it returns."""
        return value if self.result is None else self.result.load(value)

    def _unique_key(self, value: Any) -> str | None:
        return None if self._unique is None else self._unique.key(value)

    def _resource_of(self, value: Any) -> str | None:
        if self._resource is None:
            return None
        if isinstance(self._resource, Template):
            return self._resource.fill(value, lambda: self.payload.complete(value))
        return self._resource(self.payload.load(value))


def _by_position(error: InvalidPayloadError, jobs: Sequence[NewJob]) -> InvalidPayloadError:
    """The same with the place of each job before its problem, where it is known of which it is."""
    at = {job.id: position for position, job in enumerate(jobs)}
    places = [f"/{at[job_id]}" for job_id in error.job_ids] or [""] * len(error.problems)
    problems = [Problem(f"{place}{path}", text) for place, (path, text) in zip(places, error.problems, strict=True)]
    return InvalidPayloadError(problems, error.job_ids)


def _workspace(session: Session, workspace_id: uuid.UUID | None) -> uuid.UUID:
    require_session(session)
    if workspace_id is not None:
        return workspace_id
    parent = parent_of(session)
    if parent is None:
        raise InvalidJobError([Problem("/workspaceId", "is needed, except with the Session of a running job")])
    return parent.workspace_id


def hints_of(handler: Callable[..., Any], *, declared: bool) -> tuple[Any, Any]:
    """The annotations of a handler's second parameter and of what it returns; ``inspect.Parameter.empty`` for none.

    Raises :class:`TaskDefinitionError` when it does not take two, or when its annotations cannot be read and what it
    takes is not ``declared`` otherwise.
    """
    what = "two arguments: the running job and the payload"
    (_, payload), returned = hints_of_parameters(handler, 2, what, declared=declared)
    return payload, returned


def hints_of_parameters(
    handler: Callable[..., Any], count: int, what: str, *, declared: bool
) -> tuple[tuple[Any, ...], Any]:
    """The same for all its parameters, of which there must be so many."""
    empty = inspect.Parameter.empty
    named = getattr(handler, "__qualname__", type(handler).__name__)
    parameters = list(inspect.signature(handler).parameters.values())
    if len(parameters) != count:
        raise TaskDefinitionError(f"{named} must take {what}")
    try:
        hints = get_type_hints(handler)
    except NameError as error:
        if declared:
            return (empty,) * count, empty
        raise TaskDefinitionError(
            f"the annotations of {named} cannot be read ({error}); pass payload= to the decorator"
        ) from None
    return tuple(hints.get(parameter.name, empty) for parameter in parameters), hints.get("return", empty)
