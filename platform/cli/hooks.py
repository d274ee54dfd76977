"""``jobplatform hooks``: where providers deliver to. A secret is read from standard input, never from the line."""

from __future__ import annotations

import datetime
import sys
from typing import Any
from uuid import UUID

import click

from jobplatform.cli.acting import actor
from jobplatform.cli.amounts import Duration
from jobplatform.cli.database import find_known_workspace, known_tasks, open_session
from jobplatform.cli.endpoints import Kind, workspace_option
from jobplatform.cli.show import as_json_option, plain, print_json, print_table, tell
from jobplatform.models import Hook
from jobplatform.queue import (
    NewHook,
    change_hook,
    create_hook,
    delete_hook,
    disable_hook,
    enable_hook,
    find_hook,
    list_deliveries,
    list_hooks,
    rotate_hook_key,
    rotate_hook_secret,
)
from jobplatform.settings import Settings
from jobplatform.webhooks import SCHEMES

secret_option = click.option("--secret-stdin", is_flag=True, help="Read the secret from standard input.")


_KIND = Kind[Hook](
    noun="hook",
    find_one=find_hook,
    list_page=list_hooks,
    disable=disable_hook,
    enable=enable_hook,
    delete=delete_hook,
    closed=frozenset({"keyHash", "secret", "previousSecret"}),
    renamed={"task": "jobType", "url": "publicUrl", "previousUntil": "rotatingUntil"},
)


@click.group()
def hooks() -> None:
    """Make, list, rotate and disable hooks: where providers deliver to. One is given by its id."""


@hooks.command()
@workspace_option
@as_json_option
def ls(workspace: str, as_json: bool) -> None:
    """List hooks."""
    with open_session() as session:
        found = _KIND.list_all(session, workspace)
    if as_json:
        print_json([_KIND.as_dict(hook) for hook in found])
        return
    rows = [(hook.id, hook.name, hook.scheme, hook.task, hook.subscription_id, _state(hook)) for hook in found]
    print_table(["id", "name", "scheme", "task", "subscription", "state"], rows)


@hooks.command()
@click.argument("task")
@workspace_option
@click.option("--name", required=True, help="For people.")
@click.option("--scheme", type=click.Choice(list(SCHEMES)), required=True, help="How the provider signs.")
@secret_option
@click.option(
    "--url",
    "base_url",
    help="Where the API is reached from outside, as in https://jobs.example.com/api. Default: JOBPLATFORM_PUBLIC_URL.",
)
@click.option("--connection", "connection_id", type=click.UUID, help="The connection it belongs to.")
@click.option("--one-job", is_flag=True, help="Make a delivery of several events one job.")
@click.option("--subscription", "subscription_id", help="The subscription's id, where nothing is signed.")
@as_json_option
def create(task: str, workspace: str, secret_stdin: bool, one_job: bool, as_json: bool, **options: Any) -> None:
    """Make a hook whose deliveries become jobs of TASK, and show its URL this once."""
    wanted = known_tasks().offered(task)
    secret = _read_secret(secret_stdin)
    reached_at = Settings.from_env().public_url
    with open_session() as session:
        made = create_hook(
            session,
            wanted,
            workspace_id=find_known_workspace(session, workspace),
            secret=secret,
            split="delivery" if one_job else "event",
            made_by=actor(),
            **options,
        )
        _KIND.audit(session, "create", made.hook, scheme=made.hook.scheme, jobType=made.hook.task)
    _show_once(made, reached_at, as_json)


@hooks.command()
@_KIND.argument
@workspace_option
@as_json_option
def show(hook: UUID, workspace: str, as_json: bool) -> None:
    """Show a hook, and what was delivered to it last."""
    with open_session() as session:
        found = _KIND.find(session, hook, workspace)
        deliveries = list_deliveries(session, found.workspace_id, found.id)
    if as_json:
        print_json({**_KIND.as_dict(found), "deliveries": [plain(delivery) for delivery in deliveries]})
        return
    print_table(["", ""], list(_KIND.as_dict(found).items()), title=found.name)
    rows = [(one.received_at, one.answer, one.job_id, one.delivery_id, one.repeats) for one in deliveries]
    print_table(["received", "answer", "job", "delivery", "repeats"], rows)


