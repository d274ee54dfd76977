"""Nothing of ours asks a machine what time it is: the database tells it, so that hosts agree and tests can move it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "platform").rglob("*.py"))

ALLOWED = {
    # An HTTP date is compared with this machine's clock, as every client does: the server's words are all there is.
    "platform/queue/run/retry_after.py": ["now"],
    # How far this machine's clock is off is just what the doctor wants to know.
    "platform/queue/health/doctor.py": ["now", "now"],
    # "3 min ago" on a page, for people; what counts is decided by the database's clock.
    "platform/pages/rendering.py": ["now"],
    # How old a signed delivery is: its sender signed by a clock of its own, and this module knows no database.
    "platform/webhooks/standard.py": ["time"],
    # Whether a source tells the time roughly as it is; a connector knows no database.
    "platform/connectors/http_json.py": ["time_ns"],
    # When a certificate was made, for people: by then its database may be gone.
    "platform/proof/certificate.py": ["now"],
}
READERS = {"now", "utcnow", "today"}


def wall_clock_reads(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr=("time" | "time_ns") as name)):
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="datetime" | "date"), attr=name)) if (
                name in READERS
            ):
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=name)) if name in READERS:
                yield name


def test_no_module_reads_the_wall_clock() -> None:
    found = {str(path.relative_to(ROOT)): list(wall_clock_reads(path.read_text())) for path in MODULES}

    assert {name: reads for name, reads in found.items() if reads} == ALLOWED


@pytest.mark.parametrize(
    "line", ["time.time()", "datetime.datetime.now(datetime.UTC)", "datetime.now()", "datetime.date.today()"]
)
def test_whoever_reads_it_is_found(line: str) -> None:
    assert len(list(wall_clock_reads(f"def f():\n    return {line} + 1"))) == 1


@pytest.mark.parametrize("line", ["time.monotonic()", "clock()", "self.now()"])
def test_durations_and_the_databases_time_are_fine(line: str) -> None:
    assert list(wall_clock_reads(line)) == []
