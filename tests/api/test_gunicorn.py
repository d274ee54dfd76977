"""The real server over real HTTP."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from flask import Flask

from jobplatform.api import wsgi
from jobplatform.embedded import EmbeddedServer
from jobplatform.testing import wait_until
from tests.api.conftest import MintToken

ROOT = Path(__file__).parents[2]


@contextmanager
def serve(application: str, database_url: str, folder: Path) -> Iterator[httpx.Client]:
    """Run gunicorn on a Unix socket of its own until the block ends."""
    path = folder / "http.sock"
    environ = {
        **os.environ,
        "DATABASE_URL": database_url,
        "JOBPLATFORM_TASKS": "tests.api.example_tasks:tasks",
        "PYTHONPATH": str(ROOT),
    }
    options = ["--bind", f"unix:{path}", "--threads", "4", "--no-control-socket"]
    command = [sys.executable, "-m", "gunicorn", *options, application]
    process = subprocess.Popen(command, cwd=ROOT, env=environ)
    transport = httpx.HTTPTransport(uds=str(path))
    try:
        with httpx.Client(transport=transport, base_url="http://localhost", timeout=30) as client:
            wait_until(lambda: _listens(path, process), what="gunicorn to listen")
            assert client.get("/readyz").status_code == 200
            yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


def _listens(path: Path, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "gunicorn ended"
    with socket.socket(socket.AF_UNIX) as attempt:
        return bool(attempt.connect_ex(str(path)) == 0)


@pytest.mark.parametrize("application", ["wsgi:app", "jobplatform.api.wsgi:app"])
def test_gunicorn_serves_the_api(
    application: str, database_url: str, mint: MintToken, workspace_id: uuid.UUID, tmp_path: Path
) -> None:
    headers = {"Authorization": f"Bearer {mint(workspace_id)}"}
    with serve(application, database_url, tmp_path) as client:
        sync = f"/api/workspaces/{workspace_id}/sync"

        started = client.post(sync, json={"mode": "initial"}, headers=headers)
        again = client.post(sync, headers=headers)
        status = client.get(started.headers["Location"], headers=headers)
        cached = client.get(started.headers["Location"], headers={**headers, "If-None-Match": status.headers["ETag"]})
        oversized = client.post(sync, content=_chunks(), headers={**headers, "Content-Type": "application/json"})
        odd = client.request("BREW", sync, headers=headers)
        refused = client.get(f"/workspaces/{uuid.uuid4()}/jobs", headers=headers)

    assert (started.status_code, again.status_code, status.status_code) == (202, 409, 200)
    assert again.json()["jobId"] == started.json()["jobId"] == status.json()["id"]
    assert (cached.status_code, cached.content) == (304, b"")
    assert oversized.status_code == 413, oversized.text
    assert (oversized.status_code, odd.status_code, refused.status_code) == (413, 405, 404)
    assert {answer.headers["Content-Type"] for answer in (again, oversized, odd, refused)} == {
        "application/problem+json"
    }


def test_flask_finds_the_application(database_url: str) -> None:
    environ = {**os.environ, "DATABASE_URL": database_url, "JOBPLATFORM_TASKS": "tests.api.example_tasks:tasks"}
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "routes"]

    listed = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True, timeout=60)

    assert "/workspaces/<uuid:workspaceId>/sync" in listed.stdout


@pytest.mark.thorough
def test_without_a_database_url_the_embedded_database_is_used(server: EmbeddedServer) -> None:
    environ = {**os.environ, "JOBPLATFORM_DATA_DIR": str(server.data_dir)}
    ask = (
        "from jobplatform.api import create_app; app = create_app(); print(app.test_client().get('/readyz').text);"
        "app.extensions['jobplatform.engine'].dispose()"
    )

    asked = subprocess.run(
        [sys.executable, "-c", ask], cwd=ROOT, env=environ, capture_output=True, text=True, check=True, timeout=60
    )

    assert "schema-not-migrated" in asked.stdout
    assert server.running


def test_importing_the_package_s_wsgi_module_starts_nothing() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environ["JOBPLATFORM_PORT"] = "not a port"

    subprocess.run([sys.executable, "-c", "import jobplatform.api.wsgi"], env=environ, check=True, timeout=60)


def test_the_collector_of_a_serving_process_leaves_alone_what_is_there_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = Flask("built")
    monkeypatch.setattr(wsgi, "create_app", lambda: built)
    threshold = gc.get_threshold()

    try:
        gc.set_threshold(700, *threshold[1:])
        wsgi._application.cache_clear()
        app = wsgi.app
        frozen, after = gc.get_freeze_count(), gc.get_threshold()[0]
    finally:
        wsgi._application.cache_clear()
        gc.unfreeze()
        gc.set_threshold(*threshold)

    assert app is built
    assert frozen > 10_000
    assert after > 700


def _chunks() -> Iterator[bytes]:
    """A body that does not announce its length."""
    yield b'{"mode": "'
    for _ in range(32):
        yield b"x" * 65_536
    yield b'"}'
