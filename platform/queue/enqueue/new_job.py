"""What is asked for: a request to run a task, checked when it is made and before any database knows of it."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from uuid_utils.compat import uuid7

from jobplatform.errors import InvalidJobError, Problem
from jobplatform.models import SUCCESSOR
from jobplatform.queue.allowed import (
    PRIORITIES,
    VERSIONS,
    duration_problem,
    id_problem,
    is_name_text,
    is_whole,
    outside,
    problems_of_moment,
)
from jobplatform.queue.enqueue.edges import Edge, Predecessor, problems_of_edges
from jobplatform.queue.safe_json import text_problem
from jobplatform.queue.tasks.resources import resource_problem

MAX_ATTEMPTS = range(1, 1001)
UNITS = range(1, 10_001)
SHORTEST_TIMEOUT = datetime.timedelta(milliseconds=1)
LONGEST_DELAY = datetime.timedelta(days=36_500)
LONGEST_TIMEOUT = datetime.timedelta(days=7)
#: From the last year that a job may be due in it leads to no year that nobody could read.
LONGEST_START_WITHIN = datetime.timedelta(days=365)
LONGEST_KEY = 500
SHORTEST_PERIOD = datetime.timedelta(milliseconds=1)
LONGEST_PERIOD = datetime.timedelta(days=365)
MOST_TAGS = 20

_DURATIONS = {
    "timeout": "/timeoutMs",
    "delay": "/delayMs",
    "longest_delay": "/longestDelayMs",
    "start_within": "/startWithinMs",
    "unique_for": "/uniqueForMs",
}
_TEXTS = {
    "task": "/task",
    "queue": "/queue",
    "unique_key": "/uniqueKey",
    "resource": "/resource",
    "request_id": "/requestId",
    "trace_parent": "/traceParent",
}
_NAMES = {"task": "is not a task name", "queue": "is not a queue name"}
_LISTS = {"tags": "/tags", "after": "/after"}
_NO_TIME = datetime.timedelta(0)


# Not frozen: to fill the fields of one that is takes nearly half of the time that it takes to make a job.
@dataclass(slots=True, kw_only=True)
class NewJob:
    """A request to run ``task`` for a workspace, checked when it is made.

    ``run_after`` is a moment with a time zone, ``delay`` counts from the transaction's start; give one or neither.
    With ``longest_delay`` beside ``delay`` further requests that replace this one put it off no longer than that.
    ``start_within`` counts from when the job is due: if its first attempt has not begun by then, it never does, and the
    job is cancelled.
    ``unique_key`` is the uniqueness guard: at most one unfinished job of the workspace has it. With
    ``if_active="replace"`` one may wait beside the one that runs, and is always the newest that was asked for; a job
    of a batch, or one that waits for others, takes nobody's place. With ``unique_for`` no other is made for so long
    after the last one that was, also when that has completed; one that failed or was cancelled does not count.
    ``resource`` names what the job uses outside, as ``kind:account`` (``hubspot:4711``), and ``units`` how much of its
    rate an attempt takes. ``encrypted`` seals its payload and whatever it says while it runs. ``parent_id`` is the job
    that asked for it, ``batch_id`` the batch it belongs to, and ``after`` what it waits for: jobs, or :class:`Edge` for
    more than "until that has completed".
    ``blocked`` and ``followed`` follow from these and are not for users. ``id`` is made here (UUIDv7), so repeating an
    enqueue whose outcome is unknown cannot make a second job. ``dataclasses.replace`` makes one that differs,
    and checks it.
    Raises :class:`InvalidJobError` with every problem at once.
    """

    workspace_id: uuid.UUID
    task: str
    payload: Any = field(default_factory=dict)
    queue: str = "default"
    priority: int = 0
    run_after: datetime.datetime | None = None
    delay: datetime.timedelta | None = None
    longest_delay: datetime.timedelta | None = None
    max_attempts: int = 3
    timeout: datetime.timedelta = datetime.timedelta(minutes=10)
    start_within: datetime.timedelta | None = None
    unique_key: str | None = None
    unique_for: datetime.timedelta | None = None
    resource: str | None = None
    units: int = 1
    tags: tuple[str, ...] = ()
    payload_version: int = 1
    request_id: str | None = None
    trace_parent: str | None = None
    encrypted: bool = False
    parent_id: uuid.UUID | None = None
    batch_id: uuid.UUID | None = None
    after: Sequence[Edge | Predecessor] = ()
    blocked: bool = False
    followed: bool = False
    if_active: Literal["return", "replace"] = "return"
    id: uuid.UUID = field(default_factory=uuid7)

    def __post_init__(self) -> None:
        """Nothing is made for what is right: this runs for every job, and there is hardly ever a problem."""
        try:
            problems = [*self._problems_of_names_and_numbers(), *self._problems_of_time(), *self._problems_of_texts()]
        except (TypeError, AttributeError):
            # Durations are compared, and lists counted, without asking first whether they are any.
            problems = [*self._problems_of_types(), *self._problems_of_numbers()]
            if not problems:
                raise
        if problems:
            raise InvalidJobError(problems)

    def _problems_of_types(self) -> Iterator[Problem]:
        yield from self._problems_of_ids()
        for name, path in _TEXTS.items():
            value = getattr(self, name)
            if not isinstance(value, str):
                if value is not None or name in _NAMES:
                    yield Problem(path, f"must be a text, and is a {type(value).__name__}")
            elif name in _NAMES and not is_name_text(value):
                yield Problem(path, _NAMES[name])
        yield from self._problems_of_durations()
        for name, path in _LISTS.items():
            if not isinstance(value := getattr(self, name), Collection):
                yield Problem(path, f"must be a list, and is a {type(value).__name__}")

    def _problems_of_durations(self) -> Iterator[Problem]:
        for name, path in _DURATIONS.items():
            value = getattr(self, name)
            if (value is not None or name == "timeout") and (problem := duration_problem(name, value)):
                yield Problem(path, problem)

    def _problems_of_ids(self) -> Iterator[Problem]:
        if problem := id_problem(self.workspace_id):
            yield Problem("/workspaceId", problem)
        if problem := id_problem(self.id):
            yield Problem("/id", problem)
        if self.batch_id is not None and (problem := id_problem(self.batch_id)):
            yield Problem("/batchId", problem)
        if self.parent_id is not None and (problem := id_problem(self.parent_id)):
            yield Problem("/parentId", problem)

    def _problems_of_names_and_numbers(self) -> Iterator[Problem]:
        yield from self._problems_of_ids()
        if not is_name_text(self.task):
            yield Problem("/task", _NAMES["task"])
        if not is_name_text(self.queue):
            yield Problem("/queue", _NAMES["queue"])
        yield from self._problems_of_numbers()
        if self.if_active not in ("return", "replace"):
            yield Problem("/ifActive", 'must be "return" or "replace"')

    def _problems_of_numbers(self) -> Iterator[Problem]:
        if not is_whole(self.priority, PRIORITIES):
            yield outside(PRIORITIES, "/priority")
        if not is_whole(self.max_attempts, MAX_ATTEMPTS):
            yield outside(MAX_ATTEMPTS, "/maxAttempts")
        if not is_whole(self.units, UNITS):
            yield outside(UNITS, "/units")
        if not is_whole(self.payload_version, VERSIONS):
            yield outside(VERSIONS, "/payloadVersion")

    def _problems_of_time(self) -> Iterator[Problem]:
        if not SHORTEST_TIMEOUT <= self.timeout <= LONGEST_TIMEOUT:
            yield Problem("/timeoutMs", "must be from 1 ms to 7 days")
        if self.run_after is not None and self.delay is not None:
            yield Problem("/delayMs", "cannot be given together with runAfter")
        if self.run_after is not None:
            yield from problems_of_moment(self.run_after)
        if self.delay is not None and not _NO_TIME <= self.delay <= LONGEST_DELAY:
            yield Problem("/delayMs", "must not be negative, nor longer than a hundred years")
        if self.longest_delay is not None:
            yield from self._problems_of_longest_delay(self.longest_delay)
        if self.start_within is not None and not SHORTEST_TIMEOUT <= self.start_within <= LONGEST_START_WITHIN:
            yield Problem("/startWithinMs", "must be from 1 ms to 365 days")
        if self.unique_for is not None:
            yield from self._problems_of_period(self.unique_for)

    def _problems_of_longest_delay(self, longest: datetime.timedelta) -> Iterator[Problem]:
        if self.delay is None or self.if_active != "replace":
            yield Problem("/longestDelayMs", "is for a job that is replaced (ifActive) and has a delayMs")
        elif not self.delay <= longest <= LONGEST_DELAY:
            yield Problem("/longestDelayMs", "must not be shorter than delayMs, nor longer than a hundred years")

    def _problems_of_period(self, period: datetime.timedelta) -> Iterator[Problem]:
        if not SHORTEST_PERIOD <= period <= LONGEST_PERIOD:
            yield Problem("/uniqueForMs", "must be longer than nothing and at most 365 days")
        if self.unique_key is None:
            yield Problem("/uniqueForMs", "is about jobs that are the same, and needs a uniqueKey")
        if self.if_active == "replace":
            yield Problem("/ifActive", "cannot be replace where there is a uniqueForMs: one wants the newest made")

    def _problems_of_texts(self) -> Iterator[Problem]:
        if self.unique_key is not None:
            yield from _problems_of_key(self.unique_key, blocked=self.blocked)
        if self.resource is not None and (problem := resource_problem(self.resource)):
            yield Problem("/resource", problem)
        if self.tags != ():
            yield from self._problems_of_tags()
        if self.after:
            yield from problems_of_edges(self.after)
        if self.request_id is not None:
            yield from _problems_of_text(self.request_id, 200, "/requestId")
        if self.trace_parent is not None:
            yield from _problems_of_text(self.trace_parent, 200, "/traceParent")

    def _problems_of_tags(self) -> Iterator[Problem]:
        said: object = self.tags
        if isinstance(said, str):
            # Not every caller has a type checker, and each of its letters would be a tag.
            yield Problem("/tags", "must be a list of texts, and is a single one")
            return
        if len(self.tags) > MOST_TAGS:
            yield Problem("/tags", f"must be at most {MOST_TAGS}")
        for index, tag in enumerate(self.tags):
            yield from _problems_of_text(tag, 100, f"/tags/{index}")


def _problems_of_text(value: str, longest: int, path: str) -> Iterator[Problem]:
    if problem := text_problem(value):
        yield Problem(path, problem)
    elif not value:
        yield Problem(path, "must not be empty")
    elif len(value) > longest:
        yield Problem(path, f"must be at most {longest} characters")


def _problems_of_key(value: str, *, blocked: bool) -> Iterator[Problem]:
    if value.startswith(SUCCESSOR):
        # The mark is ours: what has it waits for the job without it.
        if not blocked:
            yield Problem("/uniqueKey", "must not begin with a control character")
        value = value[1:]
    yield from _problems_of_text(value, LONGEST_KEY, "/uniqueKey")
