"""HTTP, and nothing but HTTP.

Where to look, by what is asked:

    how it is put together     app, wsgi, pages
    how an app takes it in     blueprint, extension, mounted
    how a route is declared    resource, endpoints, fields
    what goes over the wire    schemas, schedule_schemas, connection_schemas, hook_schemas, webhook_schemas,
                               operator_schemas
    who asks, and may they     principals, tokens, job_tokens, access, admission (of this process by the database)
    how often they may         request_rates, refused_deliveries
    what every request has     requests, bodies, answers, problems, auditing
    what comes twice           once (the same request again), editing (two people change one thing)
    routes about jobs          jobs, enqueueing, enqueueing_many, batches, reading, why, short_forms
    routes about syncs         syncs, sync_logs, connections, authorizing, uploads, records, exports
    routes about schedules     schedules, operator_schedules, scheduling (what both have)
    routes about deliveries    webhooks, hooks, receiving
    routes for the operator    operator_workspaces, operator_tokens, operator_limits, operator_pauses,
                               operator_retention, operator_workers, operator_alerts, operator_audit
    how news reaches streams   events, streaming, hub, following, places, carrying, giving_way, stopping
    what monitoring asks       probes, health, metrics, kept_levels, counting
    what clients are given     document, document_details, docs_page, browser_client
"""

from jobplatform.api.app import create_app
from jobplatform.api.blueprint import create_blueprint
from jobplatform.api.document import openapi_document
from jobplatform.api.extension import JobPlatform
from jobplatform.api.hub import StreamLimits
from jobplatform.api.principals import Principal, Scope
from jobplatform.api.stopping import end_streams, end_streams_when_told_to_stop
from jobplatform.api.tokens import (
    mint_job_token,
    mint_token,
    presented_id,
    revoke_token,
    rotate_token,
    verify_token,
)

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
