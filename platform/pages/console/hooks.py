"""Hooks, where providers deliver to, and webhooks, where endings are told: beside the connections."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, redirect

from jobplatform.pages.acting import done
from jobplatform.pages.console.connecting import show_list
from jobplatform.pages.inner_api import Answer
from jobplatform.pages.notices import notify
from jobplatform.pages.shell import Section, ask, url
from jobplatform.queue import pages

HOOK = "/connections/hooks/<uuid:workspace_id>/<uuid:hook_id>"
WEBHOOK = "/connections/webhooks/<uuid:workspace_id>/<uuid:webhook_id>"


def add_hooks_to(section: Section) -> None:
    section.page("/connections/hooks")(list_hooks)
    section.action(HOOK + "/disable", "connection.change")(disable_hook)
    section.action(HOOK + "/enable", "connection.change")(enable_hook)
    section.page("/connections/webhooks")(list_webhooks)
    section.action(WEBHOOK + "/disable", "connection.change")(disable_webhook)
    section.action(WEBHOOK + "/enable", "connection.change")(enable_webhook)
    section.action(WEBHOOK + "/test", "connection.change")(try_webhook)
    section.action(WEBHOOK + "/redeliver/<uuid:job_id>", "connection.change")(redeliver)


def list_hooks() -> Response:
    return show_list("hooks.html", pages.hook_lines)


def disable_hook(workspace_id: UUID, hook_id: UUID) -> Any:
    answer = ask("POST", f"/workspaces/{workspace_id}/hooks/{hook_id}/disable")
    return done(answer, "It is disabled: providers are told to come again later.")


def enable_hook(workspace_id: UUID, hook_id: UUID) -> Any:
    return done(ask("POST", f"/workspaces/{workspace_id}/hooks/{hook_id}/enable"), "Its deliveries are taken again.")


def list_webhooks() -> Response:
    return show_list("webhooks.html", pages.webhook_lines)


def disable_webhook(workspace_id: UUID, webhook_id: UUID) -> Any:
    answer = ask("POST", f"/workspaces/{workspace_id}/webhooks/{webhook_id}/disable")
    return done(answer, "It is disabled: nothing more is told, and deliveries that wait are not sent.")


def enable_webhook(workspace_id: UUID, webhook_id: UUID) -> Any:
    answer = ask("POST", f"/workspaces/{workspace_id}/webhooks/{webhook_id}/enable")
    return done(answer, "It is told again, of jobs that are enqueued from now on.")


def try_webhook(workspace_id: UUID, webhook_id: UUID) -> Any:
    answer = ask("POST", f"/workspaces/{workspace_id}/webhooks/{webhook_id}/test")
    return _to_delivery(workspace_id, answer, "This job delivers the event webhook.test.")


def redeliver(workspace_id: UUID, webhook_id: UUID, job_id: UUID) -> Any:
    answer = ask("POST", f"/workspaces/{workspace_id}/webhooks/{webhook_id}/deliveries/{job_id}/redeliver")
    return _to_delivery(workspace_id, answer, "This job delivers it again.")


def _to_delivery(workspace_id: UUID, answer: Answer, words: str) -> Any:
    if not answer.ok:
        return done(answer, "")
    response = redirect(url("job.show_job", workspace_id=workspace_id, job_id=answer.body["jobId"]), 303)
    notify(response, words, "done")
    return response
