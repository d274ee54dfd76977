"""``make fuzz``: requests made from the OpenAPI document, against the real server, until nothing is found.

    tests/fuzz/run.py [--quick] [--seed N] [--examples N] [--seconds N]

A database, a server and two workspaces are made for the run and removed after it. schemathesis reads the document and
sends what it allows, what it forbids, and what follows from answers; each answer is checked against the document. What
it may find all the same is said in ``schemathesis.toml``, with the reason. Exit code 1: it found something.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from sqlalchemy.orm import Session

from jobplatform import migrations
from jobplatform.api import mint_token
from jobplatform.embedded import EmbeddedServer
from jobplatform.key_ring import generate_key
from jobplatform.models import Role, Workspace, make_engine
from jobplatform.queue import set_plan

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))
from jobplatform.testing import wait_until  # noqa: E402 - run by path

DATABASE = "fuzz"
#: In the document's examples, so that they can be sent as they are.
WORKSPACE = uuid.UUID("0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10")
#: Seconds for a whole run, whatever it has done by then.
LONGEST = {True: 900, False: 3_600}


def main() -> int:
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="jobplatform-fuzz-"))
    # The embedded server is another user when root runs this.
    folder.chmod(0o755)
    try:
        with _database(folder) as (server, token), _api(server, folder) as url:
            return _fuzz(url, token, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _database(folder: Path) -> Iterator[tuple[EmbeddedServer, str]]:
    server = EmbeddedServer(folder, {"fsync": "off"})
    server.start()
    try:
        server.create_database(DATABASE)
        engine = make_engine(server.url(DATABASE))
        migrations.upgrade(engine)
        with Session(engine) as session:
            session.add(Workspace(id=WORKSPACE, name="Acme"))
            set_plan(session, "gold", {"weight": 10})
            token = mint_token(session, workspace_id=None, name="fuzz", scopes=["operator"])
            session.commit()
        engine.dispose()
        server.provide_login("api", Role.API)
        yield server, token
    finally:
        server.stop()


@contextmanager
def _api(server: EmbeddedServer, folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        environment = {
            **os.environ,
            "DATABASE_URL": server.url(DATABASE, "api"),
            "JOBPLATFORM_TASKS": "tests.api.example_tasks:tasks",
            "JOBPLATFORM_ENCRYPTION_KEYS": generate_key("fuzz"),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "jobplatform.cli", "api", "--workers", "1", "--fd", str(listener.fileno())]
        with (folder / "api.log").open("w") as log:
            api = subprocess.Popen(
                command, env=environment, cwd=ROOT, pass_fds=[listener.fileno()], stdout=log, stderr=log
            )
        try:
            wait_until(lambda: _answers(url, api), what="the API to be ready")
            yield url
        finally:
            api.terminate()
            api.wait(timeout=30)
            _show_failures(folder / "api.log")


def _answers(url: str, api: subprocess.Popen[bytes]) -> bool:
    assert api.poll() is None, "the API ended"
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _fuzz(url: str, token: str, options: argparse.Namespace) -> int:
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "--config-file", str(HERE / "schemathesis.toml"),
        "run", f"{url}/openapi.json",
        "--header", f"Authorization: Bearer {token}",
        "--checks", "all",
        "--max-examples", str(options.examples),
        "--seed", str(options.seed),
        "--continue-on-failure",
        "--no-color",
        *(["--max-time", str(options.seconds)] if options.seconds else []),
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "FUZZ_TOKEN": token}
    done = subprocess.run(command, env=environment, cwd=HERE, timeout=LONGEST[options.quick], check=False)
    return done.returncode


def _show_failures(log: Path) -> None:
    """What the server said of requests that it could not answer."""
    for line in log.read_text().splitlines():
        if "api.request_failed" in line:
            print(line)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few examples of each kind, in a minute or two")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int)
    parser.add_argument("--seconds", type=int, help="stop after so many: another seed begins elsewhere")
    options = parser.parse_args()
    options.examples = options.examples or (5 if options.quick else 100)
    return options


if __name__ == "__main__":
    sys.exit(main())
