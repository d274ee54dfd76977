"""Who takes part: a name for the tables, a program to run, and a database whose schema is installed once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.database import Databases
from harness.programs import Program

CONTENDERS = Path(__file__).parent.parent / "contenders"


@dataclass(frozen=True)
class Contender:
    """``command`` is run with an action and its numbers behind it; see ``contenders/protocol.py``."""

    name: str
    command: Sequence[str] = field(repr=False)
    schema: str = ""
    workspaces: int = 1

    def run(self, url: str, action: str, *numbers: int) -> Program:
        environment = {"BENCH_DATABASE_URL": url}
        return Program([*self.command, action, *map(str, numbers)], environment)

    def ask(self, url: str, action: str, *numbers: int, seconds: float = 120) -> dict[str, Any]:
        """Run the action to its end and return its one answer."""
        with self.run(url, action, *numbers) as program:
            return program.answer(seconds)

    def fresh_database(self, databases: Databases, copy: str = "scratch") -> str:
        """An empty database with the contender's schema; the one of its last round is dropped."""
        return databases.fresh(self.schema, install=lambda url: self.ask(url, "install"), copy=copy)


def jobplatform(workspaces: int = 1) -> Contender:
    plural = "s" if workspaces > 1 else ""
    return Contender(
        f"jobplatform, {workspaces} workspace{plural}",
        _python(sys.executable, "with_jobplatform.py"),
        schema="jobplatform",
        workspaces=workspaces,
    )


def bare_inserts() -> list[Contender]:
    """What an enqueue cannot avoid: the same two rows, written by the driver alone."""
    program = _python(sys.executable, "bare_insert.py")
    return [
        Contender("bare: two inserts, commit", [*program, "two"], schema="jobplatform"),
        Contender("bare: one statement", [*program, "one"], schema="jobplatform"),
    ]


def python_peers(python: Path) -> list[Contender]:
    return [
        Contender("pgqueuer", _python(str(python), "with_pgqueuer.py"), schema="pgqueuer"),
        Contender("procrastinate", _python(str(python), "with_procrastinate.py"), schema="procrastinate"),
    ]


def pgboss(node: Path, program: Path) -> Contender:
    return Contender("pg-boss", [str(node), str(program)], schema="pgboss")


def _python(interpreter: str, program: str) -> list[str]:
    return [interpreter, str(CONTENDERS / program)]
