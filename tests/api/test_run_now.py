"""Run a job now, and drain a worker, over HTTP."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from tests.api.conftest import PROBLEM, Client, Hand


def test_a_job_that_was_to_run_later_is_ready_and_what_is_not_waiting_is_refused(
    client: Client, stranger: Client, echo: Callable[..., str], jobs_url: str, sessions: sessionmaker[Session]
) -> None:
    job_id = echo(delayMs=3_600_000)

    assert stranger.post(f"{jobs_url}/{job_id}/run-now").status_code == 404
    hastened = client.post(f"{jobs_url}/{job_id}/run-now")
    again = client.post(f"{jobs_url}/{job_id}/run-now")

    assert (hastened.status_code, hastened.get_json()["status"]) == (200, "pending")
    assert again.status_code == 200
    with sessions() as session:
        assert session.scalar(text("select state from jobplatform.job_queue")) == 1
        of_this = text("select action, target from jobplatform.audit_log where action <> 'job.enqueue'")
        audited = session.execute(of_this).all()
    assert [tuple(line) for line in audited] == [("job.run_now", f"job:{job_id}")] * 2


def test_a_job_that_has_ended_cannot_be_run_now(client: Client, echo: Callable[..., str], jobs_url: str) -> None:
    job_id = echo()
    client.post(f"{jobs_url}/{job_id}/cancel")

    answer = client.post(f"{jobs_url}/{job_id}/run-now")

    assert (answer.status_code, answer.mimetype) == (409, PROBLEM)
    assert answer.get_json()["detail"] == "The job is cancelled and cannot be run now."


def test_a_worker_is_told_to_drain_once_it_is_known(
    operator: Client, client: Client, hand: Hand, sessions: sessionmaker[Session]
) -> None:
    assert client.post(f"/operator/workers/{hand.worker_id}/drain").status_code == 403
    assert operator.post(f"/operator/workers/{hand.worker_id}/drain").get_json()["drainRequested"] is True
    for nobody in (hand.worker_id + 1, 2**31, 10**20):
        assert operator.post(f"/operator/workers/{nobody}/drain").status_code == 404

    with sessions() as session:
        assert session.scalar(text("select drain_requested_at is not null from jobplatform.workers"))
        assert session.scalar(text("select count(*) from jobplatform.audit_log where action = 'worker.drain'")) == 1
