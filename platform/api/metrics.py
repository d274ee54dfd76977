"""The page that Prometheus reads: what this API has enqueued, and how much is live in the database."""

from __future__ import annotations

from typing import Final

from flask import Response

from jobplatform.api.access.principals import Scope
from jobplatform.api.counting import counted
from jobplatform.api.mounted import mounted
from jobplatform.api.resource import Resource
from jobplatform.metrics import JOBS, OLDEST, RESOURCE_LEVEL, WORKERS, Family, Rows, write_page
from jobplatform.queue import Levels, extreme_levels, measure_levels

metrics = Resource("metrics", __name__, description="Numbers for Prometheus")

EXAMPLE: Final = (
    "# HELP jobplatform_jobs Live jobs in the database, by queue and state.\n"
    "# TYPE jobplatform_jobs gauge\n"
    'jobplatform_jobs{queue="default",state="ready"} 3.0\n'
)


@metrics.endpoint("GET", "/metrics", Scope.OPERATOR)
@metrics.answers(
    200, {"type": "string"}, content_type="text/plain", description="The text format of Prometheus", example=EXAMPLE
)
def show_metrics() -> Response:
    """Show counters of this API and gauges of the queue, in the text format of Prometheus

    A worker shows its own, of what it runs, at its `--health-port`.
    """
    body, content_type = write_page([*counted(), *_gauges(mounted().levels.get(_measure))])
    return Response(body, content_type=content_type)


def _measure() -> Levels:
    with mounted().reading() as session:
        levels = measure_levels(session, mounted().tasks.queues())
        return levels._replace(resources=extreme_levels(session))


def _gauges(levels: Levels) -> list[tuple[Family, Rows]]:
    return [
        (JOBS, {(queue, state): count for (queue, state), count in levels.jobs.items()}),
        (OLDEST, {(queue,): seconds for queue, seconds in levels.oldest_ready_seconds.items()}),
        (WORKERS, {(): levels.workers}),
        (
            RESOURCE_LEVEL,
            {
                (limit, which): level
                for limit, both in levels.resources.items()
                for which, level in zip(("lowest", "highest"), both, strict=True)
            },
        ),
    ]
