"""Workers, for whoever runs the platform."""

from __future__ import annotations

from flask import Response

from jobplatform.api.answers import respond
from jobplatform.api.auditing import audit
from jobplatform.api.mounted import mounted
from jobplatform.api.operator_schemas import WorkersSchema
from jobplatform.api.principals import Scope
from jobplatform.api.problems import not_found
from jobplatform.api.resource import Resource
from jobplatform.queue import drain_worker, list_workers

workers = Resource("workers", __name__, description="Workers, for operators")

_WORKERS = WorkersSchema()
#: No worker has a larger one.
LARGEST_ID = 2**31 - 1


@workers.endpoint("GET", "/operator/workers", Scope.OPERATOR)
@workers.answers(200, WorkersSchema)
def list_all_workers() -> Response:
    """List the workers that are alive, with what they serve and run"""
    with mounted().reading() as session:
        return respond(_WORKERS, {"items": list_workers(session)})


@workers.endpoint("POST", "/operator/workers/<int:worker>/drain", Scope.OPERATOR, refuses=(404,))
@workers.answers(202)
def drain(worker: int) -> Response:
    """Have a worker take nothing new, finish what it runs within its drain timeout, and stop

    Whatever supervises its process may start another one.
    """
    with mounted().transaction() as session:
        if worker > LARGEST_ID or not drain_worker(session, worker):
            raise not_found()
        audit(session, "worker.drain", f"worker:{worker}")
    return Response(status=202)
