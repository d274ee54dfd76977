"""Jobs as the statements take them: one as texts; many as a value for all, or an array, of each attribute."""

from __future__ import annotations

import datetime
import functools
import uuid
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from jobplatform.errors import InvalidPayloadError, Problem
from jobplatform.models import UuidArray
from jobplatform.queue.enqueue.new_job import NewJob
from jobplatform.queue.safe_json import strict_json
from jobplatform.queue.seal import MARK, SealedPayload
from jobplatform.queue.statement import array, in_utc, text_array
from jobplatform.queue.vault import is_open

_MILLISECOND = datetime.timedelta(milliseconds=1)


def parameters_of(job: NewJob) -> dict[str, str | None]:
    """All as text: the driver sends whole numbers in types by size, and each combination of types would be prepared as
    a statement of its own."""
    return {
        "id": job.id.hex,
        "workspace_id": job.workspace_id.hex,
        "task": job.task,
        "queue": job.queue,
        "payload": _json(job.payload),
        "sealed": "false" if is_open(job) else "true",
        "version": str(job.payload_version),
        "priority": str(job.priority),
        "run_after": None if job.run_after is None else in_utc(job.run_after),
        "delay": str(_seconds(job.delay)),
        "max_attempts": str(job.max_attempts),
        "timeout": str(_milliseconds(job.timeout)),
        "unique_key": job.unique_key,
        "resource": job.resource,
        "units": str(job.units),
        "start_within": _term(job.start_within),
        "tags": text_array(job.tags),
        "request_id": job.request_id,
        "trace_parent": job.trace_parent,
        "parent_id": None if job.parent_id is None else job.parent_id.hex,
    }


def columns_of(jobs: Sequence[NewJob]) -> dict[str, Any]:
    """The parameters of many jobs: a value where all have the same, a column where they have not. The other is null."""
    parameters: dict[str, Any] = {}
    for column, values in zip(_COLUMNS, zip(*map(_VALUES, jobs), strict=True), strict=True):
        if column.one is None:
            parameters[column.many] = column.array(values)
        elif _all_alike(values):
            parameters[column.one], parameters[column.many] = column.value(values[0]), None
        else:
            parameters[column.one], parameters[column.many] = None, column.array(values)
    return parameters


def _all_alike(values: Sequence[Any]) -> bool:
    """Nearly always they are, or the second one is another already."""
    first = values[0]
    return values[len(values) // 2] == first and values[-1] == first and values.count(first) == len(values)


def _json(payload: Any) -> str:
    """What was sealed was looked at before, and may be larger by then. What only looks sealed would never be opened."""
    if type(payload) is SealedPayload:
        return payload.json
    text = strict_json(payload)
    if text.startswith(_LOOKS_SEALED):
        raise InvalidPayloadError([Problem(f"/{MARK}", "is a reserved name")])
    return text


def _hex(job_id: uuid.UUID | None) -> str | None:
    return None if job_id is None else job_id.hex


def _uuids(ids: Iterable[uuid.UUID]) -> UuidArray:
    return UuidArray.of([f"{job_id.int:032x}" for job_id in ids])


def _hexes(ids: Iterable[uuid.UUID | None]) -> str:
    return "{" + ",".join(["null" if job_id is None else f"{job_id.int:032x}" for job_id in ids]) + "}"


def _names(names: Sequence[str]) -> str:
    """No name has a sign in it that a quoted text would have to escape. (Without quotes, "null" would be none.)"""
    return '{"' + '","'.join(names) + '"}'


def _seconds(delay: datetime.timedelta | None) -> float:
    return delay.total_seconds() if delay else 0.0


def _term(within: datetime.timedelta | None) -> str | None:
    return None if within is None else str(_milliseconds(within))


def _term_or_null(within: datetime.timedelta | None) -> str:
    return _term(within) or "null"


@functools.lru_cache(maxsize=1024)
def _milliseconds(timeout: datetime.timedelta) -> int:
    return max(1, round(timeout / _MILLISECOND))


_LOOKS_SEALED = f'{{"{MARK}"'


def _same(value: Any) -> Any:
    return value


class _Column(NamedTuple):
    """An attribute of jobs as the statement for many takes it: as ``one`` value for all, or as an array of ``many``."""

    attribute: str
    one: str | None
    many: str
    value: Callable[[Any], Any] = _same
    array: Callable[[Sequence[Any]], Any] = array


_COLUMNS = (
    _Column("id", None, "ids", array=_uuids),
    _Column("workspace_id", "workspace_id", "workspace_ids", _hex, _uuids),
    _Column("task", "task", "tasks", array=_names),
    _Column("queue", "queue", "queues", array=_names),
    _Column("payload", None, "payloads", array=lambda payloads: f"[{','.join(map(_json, payloads))}]"),
    _Column("payload_version", "version", "versions", str),
    _Column("priority", "priority", "priorities", str),
    _Column("run_after", "run_after", "run_afters", array=list),
    _Column(
        "delay", "delay", "delays", lambda delay: str(_seconds(delay)), lambda delays: array(map(_seconds, delays))
    ),
    _Column("max_attempts", "max_attempts", "all_max_attempts", str),
    _Column(
        "timeout",
        "timeout",
        "timeouts",
        lambda timeout: str(_milliseconds(timeout)),
        lambda timeouts: array(map(_milliseconds, timeouts)),
    ),
    _Column("unique_key", "unique_key", "unique_keys", array=text_array),
    _Column("resource", "resource", "resources", array=text_array),
    _Column("units", "units", "all_units", str),
    _Column("start_within", "start_within", "all_start_within", _term, lambda terms: array(map(_term_or_null, terms))),
    # An array literal as each element: arrays of arrays must be rectangular, tags are not.
    _Column("tags", "tags", "all_tags", text_array, lambda tags: text_array(map(text_array, tags))),
    _Column("request_id", "request_id", "request_ids", array=text_array),
    _Column("trace_parent", "trace_parent", "trace_parents", array=text_array),
    _Column("parent_id", "parent_id", "parent_ids", _hex, _hexes),
    _Column("batch_id", "batch_id", "batch_ids", _hex, _hexes),
    _Column("blocked", "blocked", "all_blocked", str),
    _Column("followed", "followed", "all_followed", str),
)
_VALUES = attrgetter(*(column.attribute for column in _COLUMNS))
