"""The page that Prometheus reads from an API."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from flask import Flask

from jobplatform.api.kept_levels import KeptLevels
from jobplatform.queue import Levels
from jobplatform.testing import wait_until
from tests.api.conftest import Client, MintToken
from tests.api.servers import Server
from tests.numbers import read_numbers


def test_an_operator_reads_what_was_enqueued_and_what_is_live(operator: Client, client: Client, jobs_url: str) -> None:
    before = read_numbers(operator.get("/metrics").text)
    for unique in ("a", "b", "b"):
        client.post(jobs_url, json={"jobType": "echo", "uniqueKey": unique})
    client.post(jobs_url, json={"jobType": "echo", "queue": "made-up-by-a-tenant"})

    answer = operator.get("/metrics")
    after = read_numbers(answer.text)

    def more(*name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert more("jobs_enqueued_total", "default", "echo") == 2
    assert more("jobs_enqueued_total", "other", "echo") == 1
    assert more("guard_conflicts_total", "default", "echo") == 1
    assert ("jobs", "default", "ready") in after
    assert ("oldest_runnable_seconds", "default") in after
    assert after[("workers_online",)] == 0
    assert "made-up" not in answer.text


def test_the_page_is_closed_to_everybody_else(nobody: Client, client: Client) -> None:
    assert (nobody.get("/metrics").status_code, client.get("/metrics").status_code) == (401, 403)


def test_no_workspace_is_on_the_page(operator: Client, client: Client, jobs_url: str, workspace_id: uuid.UUID) -> None:
    client.post(jobs_url, json={"jobType": "echo"})

    assert str(workspace_id) not in operator.get("/metrics").text


def test_however_often_somebody_asks_the_database_is_asked_for_a_twentieth_of_the_time() -> None:
    now, measured = 0.0, 0

    def measure() -> Levels:
        nonlocal now, measured
        now, measured = now + 2.0, measured + 1
        return Levels({}, {}, measured)

    kept = KeptLevels(lambda: now)
    assert kept.get(measure).workers == 1
    now += 39.0
    assert kept.get(measure).workers == 1
    now += 1.0
    assert kept.get(measure).workers == 2


def test_a_host_s_own_page_has_the_counters_too(app: Flask, client: Client, jobs_url: str) -> None:
    from prometheus_client import generate_latest

    client.post(jobs_url, json={"jobType": "echo"})

    assert ("jobs_enqueued_total", "default", "echo") in read_numbers(generate_latest().decode())


@pytest.fixture
def counters(tmp_path: Path) -> Path:
    folder = tmp_path / "counters"
    folder.mkdir()
    return folder


@pytest.fixture
def two_processes(database_url: str, tmp_path: Path, counters: Path) -> Iterator[Server]:
    started = Server(database_url, tmp_path, "--workers", "2", "--threads", "4", PROMETHEUS_MULTIPROC_DIR=str(counters))
    started.start()
    yield started
    started.destroy()


def test_whichever_process_answers_it_knows_what_all_have_counted(
    two_processes: Server, counters: Path, mint: MintToken, workspace_id: uuid.UUID
) -> None:
    writer = {"Authorization": f"Bearer {mint(workspace_id)}"}
    reader = {"Authorization": f"Bearer {mint(None, ('operator',))}"}
    made = 0

    def enqueue(_number: int) -> None:
        # A connection of its own each time: whichever process is free takes it.
        url = f"{two_processes.url}/workspaces/{workspace_id}/jobs"
        assert httpx.post(url, json={"jobType": "talk"}, headers=writer, timeout=30).status_code == 202

    def both_have_counted() -> bool:
        nonlocal made
        with ThreadPoolExecutor(8) as pool:
            made += len(list(pool.map(enqueue, range(8))))
        return len(list(counters.glob("counter_*.db"))) == 2

    wait_until(both_have_counted, what="both processes to have enqueued something")
    pages = [
        read_numbers(httpx.get(f"{two_processes.url}/metrics", headers=reader, timeout=30).text) for _ in range(10)
    ]

    assert {page["jobs_enqueued_total", "default", "talk"] for page in pages} == {made}
