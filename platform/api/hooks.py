"""Hooks of a workspace: where providers deliver to. What they deliver is in ``receiving``."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, request
from sqlalchemy.orm import Session

from jobplatform.api.access.guard import current_principal
from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import columns_of, job_url, page_of, respond
from jobplatform.api.editing import tag_of_hook
from jobplatform.api.endpoints import Kind
from jobplatform.api.mounted import mounted, serving_url
from jobplatform.api.problems import invalid, sealing
from jobplatform.api.resource import AT_ITS_URL, EDITABLE, EDITED, LISTED, Resource
from jobplatform.api.schemas.hooks import (
    DeliveriesSchema,
    DeliverySchema,
    HookChangeSchema,
    HookPageSchema,
    HookSchema,
    NewHookSchema,
    NewSecretSchema,
    ShownHookSchema,
    ShownSecretSchema,
)
from jobplatform.api.schemas.jobs import PageQuerySchema
from jobplatform.errors import Problem
from jobplatform.models import Connection, Hook, HookDelivery
from jobplatform.queue import (
    NewHook,
    change_hook,
    create_hook,
    delete_hook,
    disable_hook,
    enable_hook,
    find_hook,
    get_hook,
    list_deliveries,
    list_hooks,
    rotate_hook_key,
    rotate_hook_secret,
)

hooks = Resource("hooks", __name__, description="Hooks: where providers deliver to")

HOOKS = "/workspaces/<uuid:workspaceId>/hooks"
HOOK = HOOKS + "/<uuid:hookId>"

_HOOK, _SHOWN, _SECRET, _PAGE = HookSchema(), ShownHookSchema(), ShownSecretSchema(), HookPageSchema()
_DELIVERY, _DELIVERIES = DeliverySchema(), DeliveriesSchema()

A_HOOK = {
    "name": "Strava activities",
    "scheme": "strava",
    "jobType": "activity.changed",
    "secret": "the verify token",
    "publicUrl": "https://jobs.example.com/api",
}
_KIND = Kind[Hook]("hook", _HOOK, find_hook, get_hook, lambda _session, hook: _describe(hook), tag_of_hook)


@hooks.endpoint("GET", HOOKS, Scope.CONNECTIONS, refuses=(404,))
@hooks.query(PageQuerySchema)
@hooks.answers(200, HookPageSchema, headers=LISTED)
def list_all_hooks(query: dict[str, Any], workspace_id: UUID) -> Response:
    """List hooks, oldest first"""
    limit = query["limit"]
    with mounted().reading() as session:
        found = list_hooks(session, workspace_id, limit=limit + 1, after=query["cursor"])
    return page_of(_PAGE, found, limit, lambda hook: hook.id, _describe)


@hooks.endpoint("POST", HOOKS, Scope.CONNECTIONS, refuses=(400, 404, 413, 415), shows_secret=True)
@hooks.body(NewHookSchema, example=A_HOOK)
@hooks.answers(201, ShownHookSchema, headers={**AT_ITS_URL, **EDITABLE})
def make_hook(body: dict[str, Any], workspace_id: UUID) -> Response:
    """Make a hook, and show its URL this once

    Whoever knows the URL may deliver, as far as the scheme can tell; the scheme `none` checks nothing more. A secret
    is kept sealed, for which the platform needs a master key.
    """
    task = mounted().tasks.offered(body.pop("job_type"))
    with mounted().transaction() as session, sealing("/secret", "A secret"):
        _require_connection(session, workspace_id, body)
        made = create_hook(
            session,
            task,
            workspace_id=workspace_id,
            base_url=body.pop("public_url", None),
            made_by=current_principal().name,
            **body,
        )
        _KIND.audit(session, "create", made.hook, scheme=made.hook.scheme, jobType=made.hook.task)
        location = serving_url("hooks.show_hook", workspaceId=workspace_id, hookId=made.hook.id)
        return _KIND.tagged(respond(_SHOWN, _show_once(made), 201, {"Location": location}), made.hook)


@hooks.endpoint("GET", HOOK, Scope.CONNECTIONS, refuses=(404,))
@hooks.answers(200, HookSchema, headers=EDITABLE)
def show_hook(workspace_id: UUID, hook_id: UUID) -> Response:
    """Show a hook"""
    return _KIND.show(workspace_id, hook_id)


@hooks.endpoint("PATCH", HOOK, Scope.CONNECTIONS, refuses=(400, 404, 412, 413, 415, 422))
@hooks.body(HookChangeSchema, example={"subscriptionId": "120475"})
@hooks.answers(200, HookSchema, headers=EDITABLE)
@hooks.headers(*EDITED)
def alter_hook(body: dict[str, Any], workspace_id: UUID, hook_id: UUID) -> Response:
    """Change a hook

    What is not named stays. Its scheme cannot be changed: that would be another hook.
    """
    with mounted().transaction() as session:
        hook = _KIND.still(session, workspace_id, hook_id)
        changed = sorted(body)
        task = mounted().tasks.offered(body.pop("job_type")) if "job_type" in body else None
        if "public_url" in body:
            body["base_url"] = body.pop("public_url")
        _require_connection(session, workspace_id, body)
        change_hook(session, hook, task, **body)
        _KIND.audit(session, "change", hook, changed=changed)
        return _KIND.answer(session, hook)


@hooks.endpoint("DELETE", HOOK, Scope.CONNECTIONS, refuses=(404, 412))
@hooks.answers(204)
@hooks.headers(*EDITED)
def remove_hook(workspace_id: UUID, hook_id: UUID) -> Response:
    """Delete a hook: its URL leads nowhere; the jobs it has enqueued stay"""
    return _KIND.delete(workspace_id, hook_id, delete_hook)


@hooks.endpoint("POST", HOOK + "/rotate-key", Scope.CONNECTIONS, refuses=(404,), shows_secret=True)
@hooks.answers(200, ShownHookSchema)
def rotate_key(workspace_id: UUID, hook_id: UUID) -> Response:
    """Give a hook another URL, and show it this once; the old one leads nowhere from now on"""
    with mounted().transaction() as session:
        made = rotate_hook_key(session, _KIND.locked(session, workspace_id, hook_id))
        _KIND.audit(session, "rotate_key", made.hook)
        return respond(_SHOWN, _show_once(made))


@hooks.endpoint("POST", HOOK + "/rotate-secret", Scope.CONNECTIONS, refuses=(400, 404, 413, 415), shows_secret=True)
@hooks.body(NewSecretSchema, required=False, example={"secret": "the new one", "keepOldMs": 3_600_000})
@hooks.answers(200, ShownSecretSchema)
def rotate_secret(body: dict[str, Any], workspace_id: UUID, hook_id: UUID) -> Response:
    """Have deliveries checked by another secret; for a while what the old one signs is taken too"""
    return _KIND.rotate_secret(workspace_id, hook_id, rotate_hook_secret, _SECRET, body)


@hooks.endpoint("POST", HOOK + "/disable", Scope.CONNECTIONS, refuses=(404,))
@hooks.answers(200, HookSchema, headers=EDITABLE)
def disable(workspace_id: UUID, hook_id: UUID) -> Response:
    """Take nothing more until it is enabled; providers are asked to come again later"""
    return _KIND.disable(workspace_id, hook_id, disable_hook)


@hooks.endpoint("POST", HOOK + "/enable", Scope.CONNECTIONS, refuses=(404,))
@hooks.answers(200, HookSchema, headers=EDITABLE)
def enable(workspace_id: UUID, hook_id: UUID) -> Response:
    """Take deliveries again"""
    return _KIND.enable(workspace_id, hook_id, enable_hook)


@hooks.endpoint("GET", HOOK + "/deliveries", Scope.CONNECTIONS, refuses=(404,))
@hooks.answers(200, DeliveriesSchema)
def list_hook_deliveries(workspace_id: UUID, hook_id: UUID) -> Response:
    """List the last 100 deliveries that were the provider's, newest first

    What was not believed is nowhere but in the log. They are remembered for 30 days.
    """
    with mounted().reading() as session:
        _KIND.seen(session, workspace_id, hook_id)
        found = list_deliveries(session, workspace_id, hook_id)
    return respond(_DELIVERIES, {"items": [_describe_delivery(delivery) for delivery in found]})


def _require_connection(session: Session, workspace_id: UUID, body: dict[str, Any]) -> None:
    connection_id = body.get("connection_id")
    if connection_id is not None and session.get(Connection, (workspace_id, connection_id)) is None:
        raise invalid([Problem("/connectionId", "there is no such connection")])


def _describe(hook: Hook) -> dict[str, Any]:
    renamed = {"job_type": hook.task, "public_url": hook.url, "rotating_until": hook.previous_until}
    return {**columns_of(_HOOK, hook), **renamed}


def _show_once(made: NewHook) -> dict[str, Any]:
    path = serving_url("receiving.receive_delivery", connectionKey=made.key)
    url = made.url if made.hook.url else request.host_url.rstrip("/") + path
    return {**_describe(made.hook), "url": url, "secret": made.secret}


def _describe_delivery(delivery: HookDelivery) -> dict[str, Any]:
    status_url = job_url(delivery.workspace_id, delivery.job_id) if delivery.job_id else None
    return {**columns_of(_DELIVERY, delivery), "status_url": status_url}
