"""The API as a blueprint: a guest that leaves everything outside its own routes as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, Response, current_app, request
from sqlalchemy.orm import Session
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, default_exceptions
from werkzeug.routing import RoutingException

from jobplatform.api.access.admission import Admission
from jobplatform.api.access.guard import guard, public, require_declarations
from jobplatform.api.access.job_tokens import job_tokens
from jobplatform.api.access.refused_deliveries import RefusedDeliveries
from jobplatform.api.access.request_rates import RequestRates, tell_standing
from jobplatform.api.authorizing import authorizing
from jobplatform.api.batches import batches
from jobplatform.api.bodies import MAX_BODY_BYTES
from jobplatform.api.browser_client import browser_client
from jobplatform.api.connections import connections
from jobplatform.api.counting import count_enqueues
from jobplatform.api.docs_page import docs_page, require_docs
from jobplatform.api.document import documents
from jobplatform.api.exports import downloads, exports
from jobplatform.api.health import health
from jobplatform.api.hooks import hooks
from jobplatform.api.jobs import jobs
from jobplatform.api.metrics import metrics
from jobplatform.api.mounted import Authorize, Mounted
from jobplatform.api.operator.alerts import alerts
from jobplatform.api.operator.audit import audit_log
from jobplatform.api.operator.limits import queues, tasks
from jobplatform.api.operator.pauses import pauses
from jobplatform.api.operator.plans import plans
from jobplatform.api.operator.resources import rates, resources
from jobplatform.api.operator.retention import retention
from jobplatform.api.operator.schedules import platform_schedules
from jobplatform.api.operator.tokens import tokens
from jobplatform.api.operator.workers import workers
from jobplatform.api.operator.workspaces import workspaces
from jobplatform.api.probes import probes
from jobplatform.api.problems import answer_exception, answer_http_exception, not_found
from jobplatform.api.receiving import receiving
from jobplatform.api.records import records
from jobplatform.api.requests import accompany_requests
from jobplatform.api.resource import LARGEST_BODY, Resource
from jobplatform.api.schedules import schedules
from jobplatform.api.short_forms import short_forms
from jobplatform.api.streams.events import events
from jobplatform.api.streams.hub import Hub, StreamLimits
from jobplatform.api.sync_logs import sync_logs
from jobplatform.api.syncs import syncs
from jobplatform.api.uploads import uploads
from jobplatform.api.webhooks import webhooks
from jobplatform.api.why import why
from jobplatform.queue import Tasks

RESOURCES: tuple[Resource, ...] = (
    syncs,
    sync_logs,
    records,
    uploads,
    exports,
    downloads,
    jobs,
    events,
    job_tokens,
    short_forms,
    why,
    schedules,
    connections,
    authorizing,
    batches,
    hooks,
    receiving,
    webhooks,
    health,
    metrics,
    workspaces,
    plans,
    queues,
    tasks,
    rates,
    resources,
    pauses,
    platform_schedules,
    tokens,
    workers,
    retention,
    alerts,
    audit_log,
    probes,
    browser_client,
    documents,
    docs_page,
)

#: Parameters of paths, as views call them.
PARAMETERS = {
    "workspaceId": "workspace_id",
    "jobId": "job_id",
    "batchId": "batch_id",
    "tokenId": "token_id",
    "scheduleId": "schedule_id",
    "connectionId": "connection_id",
    "exportId": "export_id",
    "recordId": "record_id",
    "syncLogId": "sync_log_id",
    "hookId": "hook_id",
    "webhookId": "webhook_id",
    "connectionKey": "connection_key",
    "workerId": "worker_id",
}

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def create_blueprint(
    sessions: Callable[[], Session],
    tasks: Tasks,
    authorize: Authorize | None = None,
    *,
    name: str = "jobplatform",
    trust_login: bool = False,
    streams: StreamLimits | None = None,
    hub: Hub | None = None,
    requests_per_minute: int = 0,
    refused_deliveries_per_minute: int = 60,
    docs: bool = False,
) -> Blueprint:
    """The API, to be mounted in any Flask application::

        app.register_blueprint(create_blueprint(sessions, tasks), url_prefix="/api")

    ``sessions`` makes a Session for each of our transactions: a ``sessionmaker``, or a registry such as ``db.session``
    of Flask-SQLAlchemy, whose factory is used and whose own Session is not. ``authorize`` takes the place of our
    tokens: ``authorize(request, workspace_id)`` answers with a :class:`Principal`, or None for nobody. With a database
    login that could see more than one workspace at a time every request is answered 503, and the log says what to
    correct; ``trust_login`` accepts such a login, for development. ``streams`` says how many may follow events in one
    process; with ``hub`` it shares those of another blueprint. ``requests_per_minute`` says how many requests each
    token may make in one process (0: any number), ``refused_deliveries_per_minute`` how many deliveries to a hook that
    are not believed are looked into (0: all). With ``docs`` there is a page at ``/docs`` that shows the OpenAPI
    document, for which the extra ``docs`` has to be there. Mounted with a prefix, unknown paths below it answer with
    problems too; everything else stays the application's own.
    """
    return blueprint_for(
        Mounted(
            sessions,
            tasks,
            authorize,
            Admission(trust_login=trust_login),
            Hub(streams) if hub is None else hub,
            rates=RequestRates(requests_per_minute),
            refused=RefusedDeliveries(refused_deliveries_per_minute),
            docs=docs,
        ),
        name,
    )


def blueprint_for(mounted: Mounted, name: str = "jobplatform") -> Blueprint:
    """The same for an application that has more than the API to work with these."""
    if mounted.docs:
        require_docs()
    count_enqueues(mounted.tasks)
    blueprint = _ApiBlueprint(name, __name__, mounted=mounted)
    for resource in RESOURCES:
        blueprint.register_blueprint(resource)
    accompany_requests(blueprint)
    blueprint.after_request(tell_standing)
    blueprint.before_request(_limit_body)
    blueprint.before_request(guard)
    blueprint.before_request(_refuse_unstorable_path)
    blueprint.url_value_preprocessor(_rename_path_values)
    register_error_handlers(blueprint)
    return blueprint


class _ApiBlueprint(Blueprint):
    """Checks at every mount that all its views are guarded, and adds the answer for paths that nobody has."""

    def __init__(self, *args: Any, mounted: Mounted, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mounted = mounted

    def register(self, app: Flask, options: dict[str, Any]) -> None:  # type: ignore[override]  # the App is a Flask
        super().register(app, options)
        name = ".".join(filter(None, (options.get("name_prefix"), options.get("name", self.name))))
        prefix = options.get("url_prefix") or self.url_prefix
        if prefix and prefix != "/":
            _catch_all(app, name, prefix)
        require_declarations(app, name)


def register_error_handlers(where: Blueprint | Flask) -> None:
    """Problems for whatever goes wrong in ``where``.

    By status too: Flask asks an application's handler for 404 before it asks a blueprint's for HTTPException.
    """
    for status in default_exceptions:
        where.register_error_handler(status, answer_http_exception)
    where.register_error_handler(HTTPException, answer_http_exception)
    where.register_error_handler(Exception, answer_exception)


def _limit_body() -> None:
    """One byte more than allowed, so that reading a body of unannounced length shows when it is too long.

    werkzeug cuts such a body off at its limit, and says so only to somebody who reads on.
    """
    view = current_app.view_functions.get(request.endpoint or "")
    request.max_content_length = getattr(view, LARGEST_BODY, MAX_BODY_BYTES) + 1


def _refuse_unstorable_path() -> None:
    """Nothing has a name that the database could not hold. After the guard: nobody learns that for free."""
    if any("\x00" in value for value in (request.view_args or {}).values() if isinstance(value, str)):
        raise not_found()


def _rename_path_values(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Paths spell their parameters as the contract does, views as Python does."""
    for outside, inside in PARAMETERS.items():
        if values and outside in values:
            values[inside] = values.pop(outside)


def _catch_all(app: Flask, name: str, prefix: str) -> None:
    """Routing errors are the application's and not a blueprint's, so below our prefix there are none."""
    for rule in (f"{prefix}/", f"{prefix}/<path:_path>"):
        app.add_url_rule(rule, f"{name}.nothing_here", _nothing_here, methods=METHODS)


@public
def _nothing_here(_path: str = "") -> Response:
    """404, or 405 when the path is one of ours and only the method is not."""
    allowed = [method for method in (*METHODS, "HEAD") if _is_served(method)]
    if allowed:
        raise MethodNotAllowed(valid_methods=[*allowed, "OPTIONS"])
    raise not_found()


def _is_served(method: str) -> bool:
    try:
        endpoint, _ = current_app.create_url_adapter(request).match(method=method)  # type: ignore[union-attr]
    except (NotFound, MethodNotAllowed, RoutingException):
        return False
    return bool(endpoint != request.endpoint)
