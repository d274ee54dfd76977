from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from jobplatform.cli.demo import _create_tenants
from jobplatform.embedded import EmbeddedServer
from tests.end_to_end.conftest import Running, processes_with

Start = Callable[..., Running]


def ask(url: str, token: str) -> httpx.Response:
    return httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60)


def an_earlier_run_was_here(data_dir: Path) -> None:
    """What one leaves in the database: workspaces of the same names, whose source is gone."""
    server = EmbeddedServer(data_dir)
    try:
        _create_tenants(server.start(), "http://127.0.0.1:9")
    finally:
        server.stop()


def test_the_demo_shows_a_whole_sync_and_what_it_prints_is_so(start: Start, prepared: Path) -> None:
    data_dir = prepared
    an_earlier_run_was_here(data_dir)
    kept = start("demo", "--keep", "--fast")
    kept.wait_for_line("everything is left running")
    output = kept.output
    tokens = re.findall(r"token (jp_\S+)", output)
    (status_url,) = re.findall(r"statusUrl (http\S+)", output)
    (job_id,) = re.findall(r"jobId +(\S+)", output)

    assert re.search(r"POST \S+/sync → 202", output)
    assert re.search(rf"POST \S+/sync → 409\n.*{job_id}", output), "the refusal names the unfinished job"
    assert re.search(r"completed: 1000 of 1000", output)
    assert re.search(r'"totalRecords": 1000', output)
    assert "in jobplatform.records: 1000 (180 companies, 600 contacts, 220 deals)" in output
    assert re.search(rf"{job_id} +sync +completed", output), "the list of recent jobs has it"
    assert re.search(r"GET \S+ → 404", output)

    job = ask(status_url, tokens[0]).json()
    assert (job["status"], job["result"]["totalRecords"], job["result"]["errors"]) == ("completed", 1000, [])
    assert ask(status_url, tokens[1]).status_code == 404
    assert ask(status_url, "jp_nobody").status_code == 401
    assert len(processes_with(data_dir)) >= 5, "command, demo source, API, worker and PostgreSQL are processes"

    printed = re.search(r"Bearer (jp_[^']+)'.* (http\S+/sync)$", output, re.MULTILINE)
    assert printed is not None
    again = httpx.post(
        printed[2], json={}, headers={"Authorization": f"Bearer {printed[1]}"}, trust_env=False, timeout=60
    )
    assert again.status_code == 202, "the printed command starts another sync"

    for pages in ("console", "portal"):
        (address,) = re.findall(rf"^{pages} +(http\S+)", output, re.MULTILINE)
        answer = httpx.get(address, follow_redirects=True, trust_env=False, timeout=60)
        assert (answer.status_code, "Sign in" in answer.text) == (200, True), address

    assert kept.end() == 0
    assert processes_with(data_dir) == []


@pytest.mark.thorough
def test_in_a_terminal_the_demo_draws_a_bar_and_takes_the_database_that_database_url_names(
    start: Start, database_url: str, data_dir: Path
) -> None:
    demo = start("demo", "--fast", terminal=True, DATABASE_URL=database_url, TERM="xterm-256color")

    assert demo.wait() == 0, demo.output
    assert "━━━" in demo.output
    assert "1000/1000" in demo.output
    assert "the one that DATABASE_URL names" in demo.output
    assert not (data_dir / "postgresql").exists(), "the embedded server is never started beside it"
