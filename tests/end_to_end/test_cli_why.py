"""``jobplatform jobs why``."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from jobplatform.queue import (
    NewJob,
    ProgressReport,
    Release,
    WorkerInfo,
    claim_job,
    enqueue_job,
    pause,
    register_worker,
    release_jobs,
    report_progress,
)
from tests.end_to_end.conftest import Cli, as_json


def test_it_says_in_words_what_a_job_waits_for(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    job_id = enqueue_job(session, NewJob(workspace_id=acme, task="sync", queue="sync")).job_id
    pause(session, "queue", "sync", reason="CRM is down", actor="ada")
    session.commit()

    answer = cli("jobs", "why", str(job_id), "-w", "Acme")

    assert answer.exit_code == 0
    for words in (
        f"{job_id} is pending",
        "paused-queue",
        "the queue 'sync' is paused by ada: CRM is down",
        "no worker is alive",
        "0 of 0 slots in use",
        "when it will start is not known",
    ):
        assert words in answer.stdout


def test_it_says_when_a_job_will_probably_start(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    register_worker(session, WorkerInfo("w", "host", 1, "test", ("sync",), ("sync",), 2))
    job_id = enqueue_job(session, NewJob(workspace_id=acme, task="sync", queue="sync")).job_id
    session.commit()

    answer = cli("jobs", "why", str(job_id), "-w", str(acme))
    machine_readable = as_json(cli("jobs", "why", str(job_id), "-w", "Acme", "--json"))

    assert "it will probably start in a moment" in answer.stdout
    assert [blocker["code"] for blocker in machine_readable["blockers"]] == ["behind"]
    assert (machine_readable["status"], machine_readable["position"]) == ("pending", 0)


def test_it_says_that_a_source_asked_for_the_wait_and_in_which_words(
    cli: Cli, acme: uuid.UUID, session: Session
) -> None:
    worker_id = register_worker(session, WorkerInfo("w", "host", 1, "test", ("sync",), ("sync",), 2))
    job_id = enqueue_job(session, NewJob(workspace_id=acme, task="sync", queue="sync")).job_id
    claimed = claim_job(session, worker_id=worker_id, workspace_id=acme, job_id=job_id)
    assert claimed is not None
    report_progress(session, [ProgressReport(claimed.lease, '{"message": "CRM: busy", "waitsFor": "source"}')])
    release_jobs(session, [Release(claimed.lease, delay=3600)])
    session.commit()

    answer = cli("jobs", "why", str(job_id), "-w", "Acme")

    assert "because its source asked for this wait (CRM: busy)" in answer.stdout


def test_a_job_of_nobody_is_told_in_a_sentence(cli: Cli, acme: uuid.UUID) -> None:
    answer = cli("jobs", "why", str(uuid.uuid4()), "-w", "Acme")

    assert answer.exit_code == 1
    assert "is not a job of this workspace" in answer.stderr
