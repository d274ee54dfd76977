"""The tasks our worker runs here: one that does nothing, one that says when it was started, one that misbehaves."""

from __future__ import annotations

import collections
import contextlib
import http.client
import itertools
import json
import os
import time
from collections.abc import Callable
from typing import Any

from jobplatform.queue import RateLimited, RetryPolicy, RunningJob, Tasks

tasks = Tasks()


@tasks.task("noop")
def noop(_job: RunningJob, _payload: Any) -> None:
    """The arguments have been decoded by now; there is nothing else to do."""


@tasks.task("stamp")
def stamp(_job: RunningJob, payload: dict[str, Any]) -> dict[str, float]:
    started = time.monotonic()
    time.sleep(payload["ms"] / 1000)
    return {"started": started}


@tasks.task("sync")
def sync(job: RunningJob, _payload: Any) -> Any:
    """Copies what the workspace has connected."""
    # Only here: no other measurement should pay for its imports.
    from jobplatform.connectors import run_sync

    return run_sync(job, mode="initial", allow_private=True)


@tasks.task("ask", retry=RetryPolicy(base=1.5))
def ask(_job: RunningJob, payload: dict[str, Any]) -> None:
    """One request of an API that may say "too often"."""
    connection = http.client.HTTPConnection(*payload["at"], timeout=30)
    try:
        connection.request("GET", "/")
        status = connection.getresponse().status
    finally:
        connection.close()
    if status == 429:
        raise RateLimited


@tasks.task("marked")
def marked(_job: RunningJob, payload: dict[str, Any]) -> None:
    """Writes into a file when it starts and when it ends: what does not end by itself leaves no result."""
    _mark(payload, "start")
    HOW[payload["how"]](payload["ms"] / 1000)
    _mark(payload, "end")


def _mark(payload: dict[str, Any], moment: str) -> None:
    line = json.dumps({"pid": os.getpid(), "key": payload["key"], "moment": moment, "at": time.monotonic()})
    descriptor = os.open(payload["marks"], os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def _burn(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def _loop(_seconds: float) -> None:
    """Until an exception is raised in it, which is what a deadline does first."""
    while True:
        pass


def _swallow(_seconds: float) -> None:
    """Until its process is told to end."""
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)


def _hold(_seconds: float) -> None:
    """In C, without ever letting another thread or a signal handler in."""
    collections.deque(itertools.repeat(0), maxlen=0)


HOW: dict[str, Callable[[float], None]] = {
    "sleep": time.sleep,
    "burn": _burn,
    "loop": _loop,
    "swallow": _swallow,
    "hold": _hold,
}
