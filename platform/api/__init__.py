"""HTTP, and nothing but HTTP.

Where to look, by what is asked (a name with a slash is a folder, with a map of its own):

    how it is put together     app, wsgi, pages
    how an app takes it in     blueprint, extension, mounted
    how a route is declared    resource, endpoints, schemas/
    who asks, and may they     access/
    what every request has     requests, bodies, answers, problems, auditing
    what comes twice           once (the same request again), editing (two people change one thing)
    routes about jobs          jobs, enqueueing, enqueueing_many, batches, reading, why, short_forms
    routes about syncs         syncs, sync_logs, connections, authorizing, uploads, records, exports
    routes about schedules     schedules, scheduling (what the operator's have, too)
    routes about deliveries    webhooks, hooks, receiving
    routes for the operator    operator/
    how news reaches clients   streams/
    what monitoring asks       probes, health, metrics, kept_levels, counting
    what clients are given     document, document_details, docs_page, browser_client
"""

from jobplatform.api.access.principals import Principal, Scope
from jobplatform.api.access.tokens import (
    mint_job_token,
    mint_token,
    presented_id,
    revoke_token,
    rotate_token,
    verify_token,
)
from jobplatform.api.app import create_app
from jobplatform.api.blueprint import create_blueprint
from jobplatform.api.document import openapi_document
from jobplatform.api.extension import JobPlatform
from jobplatform.api.streams.hub import StreamLimits
from jobplatform.api.streams.stopping import end_streams, end_streams_when_told_to_stop

__all__ = [
    "JobPlatform",
    "Principal",
    "Scope",
    "StreamLimits",
    "create_app",
    "create_blueprint",
    "end_streams",
    "end_streams_when_told_to_stop",
    "mint_job_token",
    "mint_token",
    "openapi_document",
    "presented_id",
    "revoke_token",
    "rotate_token",
    "verify_token",
]
