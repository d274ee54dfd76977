"""``jobplatform webhooks``: where a workspace is told how its jobs ended."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import UUID

import click

from jobplatform.cli.acting import actor
from jobplatform.cli.amounts import Duration
from jobplatform.cli.database import find_known_workspace, open_session
from jobplatform.cli.endpoints import Kind, workspace_option
from jobplatform.cli.show import as_json_option, print_json, print_table, tell
from jobplatform.connectors import require_askable
from jobplatform.models import Job, Outcome, WebhookSubscription
from jobplatform.queue import (
    EVENTS,
    JOB_EVENTS,
    change_webhook,
    create_webhook,
    delete_webhook,
    disable_webhook,
    enable_webhook,
    find_delivery,
    find_webhook,
    list_webhook_jobs,
    list_webhooks,
    problem_of_webhook,
    redeliver,
    rotate_webhook_secret,
    send_test,
    tasks_served,
)

event_option = click.option(
    "--event", "events", multiple=True, type=click.Choice(EVENTS), help="More than once. Default: all endings of jobs."
)
task_option = click.option("--task", "tasks", multiple=True, help="Of this task only; more than once. Default: all.")


_KIND = Kind[WebhookSubscription](
    noun="webhook",
    find_one=find_webhook,
    list_page=list_webhooks,
    disable=disable_webhook,
    enable=enable_webhook,
    delete=delete_webhook,
    closed=frozenset({"secret", "previousSecret"}),
    renamed={"tasks": "jobTypes", "previousUntil": "rotatingUntil"},
)


@click.group()
def webhooks() -> None:
    """Make, list, test and disable webhooks: where endings of jobs are told. One is given by its id."""


@webhooks.command()
@workspace_option
@as_json_option
def ls(workspace: str, as_json: bool) -> None:
    """List webhooks."""
    with open_session() as session:
        found = _KIND.list_all(session, workspace)
    if as_json:
        print_json([_KIND.as_dict(webhook) for webhook in found])
        return
    rows = [
        (one.id, one.name, one.url, " ".join(one.events), " ".join(one.tasks or ["all"]), _state(one)) for one in found
    ]
    print_table(["id", "name", "url", "events", "tasks", "state"], rows)


@webhooks.command()
@workspace_option
@click.option("--name", required=True, help="For people.")
@click.option("--url", required=True, help="https, and a public address.")
@event_option
@task_option
@as_json_option
def create(workspace: str, name: str, url: str, events: tuple[str, ...], tasks: tuple[str, ...], as_json: bool) -> None:
    """Have endings of jobs told to a URL, and show the secret this once."""
    require_askable(url)
    with open_session() as session:
        made = create_webhook(
            session,
            workspace_id=find_known_workspace(session, workspace),
            name=name,
            url=url,
            events=events or JOB_EVENTS,
            tasks=tasks or None,
            made_by=actor(),
        )
        _KIND.audit(session, "create", made.webhook, events=made.webhook.events, jobTypes=made.webhook.tasks)
    if as_json:
        print_json({**_KIND.as_dict(made.webhook), "secret": made.secret})
        return
    click.echo(f"{made.webhook.id} {made.webhook.name}")
    click.echo(f"secret: {made.secret}")
    click.echo("Keep this; it is not shown again.")


@webhooks.command()
@_KIND.argument
@workspace_option
@as_json_option
def show(webhook: UUID, workspace: str, as_json: bool) -> None:
    """Show a webhook, and its last deliveries."""
    with open_session() as session:
        found = _KIND.find(session, webhook, workspace)
        jobs = list_webhook_jobs(session, found.workspace_id, found.id)
        deliveries = [_delivery(job) for job in jobs]
        shown = {**_KIND.as_dict(found), "problem": problem_of_webhook(found.tasks, tasks_served(session))}
    if as_json:
        print_json({**shown, "deliveries": deliveries})
        return
    print_table(["", ""], list(shown.items()), title=found.name)
    rows = [
        [one["createdAt"], one["type"], _status(one), one["attempts"], one["jobId"], _said(one)] for one in deliveries
    ]
    print_table(["at", "type", "status", "tries", "job", "answer"], rows)


@webhooks.command()
@_KIND.argument
@workspace_option
@click.option("--name", help="For people.")
@click.option("--url", help="https, and a public address.")
@event_option
@task_option
@as_json_option
def change(webhook: UUID, workspace: str, as_json: bool, **options: Any) -> None:
    """Change a webhook; what is not named stays."""
    changes = {name: value for name, value in options.items() if value}
    if "url" in changes:
        require_askable(changes["url"])
    with open_session() as session:
        found = _KIND.find(session, webhook, workspace)
        change_webhook(session, found, **changes)
        _KIND.audit(session, "change", found, changed=sorted(changes))
    tell(as_json, f"{found.name} is changed", id=found.id, name=found.name, changed=True)


@webhooks.command()
@_KIND.argument
@workspace_option
@as_json_option
def test(webhook: UUID, workspace: str, as_json: bool) -> None:
    """Send the event webhook.test."""
    with open_session() as session:
        found = _KIND.find(session, webhook, workspace)
        job_id = send_test(session, found)
        _KIND.audit(session, "test", found, jobId=job_id)
    tell(as_json, f"{job_id} will deliver it", id=found.id, job_id=job_id)


@webhooks.command("redeliver")
@_KIND.argument
@click.argument("job_id", type=click.UUID)
@workspace_option
@as_json_option
def deliver_again(webhook: UUID, job_id: UUID, workspace: str, as_json: bool) -> None:
    """Send a delivery that has ended once more, under the same webhook-id. JOB_ID is its job."""
    with open_session() as session:
        found = _KIND.find(session, webhook, workspace)
        delivery = find_delivery(session, found, job_id)
        if delivery is None:
            raise click.ClickException(f"{job_id} is no delivery to {found.name}; see `jobplatform webhooks show`")
        if delivery.completed_at is None:
            raise click.ClickException(f"{job_id} is {delivery.status}, and is still to be delivered")
        again = redeliver(session, found, delivery)
        _KIND.audit(session, "redeliver", found, jobId=again, again=job_id)
    tell(as_json, f"{again} will deliver it", id=found.id, job_id=again)


@webhooks.command("rotate-secret")
@_KIND.argument
@workspace_option
@click.option("--keep-old", type=Duration(), help="How long the old one signs too, as in 1h. Default: a day.")
@as_json_option
def rotate_secret(webhook: UUID, workspace: str, keep_old: datetime.timedelta | None, as_json: bool) -> None:
    """Sign with another secret, and show it this once."""
    options = {} if keep_old is None else {"keep_old": keep_old}
    with open_session() as session:
        found = _KIND.find(session, webhook, workspace)
        made = rotate_webhook_secret(session, found, None, **options)
        _KIND.audit(session, "rotate_secret", found, oldUntil=found.previous_until)
    tell(as_json, f"{found.name} has another secret: {made}", id=found.id, name=found.name, secret=made)


_KIND.add_switches(
    webhooks,
    disable="Tell it nothing more; deliveries that wait are not sent.",
    enable="Tell it again, of jobs that are enqueued from now on.",
    delete="Delete a webhook; deliveries that wait are not sent.",
)


def _state(webhook: WebhookSubscription) -> str:
    if webhook.disabled_at is not None:
        return f"disabled ({webhook.disabled_why})"
    return "is told" if webhook.failing_since is None else "fails"


def _status(delivery: dict[str, Any]) -> str:
    """What was not sent has completed too."""
    return str(delivery["outcome"] if delivery["outcome"] == Outcome.SKIPPED else delivery["status"])


def _said(delivery: dict[str, Any]) -> Any:
    """By the receiver, or of why it was not asked."""
    return delivery["answer"] or delivery["skipped"] or delivery["error"]


def _delivery(job: Job) -> dict[str, Any]:
    result = job.result if isinstance(job.result, dict) else {}
    return {
        "jobId": job.id,
        "type": job.payload["event"]["type"],
        "aboutJobId": job.parent_id,
        "status": job.status,
        "outcome": job.outcome,
        "attempts": job.attempts,
        "answer": result.get("status"),
        "skipped": result.get("reason"),
        "error": job.error,
        "createdAt": job.created_at,
        "completedAt": job.completed_at,
    }
