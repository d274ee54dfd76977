"""Who takes part: a name for the tables, a program to run, and a database whose schema is installed once."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
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
    #: Variables of its environment.
    settings: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    #: The sections that it has the actions for; none means all of them.
    takes_part_in: Sequence[str] = ()

    def run(self, url: str, action: str, *numbers: int) -> Program:
        environment = {**self.settings, "BENCH_DATABASE_URL": url}
        return Program([*self.command, action, *map(str, numbers)], environment)

    def ask(self, url: str, action: str, *numbers: int, seconds: float = 120) -> dict[str, Any]:
        """Run the action to its end and return its one answer."""
        with self.run(url, action, *numbers) as program:
            return program.answer(seconds)

    def fresh_database(self, databases: Databases, copy: str = "scratch") -> str:
        """An empty database with the contender's schema; the one of its last round is dropped."""
        return databases.fresh(self.schema, install=lambda url: self.ask(url, "install"), copy=copy)


def jobplatform(workspaces: int = 1, **settings: str) -> Contender:
    """``settings`` are those of its worker: ``kill_grace_seconds="0.1"``."""
    plural = "s" if workspaces > 1 else ""
    return Contender(
        f"jobplatform, {workspaces} workspace{plural}",
        _python(sys.executable, "with_jobplatform.py"),
        schema="jobplatform",
        workspaces=workspaces,
        settings={f"JOBPLATFORM_{name.upper()}": value for name, value in settings.items()},
    )


def bare_inserts() -> list[Contender]:
    """What an enqueue cannot avoid: the same two rows, written by the driver alone."""
    program = _python(sys.executable, "bare_insert.py")
    return [
        Contender("bare: two inserts, commit", [*program, "two"], schema="jobplatform"),
        Contender("bare: one statement", [*program, "one"], schema="jobplatform"),
        Contender("bare: two inserts in a Session", [*program, "session"], schema="jobplatform"),
    ]


def python_peers(python: Path) -> list[Contender]:
    return [
        Contender("pgqueuer", _python(str(python), "with_pgqueuer.py"), schema="pgqueuer"),
        Contender("procrastinate", _python(str(python), "with_procrastinate.py"), schema="procrastinate"),
    ]


def pgboss(node: Path, program: Path) -> Contender:
    return Contender("pg-boss", [str(node), str(program)], schema="pgboss")


def dbos(python: Path) -> Contender:
    return Contender("dbos", _python(str(python), "with_dbos.py"), schema="dbos", takes_part_in=("noisy",))


def _python(interpreter: str, program: str) -> list[str]:
    return [interpreter, str(CONTENDERS / program)]
