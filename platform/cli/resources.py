"""``jobplatform resources``."""

from __future__ import annotations

import click

from jobplatform.cli.acting import audit
from jobplatform.cli.amounts import Between, Count
from jobplatform.cli.database import open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table, tell
from jobplatform.queue import (
    Adaptive,
    clear_resource_limit,
    find_resource_limit,
    list_resource_levels,
    list_resource_limits,
    set_resource_limit,
)


@click.group()
def resources() -> None:
    """How many jobs use a resource at a time: list, set and clear limits, and see what adaptive ones have come to."""


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
                one.resource, "no limit" if one.max_running is None else _shown(one.min_running, one.max_running),
                _shown(one.code_min_running, one.code_max_running), one.declared_by,
            )
            for one in found
        ]  # fmt: skip
        print_table(["resource", "max running", "in code", "of"], rows)


@resources.command()
@click.argument("resource", required=False)
@as_json_option
def levels(resource: str | None, as_json: bool) -> None:
    """Show how many jobs may use RESOURCE, or each with an adaptive limit, at a time now, and why it was lowered last.
    At most a hundred, those first that were lowered last."""
    with open_session() as session:
        found = list_resource_levels(session, resource)
    if as_json:
        print_json(plain(found))
    else:
        rows = [
            (
                one.resource,
                one.level,
                _shown(one.min_running, one.max_running),
                one.running,
                one.lowered_at,
                one.lowered_for,
            )
            for one in found
        ]
        print_table(["resource", "level", "between", "running", "lowered", "because of"], rows)


@resources.command()
@click.argument("resource")
@click.argument("max_running", type=Count(0), required=False)
@click.option("--adaptive", type=Between(), help="Let each find out how many it takes, between two numbers: 1..50.")
@as_json_option
def limit(
    resource: str, max_running: tuple[int | None] | None, adaptive: tuple[int, int] | None, as_json: bool
) -> None:
    """Let at most MAX_RUNNING jobs use RESOURCE at a time, of all tasks and workspaces. `account:*` means each resource
    of that kind by itself; `none` says that there is no limit, whatever its kind or the code of a task has."""
    if (max_running is None) == (adaptive is None):
        raise click.UsageError("say either MAX_RUNNING or --adaptive, as in `--adaptive 1..50`")
    (most,) = max_running or (None,)
    chosen = most if adaptive is None else Adaptive(*adaptive)
    told = {"maxRunning": most} if adaptive is None else {"maxRunning": adaptive[1], "minRunning": adaptive[0]}
    with open_session() as session:
        made = set_resource_limit(session, resource, chosen)
        audit(session, "resource.limit", f"resource:{resource}", **told)
        words, facts = _words(made.min_running, made.max_running), plain(made)
    tell(as_json, f"resource {resource}: {words}", **facts)


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
        words = "no limit of its own"
        if left is not None:
            words = f"{_words(left.min_running, left.max_running)}, as the code declares"
    tell(as_json, f"resource {resource}: {words}", resource=resource, cleared=True)


def _shown(least: int | None, most: int | None) -> str | int | None:
    return most if least is None or most is None else str(Adaptive(least, most))


def _words(least: int | None, most: int | None) -> str:
    if most is None:
        return "no limit"
    return f"at most {most} at a time" if least is None else f"as many at a time as it takes, from {least} to {most}"
