"""Where a job begins that is run once more, and with what: what ``jobs replay`` and ``jobs fork`` have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from jobplatform.errors import InvalidJobError

from_step_option = click.option("--from-step", metavar="NAME", help="Do this step again, and what was done after it.")
payload_option = click.option("--payload", help="A JSON object in place of the payload that the job has.")


def parse_payload(payload: str) -> Any:
    """A payload as it is typed."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"the payload is not JSON: {error}") from error


@contextmanager
def telling_of_the_step() -> Iterator[None]:
    """A step that the job has not done is a mistake of the option, and is told as one."""
    try:
        yield
    except InvalidJobError as error:
        path, message = error.problems[0]
        if path != "/fromStep":
            raise
        raise click.BadParameter(f"--from-step {message}") from None
