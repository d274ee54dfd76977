"""What a search asks of each job on the way, as conditions.

Only what the search says becomes one: a plan for what may or may not be asked would be one for all.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, Final

from jobplatform.errors import Problem, SearchError
from jobplatform.models import FINAL_STATUSES, Status
from jobplatform.queue.find.search import Search
from jobplatform.queue.statement import array, text_array

LIVE: Final = frozenset({Status.PENDING, Status.RUNNING})
NUMBERS: Final = {status: number for number, status in FINAL_STATUSES.items()}

#: Workspace and id.
Key = tuple[uuid.UUID, uuid.UUID]


def behind(before: Key | None, job_id: str, row: str) -> str:
    """Only where there is something before: the planner takes any such condition for a small part of the table."""
    return "" if before is None else f"and ({job_id}, {row}.workspace_id) < (%(before_id)s, %(before_workspace)s)"


def in_workspaces(search: Search, row: str) -> str:
    """Said only if it is meant: a plan for both would be one for all."""
    return f"and {row}.workspace_id = any(%(workspace_ids)s::uuid[])" if search.workspace_ids else ""


def asked_of(search: Search, parameters: dict[str, Any], *, errors: bool = False) -> Iterator[str]:
    """Of a job with its record as ``r`` and its queue row, if it has one, as ``q``."""
    if search.statuses:
        parameters["statuses"] = array(NUMBERS[status] for status in search.statuses if status in NUMBERS)
        wanted = ["r.status = any(%(statuses)s::smallint[])"]
        wanted += ["q.state = 2"] if Status.RUNNING in search.statuses else []
        wanted += ["q.state < 2"] if Status.PENDING in search.statuses else []
        yield f"and ({' or '.join(wanted)})"
    yield from _asked_of_both(search, parameters, "r")
    yield from asked_of_records(search, parameters, errors=errors)


def asked_of_live(search: Search, parameters: dict[str, Any]) -> Iterator[str]:
    """The conditions on a live job's own row ``q``; their parameters are added to ``parameters``."""
    if set(search.statuses) != LIVE:
        yield "and q.state = 2" if Status.RUNNING in search.statuses else "and q.state < 2"
    yield from _asked_of_both(search, parameters, "q")


def _asked_of_both(search: Search, parameters: dict[str, Any], row: str) -> Iterator[str]:
    for column, values in (("task", search.tasks), ("queue", search.queues)):
        if values:
            parameters[column] = text_array(values)
            yield f"and {row}.{column} = any(%({column})s::text[])"
    if search.priorities:
        yield f"and ({' or '.join(_in_range(search, parameters, row))})"


def _in_range(search: Search, parameters: dict[str, Any], row: str) -> Iterator[str]:
    for number, (low, high) in enumerate(search.priorities):
        parameters |= {f"low_{number}": low, f"high_{number}": high}
        bounds = [f"{row}.priority >= %(low_{number})s"] if low is not None else []
        bounds += [f"{row}.priority <= %(high_{number})s"] if high is not None else []
        yield f"({' and '.join(bounds)})"


def asked_of_records(search: Search, parameters: dict[str, Any], *, errors: bool = True) -> Iterator[str]:
    """The conditions on a job's record ``r``; their parameters are added to ``parameters``."""
    for number, any_of in enumerate(search.tags):
        parameters[f"tags_{number}"] = text_array(any_of)
        yield f"and r.tags && %(tags_{number})s::text[]"
    if errors and search.errors:
        _refuse_fingerprints(search)
        parameters["error_types"] = text_array(search.error_types)
        yield "and r.error_type = any(%(error_types)s::text[])"


def _refuse_fingerprints(search: Search) -> None:
    if not search.fingerprints:
        return
    named = f"id:{search.ids[0]}" if search.ids else f"status:{','.join(search.statuses)}"
    problem = f"{search.fingerprints[0]} is a group of jobs that failed; leave out {named}"
    raise SearchError([Problem("/q/error", problem)])
