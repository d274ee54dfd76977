"""How the queue is doing, for monitoring and for people."""

from __future__ import annotations

from flask import Response

from jobplatform.api.access.guard import current_principal
from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.mounted import mounted
from jobplatform.api.resource import Resource
from jobplatform.api.schemas.jobs import HealthSchema, StatsSchema
from jobplatform.queue import queue_health, queue_stats

health = Resource("health", __name__, description="Health of the queue")

_HEALTH = HealthSchema()
_STATS = StatsSchema()


@health.endpoint("GET", "/jobs/health", Scope.JOBS_READ)
@health.may_answer(503, schema=HealthSchema, description="Unhealthy: see alerts")
@health.answers(200, HealthSchema)
def show_health() -> Response:
    """Show how the queue is doing

    A workspace's token sees the jobs of its workspace, an operator's those of all. 503 when something needs a
    person.
    """
    with mounted().reading() as session:
        state = queue_health(session, current_principal().workspace_id)
    return respond(_HEALTH, state, 200 if state.healthy else 503)


@health.endpoint("GET", "/jobs/stats", Scope.JOBS_READ)
@health.answers(200, StatsSchema)
def show_stats() -> Response:
    """Show how much there is to do, how quickly it is done, and how it ends

    A workspace's token sees the jobs of its workspace, an operator's those of all. Asking every few seconds is fine;
    for each page view of many people it is not.
    """
    with mounted().reading() as session:
        return respond(_STATS, queue_stats(session, current_principal().workspace_id))
