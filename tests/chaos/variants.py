"""Broken variants of the platform, made by changing the SQL of a verb in one process that exists for nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Patch(NamedTuple):
    """In a constant of a module of the queue, replace each ``good`` by its ``bad``."""

    module: str
    constant: str
    changes: dict[str, str]


NO_FENCE = {" and q.epoch = u.epoch": ""}

#: Look, then insert, and trust that nobody did the same in between.
LOOK_FIRST = """from timed t
    where not exists (
        select from jobplatform.job_queue q where q.workspace_id = t.workspace_id and q.unique_key = t.unique_key
    )
    order"""

VARIANTS: dict[str, Patch] = {
    "completing without a fence": Patch("complete", "COMPLETE", NO_FENCE),
    "failing without a fence": Patch("fail", "FAIL", NO_FENCE),
    "releasing without a fence": Patch("release", "RELEASE", NO_FENCE),
    "progress without a fence": Patch("progress", "REPORT", NO_FENCE),
    "log lines without a fence": Patch("logs", "APPEND", NO_FENCE),
    "rows the worker forgot are kept": Patch("reconcile", "RECONCILE", {"where q.state = 2": "where false"}),
    "nobody rescues": Patch("rescue", "RESCUE", {"where q.state = 2": "where false"}),
    "rescue from the living": Patch("rescue", "RESCUE", {"and (w.id is null or w.dead_at is not null)": ""}),
    "naive unique check": Patch(
        "enqueue", "ENQUEUE", {"on conflict do nothing": "", "from timed t\n    order": LOOK_FIRST}
    ),
    "epoch handed out again": Patch("claim", "CLAIM", {"epoch = q.epoch + 1": "epoch = greatest(q.epoch, 1)"}),
    "crashes not counted": Patch("fail", "FAIL", {"q.crash_count + v.crash": "q.crash_count"}),
    "record not finished": Patch("complete", "COMPLETE", {"r.id = e.id": "false"}),
    "due jobs not promoted": Patch("promote", "PROMOTE", {"where state = 0 and": "where false and"}),
    "completed jobs retried": Patch("retry_job", "RETRY_JOB", {"status in (4, 5)": "status in (3, 4, 5)"}),
}


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """The platform of this process with one variant's defect; with None as it is."""
    if name is None:
        yield
        return
    patch = VARIANTS[name]
    module = importlib.import_module(f"jobplatform.queue.{patch.module}")
    healthy = getattr(module, patch.constant)
    sick = healthy
    for good, bad in patch.changes.items():
        assert good in sick, f"{patch.constant} has changed; the variant {name!r} has to follow"
        sick = sick.replace(good, bad)
    setattr(module, patch.constant, sick)
    try:
        yield
    finally:
        setattr(module, patch.constant, healthy)
