"""Uniqueness as a task declares it: which of its jobs are "the same". Pure.

What keeps two of the same apart is the unique index over live jobs; here is only the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from jobplatform.errors import InvalidPayloadError, Problem, TaskDefinitionError
from jobplatform.queue.tasks.payloads import PayloadType

#: As a task declares it: one job for each workspace, for each combination of these fields, or for each key.
Unique = Literal["workspace"] | Sequence[str] | Callable[[Any], str | None]

#: A key that would be longer is told by its digest.
LONGEST = 400


class Uniqueness:
    """Makes the key of a payload. Raises :class:`TaskDefinitionError` for what no payload could be told apart by.

    A function that answers "" means the whole workspace: the key is then the one that ``unique="workspace"`` has.
    """

    def __init__(self, task: str, declared: Unique, payload: PayloadType[Any]) -> None:
        self._task = task
        self._payload = payload
        self._function = declared if callable(declared) else None
        self._fields: tuple[str, ...] = ()
        if self._function is None and declared != "workspace":
            self._fields = _json_names(task, declared, payload)

    def key(self, value: Any) -> str | None:
        """The key of a payload's JSON value; None when this one is like no other."""
        if self._function is not None:
            return self._named(self._function(self._payload.load(value)))
        if not self._fields:
            # The index behind the guard begins with the workspace, so the key need not name it.
            return self._task
        return f"{self._task}:{_short(self._told(value))}"

    def _named(self, key: str | None) -> str | None:
        if key is None:
            return None
        return f"{self._task}:{key}" if key else self._task

    def _told(self, value: Any) -> str:
        complete = self._payload.complete(value)
        values = complete if isinstance(complete, Mapping) else {}
        problems = [
            Problem(f"/{name}", "is missing: it is part of what makes a job of this task unique")
            for name in self._fields
            if name not in values
        ]
        if problems:
            raise InvalidPayloadError(problems)
        return json.dumps([values[name] for name in self._fields], sort_keys=True, separators=(",", ":"))


def _json_names(task: str, declared: Any, payload: PayloadType[Any]) -> tuple[str, ...]:
    """The fields under their JSON names; they may be declared under their Python names too."""
    if (
        not isinstance(declared, Collection)
        or isinstance(declared, str)
        or not declared
        or not all(isinstance(name, str) for name in declared)
    ):
        raise TaskDefinitionError(
            f'task {task!r}: unique={declared!r} must be "workspace", a list of payload fields, or a function'
        )
    known = payload.json_names()
    unknown = [name for name in declared if known is not None and name not in known]
    if known is not None and unknown:
        raise TaskDefinitionError(f"task {task!r}: unique names {', '.join(unknown)}, no field of its payload")
    return tuple(known[name] if known is not None else name for name in declared)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else hashlib.sha256(text.encode()).hexdigest()
