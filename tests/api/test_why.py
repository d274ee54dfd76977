"""GET …/why: what is in a job's way, for its workspace's people and for operators."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.models import QueueLimits, WorkspaceLimits
from jobplatform.queue import (
    NewJob,
    ProgressReport,
    Release,
    WorkerInfo,
    enqueue_jobs,
    pause,
    register_worker,
    release_jobs,
    report_progress,
)
from tests.api.conftest import PROBLEM, Client, Hand, MintToken
from tests.api.test_document import document

Echo = Callable[..., str]


@pytest.fixture
def worker(sessions: sessionmaker[Session]) -> int:
    with sessions.begin() as session:
        return register_worker(session, WorkerInfo("w", "secret-host", 1, "v", ("default",), ("echo",), 2))


def ask(client: Client, url: str, job_id: str) -> Any:
    answer = client.get(f"{url}/{job_id}/why")
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def codes(why: Any) -> list[str]:
    return [blocker["code"] for blocker in why["blockers"]]


def others_wait(sessions: sessionmaker[Session], workspace_id: uuid.UUID, count: int) -> None:
    with sessions.begin() as session:
        enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="echo") for _ in range(count)])


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_a_job_in_line_says_where_it_stands(
    client: Client, echo: Echo, jobs_url: str, worker: int, prefix: str
) -> None:
    echo()
    job_id = echo()

    why = ask(client, prefix + jobs_url, job_id)

    assert (why["jobId"], why["status"], codes(why), why["position"]) == (job_id, "pending", ["behind"], 1)
    assert why["ahead"] == {"ownJobs": 1, "otherJobs": 0, "otherWorkspaces": 0, "slots": 2, "slotsInUse": 0}
    assert why["blockers"][0]["slots"] == 2


def test_a_job_that_is_due_later_says_when(client: Client, echo: Echo, jobs_url: str, worker: int) -> None:
    job_id = echo(runAfter="2099-01-01T00:00:00Z")

    why = ask(client, jobs_url, job_id)

    assert (codes(why), why["position"], why["ahead"]) == (["scheduled"], None, None)
    assert why["blockers"][0]["until"] == "2099-01-01T00:00:00.000000Z"


def test_a_job_whose_source_asked_for_the_wait_says_so(
    client: Client, echo: Echo, jobs_url: str, worker: int, hand: Hand, sessions: sessionmaker[Session]
) -> None:
    job_id = echo()
    lease = hand.claim(uuid.UUID(jobs_url.split("/")[2]), job_id)
    with sessions.begin() as session:
        report_progress(session, [ProgressReport(lease, '{"message": "CRM: busy", "waitsFor": "source"}')])
        release_jobs(session, [Release(lease, delay=3600)])

    (blocker,) = ask(client, jobs_url, job_id)["blockers"]

    assert (blocker["code"], blocker["waitsFor"], blocker["reason"]) == ("scheduled", "source", "CRM: busy")
    assert "because its source asked for this wait (CRM: busy)" in blocker["message"]


def test_a_job_that_ran_names_no_estimate(client: Client, echo: Echo, jobs_url: str, hand: Hand) -> None:
    job_id = echo()
    hand.complete(uuid.UUID(jobs_url.split("/")[2]), job_id)

    why = ask(client, jobs_url, job_id)

    assert (why["status"], codes(why), why["estimatedStartAt"]) == ("completed", ["final"], None)


def test_what_every_workspace_does_is_counted_although_a_token_sees_only_its_own(
    client: Client,
    echo: Echo,
    jobs_url: str,
    worker: int,
    hand: Hand,
    sessions: sessionmaker[Session],
    other_workspace: uuid.UUID,
) -> None:
    others_wait(sessions, other_workspace, 3)
    job_id = echo()
    with sessions.begin() as session:
        session.execute(insert(QueueLimits).values(queue="default", max_running=1))
    held = ask(client, jobs_url, job_id)
    with sessions() as session:
        theirs = session.connection().exec_driver_sql(
            "select id::text from jobplatform.job_queue where workspace_id = %(id)s limit 1", {"id": other_workspace}
        )
        hand.claim(other_workspace, theirs.scalar_one())

    full = ask(client, jobs_url, job_id)

    assert (codes(held), held["ahead"]["otherWorkspaces"]) == (["behind"], 1)
    assert (codes(full), full["blockers"][0]["running"]) == (["queue-limit"], 1)


def test_an_answer_has_nothing_of_other_workspaces_but_counts(
    client: Client,
    operator: Client,
    echo: Echo,
    jobs_url: str,
    worker: int,
    sessions: sessionmaker[Session],
    other_workspace: uuid.UUID,
) -> None:
    others_wait(sessions, other_workspace, 3)
    job_id = echo()

    for reader in (client, operator):
        told = reader.get(f"{jobs_url}/{job_id}/why").text
        assert str(other_workspace) not in told
        assert "secret-host" not in told


def test_who_paused_a_queue_and_why_is_for_operators(
    client: Client, operator: Client, echo: Echo, jobs_url: str, worker: int, sessions: sessionmaker[Session]
) -> None:
    job_id = echo()
    with sessions.begin() as session:
        pause(session, "queue", "default", reason="Acme floods it", actor="Olga")

    tenant, full = ask(client, jobs_url, job_id), ask(operator, jobs_url, job_id)

    assert codes(tenant) == codes(full) == ["paused-queue"]
    assert (tenant["blockers"][0]["actor"], tenant["blockers"][0]["reason"]) == ("an operator", None)
    assert "Acme" not in str(tenant)
    assert "Olga" not in str(tenant)
    assert (full["blockers"][0]["actor"], full["blockers"][0]["reason"]) == ("Olga", "Acme floods it")


def test_who_paused_their_workspace_and_why_is_for_its_people_too(
    client: Client, echo: Echo, jobs_url: str, worker: int, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    job_id = echo()
    with sessions.begin() as session:
        pause(session, "workspace", str(workspace_id), reason="unpaid", actor="ada")

    (blocker,) = ask(client, jobs_url, job_id)["blockers"]

    assert (blocker["code"], blocker["actor"], blocker["reason"]) == ("paused-workspace", "ada", "unpaid")


def test_a_refused_retry_and_a_refused_enqueue_use_the_same_words(
    client: Client, echo: Echo, jobs_url: str, hand: Hand, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    job_id = echo()
    hand.fail(workspace_id, job_id)
    echo()
    with sessions.begin() as session:
        session.execute(insert(WorkspaceLimits).values(workspace_id=workspace_id, max_pending=1))

    refused = client.post(jobs_url, json={"jobType": "echo"}).get_json()
    why = ask(client, jobs_url, job_id)

    assert codes(why) == ["final", "quota"]
    assert why["blockers"][1]["limit"] == refused["limit"] == 1
    words = "the workspace may have 1 waiting job and has no room for more"
    assert words in why["blockers"][1]["message"].lower()
    assert words in refused["detail"].lower()


def test_what_is_no_job_of_this_workspace_is_not_found(
    client: Client, stranger: Client, echo: Echo, jobs_url: str
) -> None:
    job_id = echo()

    for reader, wanted in ((client, str(uuid.uuid4())), (stranger, job_id), (client, "no-uuid")):
        answer = reader.get(f"{jobs_url}/{wanted}/why")
        assert (answer.status_code, answer.content_type) == (404, PROBLEM)


def test_looking_at_jobs_is_what_a_token_needs_to_be_for(
    app: Flask, mint: MintToken, workspace_id: uuid.UUID, echo: Echo, jobs_url: str
) -> None:
    job_id = echo()
    writer = Client(app.test_client(), mint(workspace_id, ("jobs:write",)))

    assert writer.get(f"{jobs_url}/{job_id}/why").status_code == 403


def test_the_document_shows_examples_that_its_schema_allows(nobody: Client) -> None:
    described = document(nobody)
    answer = described["paths"]["/workspaces/{workspaceId}/jobs/{jobId}/why"]["get"]["responses"]["200"]
    examples = answer["content"]["application/json"]["examples"]
    schemas = described["components"]["schemas"]

    for example in examples.values():
        assert set(example["value"]) == set(schemas["Why"]["properties"])
        for blocker in example["value"]["blockers"]:
            assert set(blocker) <= set(schemas["Blocker"]["properties"])
            assert blocker["code"] in schemas["Blocker"]["properties"]["code"]["enum"]
