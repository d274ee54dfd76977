"""Asking again: a source that is busy when it said, one that fails for a moment after growing pauses.

What is still wrong after that is the connection's failure, and a source that is still busy has the job wait: that
takes no slot of the worker, and waiting here does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import backoff

from jobplatform.connectors.asking import SourceClient, pause_of, says_too_often
from jobplatform.connectors.keeping import Rate
from jobplatform.connectors.outside import Answer
from jobplatform.errors import SourceAnswerError, SourceBusyError, SourceUnreachableError

log = logging.getLogger(__name__)

MOST_TRIES = 6
#: Seconds for all tries of one request.
LONGEST_TRYING = 120.0
#: A source that wants a longer pause than this has the job wait.
LONGEST_PAUSE = 60.0

#: Raises what an answer means, unless it is a good one.
Judge = Callable[[Answer], None]


def judge_http(answer: Answer) -> None:
    """What an answer means in HTTP, where nothing else is known of a source."""
    status, url = answer.status, answer.url
    if says_too_often(answer):
        raise SourceBusyError(f"{url} is busy (HTTP {status})", pause_of(answer))
    if status >= 500:
        raise SourceUnreachableError(f"{url} failed (HTTP {status})")
    if status == 401:
        # Those that a connection has are judged where they are sent.
        raise SourceAnswerError(f"{url} refused (HTTP 401): it wants credentials; give the connection some", status)
    if status != 200:
        raise SourceAnswerError(f"{url} refused (HTTP {status})", status)


def _tell(details: Any) -> None:
    log.info(
        "source asks for patience",
        extra={"tries": details["tries"], "wait_seconds": details["wait"], "reason": str(details["exception"])},
    )


def _pause(error: Any) -> float:
    """The pause that a :class:`SourceBusyError` asks for."""
    return float(error.retry_after)


class Asker:
    """Asks until there is a good answer, or none to be had. Without ``patient`` it asks once."""

    def __init__(self, client: SourceClient, *, judge: Judge = judge_http, patient: bool = True) -> None:
        self.client = client
        self._judge = judge
        self._patient = patient
        self.last: Answer | None = None
        """The last good answer: what is in its headers is not in what is made of it."""

    def get(self, url: str, params: Mapping[str, str]) -> Answer:
        return self.ask("GET", url, params=params)

    def post(self, url: str, body: Any, *, resource: str | None = None, rate: Rate | None = None) -> Answer:
        """Send JSON. ``resource`` and ``rate`` are of this kind of request, besides the account's."""
        headers = {"Content-Type": "application/json"}
        content = json.dumps(body).encode()
        return self.ask("POST", url, headers=headers, content=content, resource=resource, rate=rate)

    def ask(self, method: str, url: str, **request: Any) -> Answer:
        """As :meth:`SourceClient.request` does, and again. Raises what the judge does."""
        return (self._ask_patiently if self._patient else self._ask)(method, url, request)

    @backoff.on_exception(
        backoff.runtime,
        SourceBusyError,
        value=_pause,
        jitter=None,
        max_tries=MOST_TRIES,
        max_time=LONGEST_TRYING,
        giveup=lambda error: _pause(error) > LONGEST_PAUSE,
        on_backoff=_tell,
        logger=None,
    )
    @backoff.on_exception(
        backoff.expo,
        SourceUnreachableError,
        factor=0.5,
        max_value=10,
        max_tries=MOST_TRIES,
        max_time=LONGEST_TRYING,
        on_backoff=_tell,
        logger=None,
    )
    def _ask_patiently(self, method: str, url: str, request: Mapping[str, Any]) -> Answer:
        return self._ask(method, url, request)

    def _ask(self, method: str, url: str, request: Mapping[str, Any]) -> Answer:
        answer = self.client.request(method, url, **request)
        self._judge(answer)
        self.last = answer
        return answer


class AskedSource:
    """An open connection to what is asked over HTTP: the client of its ``asker`` is closed at the end of the block."""

    asker: Asker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.asker.client.close()
