"""``jobplatform rates``."""

from __future__ import annotations

from typing import Any

import click

from jobplatform.cli.acting import audit
from jobplatform.cli.amounts import Count, Rate, show_rate
from jobplatform.cli.database import open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table, tell
from jobplatform.queue import clear_rate_limit, list_rate_limits, set_rate_limit


@click.group()
def rates() -> None:
    """How often jobs may use what is outside: list, set and clear rates."""


@rates.command()
@as_json_option
def ls(as_json: bool) -> None:
    """List the rates, by resource."""
    with open_session() as session:
        found = list_rate_limits(session)
    if as_json:
        print_json(plain(found))
    else:
        rows = [(one.resource, show_rate(one.units, one.period_ms), one.burst) for one in found]
        print_table(["resource", "rate", "burst"], rows)


@rates.command("set")
@click.argument("resource")
@click.argument("rate", type=Rate())
@click.option("--burst", type=Count(1), help="Units that may be used at once. Default: as many as in a period.")
@as_json_option
def set_(resource: str, rate: tuple[int | None, int | None], burst: tuple[int | None] | None, as_json: bool) -> None:
    """Let jobs use RESOURCE at RATE, as in 100/10s. `hubspot:*` means each resource of that kind by itself."""
    units, period_ms = rate
    if units is None:
        raise click.UsageError("to let go of a rate, `jobplatform rates clear`")
    changes: dict[str, Any] = {"units": units, "period_ms": period_ms, "burst": burst[0] if burst else None}
    with open_session() as session:
        made = set_rate_limit(session, resource, changes)
        audit(session, "rate.set", f"resource:{resource}", **changes)
        facts = plain(made)
    tell(as_json, f"{resource}: {show_rate(made.units, made.period_ms)}, at most {made.burst} at once", **facts)


@rates.command()
@click.argument("resource")
@as_json_option
def clear(resource: str, as_json: bool) -> None:
    """Let jobs use RESOURCE as often as they like."""
    with open_session() as session:
        if not clear_rate_limit(session, resource):
            raise click.ClickException(f"{resource!r} has no rate of its own; see `jobplatform rates ls`")
        audit(session, "rate.clear", f"resource:{resource}")
    tell(as_json, f"{resource} has no rate", resource=resource, cleared=True)
