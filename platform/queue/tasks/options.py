"""What a task may say about its jobs, and what may be said when one is enqueued."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from jobplatform.errors import TaskDefinitionError
from jobplatform.queue.allowed import COUNTS, VERSIONS, is_whole
from jobplatform.queue.enqueue.edges import Edge, Predecessor
from jobplatform.queue.keep.how_long import Keep
from jobplatform.queue.run.again import RetryFunction
from jobplatform.queue.run.outcomes import Retry
from jobplatform.queue.tasks.resources import Adaptive, adaptive_problem
from jobplatform.queue.tasks.retry import RetryPolicy

#: From the payload as an older version of the code wrote it, and that version's number: as it is written today.
Upgrade = Callable[[dict[str, Any], int], dict[str, Any]]
#: When an unfinished job has the uniqueness guard: answer with that job, or have the newest request wait in its place.
IfActive = Literal["return", "replace"]
#: Whether an attempt has its process to itself, or shares it with those in other threads.
Isolation = Literal["process", "thread"]


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The defaults a task gives to its jobs; each that a job has too can be overridden when one is enqueued."""

    queue: str
    priority: int
    timeout: datetime.timedelta
    retry: RetryPolicy
    payload_version: int
    units: int = 1
    start_within: datetime.timedelta | None = None
    encrypted: bool = False
    decide: RetryFunction | None = None
    upgrade: Upgrade | None = None
    if_active: IfActive = "return"
    unique_for: datetime.timedelta | None = None
    tags: tuple[str, ...] = ()
    description: str | None = None
    limit: int | None = None
    limit_per_workspace: int | None = None
    limit_per_resource: int | Adaptive | None = None
    isolation: Isolation = "thread"
    keep: Keep = field(default_factory=Keep)


class JobOptions(TypedDict, total=False):
    """What may be said of one job, beside its task, payload and workspace; see :class:`NewJob`."""

    queue: str | None
    priority: int | None
    run_after: datetime.datetime | None
    delay: datetime.timedelta | None
    longest_delay: datetime.timedelta | None
    max_attempts: int | None
    timeout: datetime.timedelta | None
    start_within: datetime.timedelta | None
    unique_key: str | None
    unique_for: datetime.timedelta | None
    if_active: IfActive | None
    resource: str | None
    units: int | None
    tags: tuple[str, ...] | None
    request_id: str | None
    trace_parent: str | None
    after: Sequence[Edge | Predecessor]
    batch_id: uuid.UUID | None


def retry_options(
    declared: RetryPolicy | Retry | RetryFunction | None, max_attempts: int | None
) -> tuple[RetryPolicy, RetryFunction | None]:
    """The policy and the function that a task's ``retry`` means."""
    if isinstance(declared, Retry):
        if declared.policy is None and declared.seconds is not None:
            raise TaskDefinitionError("retry=Retry(after=…) is how an attempt ends; a task takes a RetryPolicy(…)")
        declared = declared.policy
    if declared is None or isinstance(declared, RetryPolicy):
        return (declared or RetryPolicy()).with_max_attempts(max_attempts), None
    if not callable(declared):
        raise TaskDefinitionError(f"retry must be a RetryPolicy or a function, not {declared!r}")
    return RetryPolicy().with_max_attempts(max_attempts), declared


def options_problems(options: TaskOptions) -> list[str]:
    """What is wrong with the options that no job has."""
    limits = {
        "limit": options.limit,
        "limit_per_workspace": options.limit_per_workspace,
        "limit_per_resource": options.limit_per_resource,
    }
    problems = [f"{name} {problem}" for name, limit in limits.items() if (problem := _limit_problem(name, limit))]
    if not is_whole(options.payload_version, VERSIONS):
        problems.append(f"payload_version must be from {VERSIONS[0]} to {VERSIONS[-1]}")
    kinds = {"encrypted": (options.encrypted, bool), "keep": (options.keep, Keep)}
    problems += [f"{name} must be a {kind.__name__}" for name, (said, kind) in kinds.items() if type(said) is not kind]
    described: object = options.description
    if not isinstance(described, str | None):
        problems.append("description must be a text")
    upgrade: object = options.upgrade
    if upgrade is not None and not callable(upgrade):
        problems.append("upgrade must be a function of a payload and its version")
    if options.if_active not in ("return", "replace"):
        problems.append('if_active must be "return" or "replace"')
    if options.isolation not in ("process", "thread"):
        problems.append('isolation must be "process" or "thread"')
    return problems


def _limit_problem(name: str, limit: object) -> str | None:
    if name == "limit_per_resource" and isinstance(limit, Adaptive):
        return adaptive_problem(limit)
    if limit is None or is_whole(limit, COUNTS):
        return None
    return f"must be a whole number from {COUNTS[0]} to {COUNTS[-1]}"
