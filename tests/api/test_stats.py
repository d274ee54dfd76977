"""The numbers, over HTTP: of one's own workspace, or of all for an operator."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session, sessionmaker

from jobplatform.queue import set_rule
from tests.api.conftest import Client, Hand


def enqueue(client: Client, jobs_url: str, count: int) -> list[str]:
    return [client.post(jobs_url, json={"jobType": "echo"}).get_json()["jobId"] for _ in range(count)]


def test_stats_tell_what_there_is_to_do_and_how_it_ended(
    client: Client, jobs_url: str, workspace_id: uuid.UUID, hand: Hand
) -> None:
    done, failed, *_ = enqueue(client, jobs_url, 4)
    hand.complete(workspace_id, done, "1")
    hand.fail(workspace_id, failed)

    stats = client.get("/jobs/stats").get_json()

    assert stats["byStatus"] == {"pending": 2, "running": 0, "completed": 1, "failed": 1, "cancelled": 0}
    assert stats["total"]["failureRate"] == 0.5
    assert [part["name"] for part in stats["tasks"]] == ["echo"]
    assert stats["tasks"][0]["run"]["p50"] >= 0


def test_a_workspace_s_token_sees_its_own_numbers_and_an_operator_s_all(
    client: Client, operator: Client, jobs_url: str, stranger: Client
) -> None:
    enqueue(client, jobs_url, 2)

    assert client.get("/jobs/stats").get_json()["total"]["ready"] == 2
    assert operator.get("/jobs/stats").get_json()["total"]["ready"] == 2
    theirs = stranger.get("/jobs/stats").get_json()
    assert (theirs["total"]["ready"], theirs["queues"], theirs["tasks"]) == (0, [], [])


def test_an_operator_s_threshold_counts_in_every_workspace_s_health(
    client: Client, jobs_url: str, sessions: sessionmaker[Session]
) -> None:
    enqueue(client, jobs_url, 2)
    with sessions.begin() as session:
        set_rule(session, "backlog", above=1)
        set_rule(session, "no_worker", enabled=False)

    answer = client.get("/jobs/health")

    assert answer.status_code == 503
    assert [alert["code"] for alert in answer.get_json()["alerts"]] == ["backlog"]
