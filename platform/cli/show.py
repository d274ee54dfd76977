"""How things look in a terminal: tables, JSON, moments."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobplatform.logs import escape_controls
from jobplatform.models import Base

STATUS_STYLES = {"completed": "green", "failed": "red", "running": "cyan", "cancelled": "yellow"}

PIPE_WIDTH = 250
#: More of one name than these are counted, not listed.
MOST_OF_A_NAME = 20

as_json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


def print_json(value: Any) -> None:
    """``value`` as indented JSON; moments and ids as text."""
    click.echo(text_of_json(value))


def text_of_json(value: Any) -> str:
    return json.dumps(value, indent=2, default=_as_text)


def plain(value: Any) -> Any:
    """A value of ours as every ``--json`` spells it: names as the API has them, moments and ids left to be written.

    What users said (payloads, results, details) is in mappings, and stays as they spelt it.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _camel({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _camel(value._asdict())
    if isinstance(value, Base):
        return _camel({column.key: getattr(value, column.key) for column in type(value).__table__.columns})
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def _camel(values: dict[str, Any]) -> dict[str, Any]:
    return {camel(name): plain(value) for name, value in values.items()}


def camel(name: str) -> str:
    """``max_running`` as the API has it: ``maxRunning``."""
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def tell(as_json: bool, sentence: str, /, **facts: Any) -> None:
    """What was done: a sentence for people, or its facts as JSON, with names as the API has them."""
    if as_json:
        print_json(_camel(facts))
    else:
        click.echo(sentence)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table. A cell that says a status has its colour."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        # What people copy from here into the next command stays in one piece.
        table.add_column(column, no_wrap=column in ("id", "workspace"))
    for row in rows:
        table.add_row(*[cell(value) for value in row])
    make_console().print(table)


def make_console() -> Console:
    """A console as wide as the terminal; what goes into a file or a pipe is not folded at 80 columns."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def cell(value: Any) -> Text:
    """A value as harmless text: no markup of its own, no control characters."""
    text = escape_controls(_as_text(value))
    return Text(text, style=STATUS_STYLES.get(text, ""), overflow="fold")


def several(noun: str, name: str, found: Sequence[tuple[UUID, datetime.datetime]]) -> str:
    """That a name is not enough, and by what they can be told apart: their ids, and when they were made."""
    return f"{len(found)} {noun}s are named {name!r}; give the id of one instead of the name:{_ids(found)}"


def already_named(noun: str, name: str, found: Sequence[tuple[UUID, datetime.datetime]]) -> str:
    """That there is one of that name, or several, and which."""
    are = f"a {noun} is" if len(found) == 1 else f"{len(found)} {noun}s are"
    return f"{are} named {name!r} already:{_ids(found)}"


def _ids(found: Sequence[tuple[UUID, datetime.datetime]]) -> str:
    lines = [f"\n  {id}  made {_as_text(created_at)}" for id, created_at in found[:MOST_OF_A_NAME]]
    more = f"\n  and {len(found) - MOST_OF_A_NAME} more" if len(found) > MOST_OF_A_NAME else ""
    return f"{''.join(lines)}{more}"


def _as_text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return str(value)
