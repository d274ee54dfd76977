"""Workers, for whoever runs the platform."""

from __future__ import annotations

from flask import Response

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.auditing import audit
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import not_found
from jobplatform.api.resource import Resource
from jobplatform.api.schemas.operator import WorkerSchema, WorkersSchema
from jobplatform.queue import drain_worker, list_workers

workers = Resource("workers", __name__, description="Workers, for operators")

DRAIN = "/operator/workers/<int(min=1, max=2147483647):workerId>/drain"

_WORKER, _WORKERS = WorkerSchema(), WorkersSchema()

EXAMPLE = {
    "id": 12,
    "name": "web-1:4711",
    "host": "web-1",
    "pid": 4711,
    "version": "0.1.0",
    "queues": ["default", "sync"],
    "tasks": ["sync"],
    "slots": 8,
    "running": 3,
    "draining": False,
    "drainRequested": True,
    "startedAt": "2026-01-05T08:00:00.000000Z",
    "heartbeatAt": "2026-01-05T09:00:00.000000Z",
}


@workers.endpoint("GET", "/operator/workers", Scope.OPERATOR)
@workers.answers(200, WorkersSchema)
def list_all_workers() -> Response:
    """List the workers that are alive, with what they serve and run"""
    with mounted().reading() as session:
        return respond(_WORKERS, {"items": list_workers(session)})


@workers.endpoint("POST", DRAIN, Scope.OPERATOR, refuses=(404,))
@workers.answers(200, WorkerSchema, example=EXAMPLE)
def drain_one_worker(worker_id: int) -> Response:
    """Have a worker take nothing new, finish what it runs within its drain timeout, and stop

    As SIGTERM does, from anywhere: it learns so from its next heartbeat. Whatever supervises its process may start
    another one.
    """
    with mounted().transaction() as session:
        if not drain_worker(session, worker_id):
            raise not_found()
        audit(session, "worker.drain", f"worker:{worker_id}")
        (seen,) = [one for one in list_workers(session) if one.id == worker_id]
        return respond(_WORKER, seen)
