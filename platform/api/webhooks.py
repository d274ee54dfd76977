"""Webhooks of a workspace: where it is told how its jobs ended."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any
from uuid import UUID

from flask import Response
from sqlalchemy.orm import Session

from jobplatform.api.access.guard import current_principal
from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import columns_of, job_url, page_of, respond, status_conflict
from jobplatform.api.editing import tag_of_webhook
from jobplatform.api.endpoints import Kind
from jobplatform.api.mounted import mounted, serving_url
from jobplatform.api.problems import require_found, sealing
from jobplatform.api.resource import AT_ITS_URL, EDITABLE, EDITED, LISTED, Resource
from jobplatform.api.schemas.jobs import PageQuerySchema
from jobplatform.api.schemas.webhooks import (
    NewWebhookSchema,
    NewWebhookSecretSchema,
    SentTestSchema,
    ShownWebhookSchema,
    WebhookChangeSchema,
    WebhookDeliveriesSchema,
    WebhookPageSchema,
    WebhookSchema,
)
from jobplatform.connectors import require_askable
from jobplatform.models import Job, WebhookSubscription
from jobplatform.queue import (
    change_webhook,
    create_webhook,
    delete_webhook,
    delivery_id,
    disable_webhook,
    enable_webhook,
    find_delivery,
    find_webhook,
    get_webhook,
    list_webhook_jobs,
    list_webhooks,
    problem_of_webhook,
    redeliver,
    rotate_webhook_secret,
    send_test,
    tasks_served,
)

webhooks = Resource("webhooks", __name__, description="Webhooks: where endings of jobs are told")

WEBHOOKS = "/workspaces/<uuid:workspaceId>/webhooks"
WEBHOOK = WEBHOOKS + "/<uuid:webhookId>"

_WEBHOOK, _SHOWN, _PAGE = WebhookSchema(), ShownWebhookSchema(), WebhookPageSchema()
_DELIVERIES, _TEST = WebhookDeliveriesSchema(), SentTestSchema()

A_WEBHOOK = {
    "name": "the CRM",
    "url": "https://crm.example.com/hooks/jobs",
    "events": ["job.completed", "job.failed"],
    "jobTypes": ["sync"],
}
_KIND = Kind[WebhookSubscription](
    "webhook",
    _WEBHOOK,
    find_webhook,
    get_webhook,
    lambda session, webhook: _describe(session, [webhook])[0],
    tag_of_webhook,
)


@webhooks.endpoint("GET", WEBHOOKS, Scope.CONNECTIONS, refuses=(404,))
@webhooks.query(PageQuerySchema)
@webhooks.answers(200, WebhookPageSchema, headers=LISTED)
def list_all_webhooks(query: dict[str, Any], workspace_id: UUID) -> Response:
    """List webhooks, oldest first"""
    limit = query["limit"]
    with mounted().reading() as session:
        found = list_webhooks(session, workspace_id, limit=limit + 1, after=query["cursor"])
        described = _describe(session, found)
    return page_of(_PAGE, described, limit, lambda item: UUID(str(item["id"])))


@webhooks.endpoint("POST", WEBHOOKS, Scope.CONNECTIONS, refuses=(400, 404, 413, 415), shows_secret=True)
@webhooks.body(NewWebhookSchema, example=A_WEBHOOK)
@webhooks.answers(201, ShownWebhookSchema, headers={**AT_ITS_URL, **EDITABLE})
def make_webhook(body: dict[str, Any], workspace_id: UUID) -> Response:
    """Have endings of jobs told to a URL, and show the secret they are signed with this once

    It is told of jobs that are enqueued from now on, in the format of Standard Webhooks.
    """
    require_askable(body["url"])
    with mounted().transaction() as session, sealing("/secret", "A secret"):
        options = _options(body)
        made = create_webhook(session, workspace_id=workspace_id, made_by=current_principal().name, **options)
        _KIND.audit(session, "create", made.webhook, events=made.webhook.events, jobTypes=made.webhook.tasks)
        location = serving_url("webhooks.show_webhook", workspaceId=workspace_id, webhookId=made.webhook.id)
        shown = {**_describe(session, [made.webhook])[0], "secret": made.secret}
        return _KIND.tagged(respond(_SHOWN, shown, 201, {"Location": location}), made.webhook)


@webhooks.endpoint("GET", WEBHOOK, Scope.CONNECTIONS, refuses=(404,))
@webhooks.answers(200, WebhookSchema, headers=EDITABLE)
def show_webhook(workspace_id: UUID, webhook_id: UUID) -> Response:
    """Show a webhook"""
    return _KIND.show(workspace_id, webhook_id)


@webhooks.endpoint("PATCH", WEBHOOK, Scope.CONNECTIONS, refuses=(400, 404, 412, 413, 415, 422))
@webhooks.body(WebhookChangeSchema, example={"events": ["job.failed"], "jobTypes": None})
@webhooks.answers(200, WebhookSchema, headers=EDITABLE)
@webhooks.headers(*EDITED)
def alter_webhook(body: dict[str, Any], workspace_id: UUID, webhook_id: UUID) -> Response:
    """Change a webhook; what is not named stays"""
    if "url" in body:
        require_askable(body["url"])
    with mounted().transaction() as session:
        webhook = _KIND.still(session, workspace_id, webhook_id)
        changed = sorted(body)
        change_webhook(session, webhook, **_options(body))
        _KIND.audit(session, "change", webhook, changed=changed)
        return _KIND.answer(session, webhook)


@webhooks.endpoint("DELETE", WEBHOOK, Scope.CONNECTIONS, refuses=(404, 412))
@webhooks.answers(204)
@webhooks.headers(*EDITED)
def remove_webhook(workspace_id: UUID, webhook_id: UUID) -> Response:
    """Delete a webhook; deliveries that wait are not sent"""
    return _KIND.delete(workspace_id, webhook_id, delete_webhook)


@webhooks.endpoint(
    "POST", WEBHOOK + "/rotate-secret", Scope.CONNECTIONS, refuses=(400, 404, 413, 415), shows_secret=True
)
@webhooks.body(NewWebhookSecretSchema, required=False, example={"keepOldMs": 3_600_000})
@webhooks.answers(200, ShownWebhookSchema)
def rotate_secret_of_webhook(body: dict[str, Any], workspace_id: UUID, webhook_id: UUID) -> Response:
    """Sign with another secret, and show it this once; for a while the old one signs too"""
    return _KIND.rotate_secret(workspace_id, webhook_id, rotate_webhook_secret, _SHOWN, body)


@webhooks.endpoint("POST", WEBHOOK + "/test", Scope.CONNECTIONS, refuses=(404, 409))
@webhooks.answers(202, SentTestSchema, headers=AT_ITS_URL)
def send_test_event(workspace_id: UUID, webhook_id: UUID) -> Response:
    """Send the event `webhook.test`"""
    with mounted().transaction() as session:
        webhook = _KIND.locked(session, workspace_id, webhook_id)
        job_id = send_test(session, webhook)
        _KIND.audit(session, "test", webhook, jobId=job_id)
    return _to_be_sent(workspace_id, job_id)


@webhooks.endpoint("POST", WEBHOOK + "/deliveries/<uuid:jobId>/redeliver", Scope.CONNECTIONS, refuses=(404, 409))
@webhooks.answers(202, SentTestSchema, headers=AT_ITS_URL)
def redeliver_one(workspace_id: UUID, webhook_id: UUID, job_id: UUID) -> Response:
    """Send a delivery that has ended once more, under the same `webhook-id`

    Also one that was taken, or that was not sent because the webhook was disabled.
    """
    with mounted().transaction() as session:
        webhook = _KIND.locked(session, workspace_id, webhook_id)
        delivery = require_found(find_delivery(session, webhook, job_id))
        if delivery.completed_at is None:
            raise status_conflict(delivery, "delivered again")
        again = redeliver(session, webhook, delivery)
        _KIND.audit(session, "redeliver", webhook, jobId=again, again=job_id)
    return _to_be_sent(workspace_id, again)


@webhooks.endpoint("POST", WEBHOOK + "/disable", Scope.CONNECTIONS, refuses=(404,))
@webhooks.answers(200, WebhookSchema, headers=EDITABLE)
def disable_one(workspace_id: UUID, webhook_id: UUID) -> Response:
    """Tell it nothing more; deliveries that wait are not sent"""
    return _KIND.disable(workspace_id, webhook_id, disable_webhook)


@webhooks.endpoint("POST", WEBHOOK + "/enable", Scope.CONNECTIONS, refuses=(404,))
@webhooks.answers(200, WebhookSchema, headers=EDITABLE)
def enable_one(workspace_id: UUID, webhook_id: UUID) -> Response:
    """Tell it again, of jobs that are enqueued from now on"""
    return _KIND.enable(workspace_id, webhook_id, enable_webhook)


@webhooks.endpoint("GET", WEBHOOK + "/deliveries", Scope.CONNECTIONS, refuses=(404,))
@webhooks.answers(200, WebhookDeliveriesSchema)
def list_webhook_deliveries(workspace_id: UUID, webhook_id: UUID) -> Response:
    """List the last 100 deliveries, newest first; each is a job, with its attempts

    They are looked for among the last 20,000 deliveries to all webhooks of the workspace.
    """
    with mounted().reading() as session:
        _KIND.seen(session, workspace_id, webhook_id)
        found = list_webhook_jobs(session, workspace_id, webhook_id)
    return respond(_DELIVERIES, {"items": [_describe_delivery(job) for job in found]})


def _to_be_sent(workspace_id: UUID, job_id: UUID) -> Response:
    where = job_url(workspace_id, job_id)
    return respond(_TEST, {"job_id": job_id, "status_url": where}, 202, {"Location": where})


def _options(body: dict[str, Any]) -> dict[str, Any]:
    return {("tasks" if name == "job_types" else name): value for name, value in body.items()}


def _describe(session: Session, found: Sequence[WebhookSubscription]) -> list[dict[str, Any]]:
    served = tasks_served(session)
    return [_describe_one(webhook, served) for webhook in found]


def _describe_one(webhook: WebhookSubscription, served: Set[str]) -> dict[str, Any]:
    return {
        **columns_of(_WEBHOOK, webhook),
        "job_types": webhook.tasks,
        "rotating_until": webhook.previous_until,
        "problem": problem_of_webhook(webhook.tasks, served),
    }


def _describe_delivery(job: Job) -> dict[str, Any]:
    event = job.payload.get("event", {})
    answer = job.result.get("status") if isinstance(job.result, dict) else None
    return {
        "job_id": job.id,
        "delivery_id": delivery_id(job.id, job.payload.get("deliveryId")),
        "type": event.get("type", ""),
        "about_job_id": event.get("data", {}).get("jobId"),
        "status": job.status,
        "outcome": job.outcome,
        "attempts": job.attempts,
        "answer": answer,
        "error": job.error,
        "created_at": job.created_at,
        "next_attempt_at": job.run_after if job.status == "pending" else None,
        "completed_at": job.completed_at,
        "status_url": job_url(job.workspace_id, job.id),
    }
