"""A task that asks an API which takes a number of requests at a time, and says "too often" to any more."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from jobplatform.queue import Adaptive, RateLimited, RetryPolicy, RunningJob, Tasks

LEAST, MOST = 1, 12

tasks = Tasks()


@dataclass(frozen=True)
class Asking:
    account: int
    port: int


@tasks.task(
    "ask",
    resource="api:{account}",
    limit_per_resource=Adaptive(LEAST, MOST),
    retry=RetryPolicy(base=0.05, jitter="full"),
)
def ask(_job: RunningJob, payload: Asking) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", payload.port, timeout=30)
    try:
        connection.request("GET", "/")
        status = connection.getresponse().status
    finally:
        connection.close()
    if status == http.HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimited
