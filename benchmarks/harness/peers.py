"""The peers, installed from their packages into folders of their own beside the repository's environment."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import venv
from pathlib import Path

from harness.contenders import CONTENDERS, Contender, dbos, pgboss, python_peers

BENCHMARKS = CONTENDERS.parent
REQUIREMENTS = BENCHMARKS / "requirements.txt"
DBOS_REQUIREMENTS = BENCHMARKS / "requirements-dbos.txt"
ENVIRONMENTS = BENCHMARKS / ".venvs"
INSTALL_SECONDS = 300


class PeerMissingError(Exception):
    """A peer cannot take part; the message is the reason the tables give."""


def installed_peers() -> tuple[list[Contender], list[str]]:
    """The peers that can run here, and a sentence about each that cannot."""
    peers: list[Contender] = []
    missing: list[str] = []
    installs = (("pgqueuer and procrastinate", _python_peers), ("pg-boss", _pgboss), ("dbos", _dbos))
    for name, install in installs:
        try:
            peers += install()
        except PeerMissingError as error:
            missing.append(f"{name}: not in the tables, because {error}.")
    return peers, missing


def _python_peers() -> list[Contender]:
    return python_peers(_python_with(REQUIREMENTS, ENVIRONMENTS / "python"))


def _dbos() -> list[Contender]:
    return [dbos(_python_with(DBOS_REQUIREMENTS, ENVIRONMENTS / "dbos"))]


def _python_with(requirements: Path, folder: Path) -> Path:
    python = folder / "bin" / "python"
    if _is_stale(folder, requirements):
        venv.create(folder, with_pip=True, clear=True)
        _install([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)], folder)
        _remember(folder, requirements)
    return python


def _pgboss() -> list[Contender]:
    """Node comes as a package too: pg-boss needs a newer one than many systems have."""
    folder, source = ENVIRONMENTS / "pgboss", CONTENDERS / "pgboss"
    wanted = source / "package.json"
    if shutil.which("npm") is None:
        raise PeerMissingError("npm is not installed")
    if _is_stale(folder, wanted):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(wanted, folder)
        _install(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"], folder)
        _remember(folder, wanted)
    # Modules are looked up beside the program that asks for them.
    shutil.copy(source / "program.mjs", folder)
    return [pgboss(folder / "node_modules" / ".bin" / "node", folder / "program.mjs")]


def _install(command: list[str], folder: Path) -> None:
    print(f"  installing peers: {Path(command[0]).name} {command[1]} …", flush=True)
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise PeerMissingError(f"installing it took longer than {INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        print(done.stderr[-2000:], flush=True)
        raise PeerMissingError("its packages could not be installed")


def _is_stale(folder: Path, wanted: Path) -> bool:
    mark = folder / ".installed"
    return not mark.exists() or mark.read_text() != _digest(wanted)


def _remember(folder: Path, wanted: Path) -> None:
    (folder / ".installed").write_text(_digest(wanted))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
