"""The names under which we count, and how numbers become a page that Prometheus reads.

A name says what is counted and in which unit. A workspace is never a label: there are too many of them, and a page of
numbers is no place to tell tenants apart. prometheus_client is imported when somebody asks for a page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PREFIX: Final = "jobplatform_"
#: What a task or queue is called that nobody here has named: names that users make up would be numbers without end.
OTHER: Final = "other"

Labels = tuple[str, ...]


class Family(NamedTuple):
    """Something that is counted or measured, and what tells its numbers apart."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: Labels = ()

    @property
    def full_name(self) -> str:
        return PREFIX + self.name


class Histogram(NamedTuple):
    """How many values were at most as large as each bound, one more for the larger ones, and their sum."""

    counts: Sequence[int]
    sum: float


BY_TASK: Final = ("queue", "task")
#: Upper bounds of waits and runs, in seconds: from what an idle worker needs to the longest that jobs run by default.
BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0)

ENQUEUED: Final = Family("counter", "jobs_enqueued_total", "Jobs enqueued by this process.", BY_TASK)
CONFLICTS: Final = Family(
    "counter", "guard_conflicts_total", "Requests that found an unfinished job of their unique key.", BY_TASK
)
FINISHED: Final = Family(
    "counter", "jobs_finished_total", "Jobs that ended in this worker, by how.", (*BY_TASK, "outcome")
)
RETRIES: Final = Family("counter", "retries_total", "Attempts that went badly and are tried again.", BY_TASK)
REAPED: Final = Family("counter", "reaped_total", "Jobs that this worker took back from dead workers.")
WAIT: Final = Family(
    "histogram", "job_wait_seconds", "From the moment an attempt could be claimed until its handler began.", BY_TASK
)
RUN: Final = Family("histogram", "job_run_seconds", "How long handlers ran, however they ended.", BY_TASK)
SLOTS: Final = Family("gauge", "worker_slots", "Handler processes of this worker, by what they do.", ("state",))
JOBS: Final = Family("gauge", "jobs", "Live jobs in the database, by queue and state.", ("queue", "state"))
OLDEST: Final = Family(
    "gauge", "oldest_runnable_seconds", "For how long the oldest ready job of a queue has been ready.", ("queue",)
)
WORKERS: Final = Family("gauge", "workers_online", "Workers whose heartbeat is younger than a minute.")
RESOURCE_LEVEL: Final = Family(
    "gauge",
    "resource_level",
    "Jobs that may use a resource at a time now: the lowest and the highest under each adaptive limit.",
    ("limit", "which"),
)

#: The rows of a family: its labels' values, and the number or the histogram there.
Rows = Mapping[Labels, "float | Histogram"]


def write_page(families: Iterable[tuple[Family, Rows]]) -> tuple[bytes, str]:
    """The page of these numbers and its content type."""
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

    return generate_latest(_Page([_metric(family, rows) for family, rows in families])), CONTENT_TYPE_PLAIN_0_0_4


class _Page:
    """What prometheus_client calls a registry, as far as it is asked for one page."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _metric(family: Family, rows: Rows) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.full_name, family.help, labels=family.labels)
        for labels, value in rows.items():
            assert isinstance(value, Histogram)
            histogram.add_metric(labels, _buckets(value.counts), value.sum)
        return histogram
    plain = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = plain(family.full_name, family.help, labels=family.labels)
    for labels, value in rows.items():
        assert not isinstance(value, Histogram)
        metric.add_metric(labels, value)
    return metric


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Running totals, as the format has them."""
    total = 0
    buckets = []
    for bound, count in zip([*map(str, BOUNDS), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
