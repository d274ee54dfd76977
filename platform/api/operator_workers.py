"""Workers, for whoever runs the platform."""

from __future__ import annotations

from flask import Response

from jobplatform.api.answers import respond
from jobplatform.api.mounted import mounted
from jobplatform.api.operator_schemas import WorkersSchema
from jobplatform.api.principals import Scope
from jobplatform.api.resource import Resource
from jobplatform.queue import list_workers

workers = Resource("workers", __name__, description="Workers, for operators")

_WORKERS = WorkersSchema()


@workers.endpoint("GET", "/operator/workers", Scope.OPERATOR)
@workers.answers(200, WorkersSchema)
def list_all_workers() -> Response:
    """List the workers that are alive, with what they serve and run"""
    with mounted().reading() as session:
        return respond(_WORKERS, {"items": list_workers(session)})