@hooks.command()
@_KIND.argument
@workspace_option
@click.option("--name", help="For people.")
@click.option("--task", help="Have deliveries become jobs of another task.")
@click.option("--url", "base_url", help="Where the API is reached from outside.")
@click.option("--subscription", "subscription_id", help="The subscription's id, where nothing is signed.")
@as_json_option
def change(hook: UUID, workspace: str, task: str | None, as_json: bool, **options: Any) -> None:
    """Change a hook; what is not named stays."""
    wanted = known_tasks().offered(task) if task else None
    changes = {name: value for name, value in options.items() if value is not None}
    with open_session() as session:
        found = _KIND.find(session, hook, workspace)
        change_hook(session, found, wanted, **changes)
        _KIND.audit(session, "change", found, changed=sorted([*changes, *(["task"] if wanted else [])]))
    tell(as_json, f"{found.name} is changed", id=found.id, name=found.name, changed=True)


@hooks.command("rotate-key")
@_KIND.argument
@workspace_option
@as_json_option
def rotate_key(hook: UUID, workspace: str, as_json: bool) -> None:
    """Give a hook another URL, and show it this once; the old one leads nowhere."""
    reached_at = Settings.from_env().public_url
    with open_session() as session:
        made = rotate_hook_key(session, _KIND.find(session, hook, workspace))
        _KIND.audit(session, "rotate_key", made.hook)
    _show_once(made, reached_at, as_json)


@hooks.command("rotate-secret")
@_KIND.argument
@workspace_option
@secret_option
@click.option("--keep-old", type=Duration(), help="How long the old one is good too, as in 1h. Default: a day.")
@as_json_option
def rotate_secret(
    hook: UUID, workspace: str, secret_stdin: bool, keep_old: datetime.timedelta | None, as_json: bool
) -> None:
    """Have deliveries checked by another secret."""
    secret = _read_secret(secret_stdin)
    options = {} if keep_old is None else {"keep_old": keep_old}
    with open_session() as session:
        found = _KIND.find(session, hook, workspace)
        made = rotate_hook_secret(session, found, secret, **options)
        _KIND.audit(session, "rotate_secret", found, oldUntil=found.previous_until)
    sentence = f"{found.name} has another secret" + (f": {made}" if made else "")
    tell(as_json, sentence, id=found.id, name=found.name, secret=made)


_KIND.add_switches(
    hooks,
    disable="Take nothing more; providers are asked to come again later.",
    enable="Take deliveries again.",
    delete="Delete a hook: its URL leads nowhere; the jobs it has enqueued stay.",
)


def _read_secret(wanted: bool) -> str | None:
    """Where it stands in no list of processes and in no history of a shell."""
    return sys.stdin.read().strip() if wanted else None


def _state(hook: Hook) -> str:
    return "disabled" if hook.disabled_at is not None else "takes deliveries"


def _show_once(made: NewHook, reached_at: str | None, as_json: bool) -> None:
    url = f"{reached_at}{made.url}" if reached_at and made.hook.url is None else made.url
    if as_json:
        print_json({**_KIND.as_dict(made.hook), "url": url, "secret": made.secret})
    else:
        click.echo(f"{made.hook.id} {made.hook.name}")
        click.echo(f"url: {url}")
        if made.secret:
            click.echo(f"secret: {made.secret}")
        click.echo("Keep this; it is not shown again.")
    if url.startswith("/"):
        click.echo(
            "The url is a path: put the address of the API before it, as providers reach it. "
            "JOBPLATFORM_PUBLIC_URL, or --url for this hook, has that done here.",
            err=True,
        )
