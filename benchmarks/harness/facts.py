"""When, with what and on what kind of machine. No names of hosts, users or folders."""

from __future__ import annotations

import datetime
import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from harness.contenders import CONTENDERS
from harness.database import SETTINGS, Databases
from harness.peers import DBOS_REQUIREMENTS, REQUIREMENTS


@dataclass(frozen=True)
class Facts:
    date: datetime.date
    versions: dict[str, str]
    machine: str
    how: str

    def markdown(self) -> str:
        settings = ", ".join(f"`{name} = {value}`" for name, value in SETTINGS.items())
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return "\n".join(
            [
                f"- **Date**: {self.date.isoformat()}",
                f"- **Run**: {self.how}",
                f"- **Versions**: {versions}",
                f"- **Machine**: {self.machine}",
                f"- **Server settings** beside the defaults: {settings}; reached through a Unix socket.",
            ]
        )


def gather(databases: Databases, how: str) -> Facts:
    return Facts(
        date=datetime.datetime.now(datetime.UTC).date(),
        versions={
            "jobplatform": version("jobplatform"),
            "PostgreSQL": databases.version(),
            "Python": platform.python_version(),
            "psycopg": version("psycopg"),
            "SQLAlchemy": version("sqlalchemy"),
            **_peer_versions(),
        },
        machine=_machine(),
        how=how,
    )


def _machine() -> str:
    memory = round(psutil.virtual_memory().total / 2**30)
    cores = os.cpu_count()
    system = platform.system()
    return f"{cores} cores ({_processor()}) shared by server, worker and load; {memory} GB memory; {system}"


def _processor() -> str:
    books = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", books.read_text(), re.MULTILINE) if books.exists() else None
    return found.group(1) if found else platform.machine()


def _peer_versions() -> dict[str, str]:
    """As pinned, which is what gets installed."""
    lines = REQUIREMENTS.read_text().split() + DBOS_REQUIREMENTS.read_text().split()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    packages = (CONTENDERS / "pgboss" / "package.json").read_text()
    node = dict(re.findall(r'"(node|pg-boss)": "([\d.]+)"', packages))
    peers = {name: pinned[name] for name in ("pgqueuer", "procrastinate", "asyncpg", "uvloop", "dbos")}
    return {**peers, "pg-boss": node["pg-boss"], "Node": node["node"]}
