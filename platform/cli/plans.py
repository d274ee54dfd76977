"""``jobplatform plans``."""

from __future__ import annotations

from typing import Any

import click

from jobplatform.cli.acting import audit
from jobplatform.cli.database import open_session
from jobplatform.cli.limit_options import COLUMNS, changes_of, limit_cells, limit_options, limits_as_dict
from jobplatform.cli.show import as_json_option, print_json, print_table, tell
from jobplatform.queue import delete_plan, list_plans, set_plan
from jobplatform.wording import plural


@click.group()
def plans() -> None:
    """Presets of limits: make, list and delete them."""


@plans.command()
@as_json_option
def ls(as_json: bool) -> None:
    """List the plans, by name."""
    with open_session() as session:
        found = list_plans(session)
    if as_json:
        print_json([{"name": plan.name, **limits_as_dict(plan)} for plan in found])
    else:
        print_table(["plan", *COLUMNS], [(plan.name, *limit_cells(plan)) for plan in found])


@plans.command("set")
@click.argument("name")
@limit_options
@as_json_option
def set_(name: str, as_json: bool, **options: Any) -> None:
    """Make a plan, or change what is said of it. It counts at once for every workspace on it; `none` clears."""
    changes = changes_of(options)
    with open_session() as session:
        made = {"name": name, **limits_as_dict(set_plan(session, name, changes))}
        audit(session, "plan.set", f"plan:{name}", **changes)
    tell(as_json, f"plan {name} is set", **made)


@plans.command()
@click.argument("name")
@as_json_option
def delete(name: str, as_json: bool) -> None:
    """Delete a plan that no workspace is on."""
    with open_session() as session:
        answer = delete_plan(session, name)
        if not answer.existed:
            raise click.ClickException(f"there is no plan {name!r}; see `jobplatform plans ls`")
        if not answer.deleted:
            some = ", ".join(map(str, answer.used_by[:3]))
            used = plural(answer.uses, "workspace is", "workspaces are")
            raise click.ClickException(f"{used} on the plan {name!r}: {some}")
        audit(session, "plan.delete", f"plan:{name}")
    tell(as_json, f"plan {name} is deleted", name=name, deleted=True)
