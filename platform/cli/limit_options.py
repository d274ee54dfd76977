"""The options of a plan and of a workspace's own limits: the same words, because they are the same limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from jobplatform.cli.amounts import Count, Rate, show_rate
from jobplatform.models import Plan
from jobplatform.queue import Limits

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--weight", type=Count(1, 100), help="Its share of the slots, against others'."),
    click.option("--max-running", type=Count(0), help="Jobs that run at a time."),
    click.option("--max-pending", type=Count(0), help="Jobs that may wait."),
    click.option(
        "--shed",
        type=click.Choice(["yes", "no", "none"]),
        help="With too many waiting, give up the least important instead of refusing the new one.",
    ),
    click.option("--rate", type=Rate(), help="Jobs that start in each period, as in 100/10s."),
)

COLUMNS = ("weight", "max running", "max pending", "shed", "rate")


def limit_options(command: Command) -> Command:
    """Options for every limit; each takes ``none`` to clear it."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def changes_of(options: dict[str, Any]) -> dict[str, Any]:
    """What was said, as the queue takes it; what was not said is not in it."""
    changes = {
        name: options[name][0] for name in ("weight", "max_running", "max_pending") if options.get(name) is not None
    }
    if options.get("shed") is not None:
        changes["shed"] = {"yes": True, "no": False, "none": None}[options["shed"]]
    if options.get("rate") is not None:
        changes["rate_units"], changes["rate_period_ms"] = options["rate"]
    if not changes:
        raise click.UsageError("say what to change; see --help")
    return changes


def limit_cells(limits: Limits | Plan) -> tuple[Any, ...]:
    """The cells below :data:`COLUMNS`."""
    shed = None if limits.shed is None else "yes" if limits.shed else "no"
    rate = show_rate(limits.rate_units, limits.rate_period_ms)
    return (limits.weight, limits.max_running, limits.max_pending, shed, rate)


def limits_as_dict(limits: Limits | Plan) -> dict[str, Any]:
    """As the API spells them."""
    return {
        "weight": limits.weight,
        "maxRunning": limits.max_running,
        "maxPending": limits.max_pending,
        "shed": limits.shed,
        "rateUnits": limits.rate_units,
        "ratePeriodMs": limits.rate_period_ms,
    }
