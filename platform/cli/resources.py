"""``jobplatform resources``."""

from __future__ import annotations

import click

from jobplatform.cli.acting import audit
from jobplatform.cli.amounts import Count
from jobplatform.cli.database import open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table, tell
from jobplatform.queue import (
    clear_resource_limit,
    find_resource_limit,
    list_resource_limits,
    set_resource_limit,
)


@click.group()
def resources() -> None:
    """How many jobs use a resource at a time: list, set and clear limits."""


@resources.command()
@as_json_option
def ls(as_json: bool) -> None:
    """List the limits, by resource."""
    with open_session() as session:
        found = list_resource_limits(session)
    if as_json:
        print_json(plain(found))
    else:
        rows = [
            (
                one.resource, "no limit" if one.max_running is None else one.max_running, one.code_max_running,
                one.declared_by,
            )
            for one in found
        ]  # fmt: skip
        print_table(["resource", "max running", "in code", "of"], rows)


@resources.command()
@click.argument("resource")
@click.argument("max_running", type=Count(0))
@as_json_option
def limit(resource: str, max_running: tuple[int | None], as_json: bool) -> None:
    """Let at most MAX_RUNNING jobs use RESOURCE at a time, of all tasks and workspaces. `account:*` means each resource
    of that kind by itself; `none` says that there is no limit, whatever its kind or the code of a task has."""
    (most,) = max_running
    with open_session() as session:
        made = set_resource_limit(session, resource, most)
        audit(session, "resource.limit", f"resource:{resource}", maxRunning=most)
        facts = plain(made)
    tell(as_json, f"resource {resource}: {_words(most)}", **facts)


@resources.command()
@click.argument("resource")
@as_json_option
def clear(resource: str, as_json: bool) -> None:
    """Clear the limit of RESOURCE: what the code of a task declares, or its kind has, counts again."""
    with open_session() as session:
        if not clear_resource_limit(session, resource):
            raise click.ClickException(f"{resource!r} has no limit to clear; see `jobplatform resources ls`")
        audit(session, "resource.clear_limit", f"resource:{resource}")
        left = find_resource_limit(session, resource)
        words = "no limit of its own" if left is None else f"{_words(left.max_running)}, as the code declares"
    tell(as_json, f"resource {resource}: {words}", resource=resource, cleared=True)


def _words(most: int | None) -> str:
    return "no limit" if most is None else f"at most {most} at a time"
