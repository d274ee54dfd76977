"""Many clients at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobplatform.models import JobRecord
from tests.api.conftest import Client


def test_of_200_simultaneous_syncs_one_is_accepted_and_the_others_name_it(
    app: Flask, client: Client, sync_url: str, session: Session
) -> None:
    def start(_: int) -> tuple[int, str]:
        answer = Client(app.test_client(), client.token).post(sync_url)
        return answer.status_code, answer.get_json()["jobId"]

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(start, range(200)))

    assert Counter(status for status, _ in answers) == {202: 1, 409: 199}
    assert len({job_id for _, job_id in answers}) == 1
    assert session.scalar(select(func.count()).select_from(JobRecord)) == 1
