"""``jobplatform openapi``."""

from __future__ import annotations

import click

from jobplatform.api import openapi_document
from jobplatform.cli.show import print_json


@click.command()
def openapi() -> None:
    """Print the API's OpenAPI document. Needs no database."""
    print_json(openapi_document())
