"""What the processes of an API count: jobs that were enqueued, and requests that found one already.

Counted by prometheus_client, in its own registry: a page of the host application's shows these numbers too. Several
processes of one server share them through files, as prometheus_client does it wherever ``PROMETHEUS_MULTIPROC_DIR``
says so; ``jobplatform api`` does. See docs/decisions/counters-live-where-things-happen.md.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from jobplatform.metrics import CONFLICTS, ENQUEUED, OTHER, Family, Labels, Rows
from jobplatform.queue import Happening, Tasks, on_happenings

if TYPE_CHECKING:
    from prometheus_client import Counter
    from prometheus_client.metrics_core import Metric

SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"
_KINDS: Final = {"enqueued": ENQUEUED, "conflict": CONFLICTS}
_registries: weakref.WeakSet[Tasks] = weakref.WeakSet()
_lock = threading.Lock()


def count_enqueues(tasks: Tasks) -> None:
    """Count from now on what this process enqueues, and tell these tasks apart."""
    if not _registries:
        _listen()
    _registries.add(tasks)


@functools.cache
def _listen() -> None:
    on_happenings(_count)


def counted() -> list[tuple[Family, Rows]]:
    """The numbers of all processes that share them, or else of this one."""
    counters = _counters()
    found = list(_shared() if os.environ.get(SHARED) else _own(counters.values()))
    return [(family, _rows(family, found)) for family in counters]


def _count(happened: Mapping[Happening, int]) -> None:
    counters = _counters()
    for (kind, queue, task), count in happened.items():
        counters[_KINDS[kind]].labels(*_named(queue, task)).inc(count)


def _named(queue: str, task: str) -> Labels:
    registries = list(_registries)
    is_known = any(task in tasks for tasks in registries)
    is_named = any(queue in tasks.queues() for tasks in registries)
    return queue if is_named else OTHER, task if is_known else OTHER


def _counters() -> dict[Family, Counter]:
    """Made at the first need, once: a registry refuses a second one of a name."""
    with _lock:
        return _make_counters()


@functools.cache
def _make_counters() -> dict[Family, Counter]:
    """How prometheus_client keeps numbers is decided when it is imported, so not before the
    server has said how its processes share them."""
    from prometheus_client import Counter

    return {family: Counter(family.full_name, family.help, family.labels) for family in dict.fromkeys(_KINDS.values())}


def _own(counters: Iterable[Counter]) -> Iterable[Metric]:
    return [metric for counter in counters for metric in counter.collect()]


def _shared() -> Iterable[Metric]:
    from prometheus_client.multiprocess import MultiProcessCollector

    collector = MultiProcessCollector(None)  # type: ignore[no-untyped-call]  # it says no types
    found: Iterable[Metric] = collector.collect()  # type: ignore[no-untyped-call]  # likewise
    return found


def _rows(family: Family, found: Iterable[Metric]) -> Rows:
    return {
        tuple(sample.labels[label] for label in family.labels): sample.value
        for metric in found
        for sample in metric.samples
        if sample.name == family.full_name
    }
