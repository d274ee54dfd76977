"""pgqueuer in its fastest configuration: asyncpg, uvloop, batches of 100, its own autovacuum settings."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import uvloop
from pgqueuer import Job, PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode
from protocol import (
    BEFORE_THE_QUIET,
    DATABASE_URL,
    Crowd,
    Stopwatch,
    answer,
    payload,
    ready,
    run,
    stamp,
    ticks,
    wait_for_go,
    wait_for_the_end,
)

BATCH = 100
BULK = 1000


def install() -> None:
    uvloop.run(_install())
    command = Path(sys.executable).parent / "pgq"
    subprocess.run([command, "autovac"], env={**os.environ, "PGDSN": DATABASE_URL}, check=True, capture_output=True)
    answer()


def load(jobs: int, _workspaces: int, size: int) -> None:
    uvloop.run(_load(jobs, size))
    answer()


def enqueue_single(jobs: int, size: int) -> None:
    uvloop.run(_enqueue_single(jobs, size))


def enqueue_bulk(batches: int, batch: int, size: int) -> None:
    uvloop.run(_enqueue_bulk(batches, batch, size))


def drain(jobs: int) -> None:
    uvloop.run(_drain(jobs))


def serve(jobs: int, slots: int) -> None:
    uvloop.run(_serve(jobs, slots))


def feed(jobs: int, rate: int) -> None:
    uvloop.run(_feed(jobs, rate))


def crowd(*numbers: int) -> None:
    uvloop.run(_crowd(Crowd(*numbers)))


async def _install() -> None:
    await (await _queries()).install()


async def _load(jobs: int, size: int) -> None:
    queries = await _queries()
    for start in range(0, jobs, BULK):
        await _enqueue_many(queries, "noop", [_encoded(payload(size))] * min(BULK, jobs - start))


async def _enqueue_single(jobs: int, size: int) -> None:
    queries, body = await _queries(), _encoded(payload(size))
    await queries.enqueue("noop", body)
    with Stopwatch() as watch:
        for _ in range(jobs):
            await queries.enqueue("noop", body)
    answer(jobs=jobs, seconds=watch.seconds)


async def _enqueue_bulk(batches: int, batch: int, size: int) -> None:
    queries, bodies = await _queries(), [_encoded(payload(size))] * batch
    await _enqueue_many(queries, "noop", bodies)
    with Stopwatch() as watch:
        for _ in range(batches):
            await _enqueue_many(queries, "noop", bodies)
    answer(jobs=batches * batch, seconds=watch.seconds)


async def _drain(jobs: int) -> None:
    worker = PgQueuer(AsyncpgDriver(await asyncpg.connect(DATABASE_URL)))

    @worker.entrypoint("noop")
    async def noop(job: Job) -> None:
        json.loads(job.payload or b"null")

    ready()
    wait_for_go()
    with Stopwatch() as watch:
        await worker.run(batch_size=BATCH, mode=QueueExecutionMode.drain)
    answer(jobs=jobs, seconds=watch.seconds)
    wait_for_the_end()


async def _serve(jobs: int, slots: int) -> None:
    worker = PgQueuer(AsyncpgDriver(await asyncpg.connect(DATABASE_URL)))
    started: dict[str, float] = {}
    ended = 0

    @worker.entrypoint("stamp")
    async def run_stamp(job: Job) -> None:
        nonlocal ended
        arguments = json.loads(job.payload or b"null")
        started[arguments["key"]] = time.monotonic()
        await asyncio.sleep(arguments["ms"] / 1000)
        ended += 1
        if ended == jobs:
            answer(started=started)

    ready()
    # It refuses a limit below two batches.
    await worker.run(batch_size=max(1, slots // 2) if slots else BATCH, max_concurrent_tasks=slots or None)


async def _feed(jobs: int, rate: int) -> None:
    queries, committed = await _queries(), {}
    for number, pause in ticks(jobs, rate):
        await asyncio.sleep(pause)
        await queries.enqueue("stamp", _encoded(stamp(str(number))))
        committed[str(number)] = time.monotonic()
    answer(committed=committed)
    wait_for_the_end()


async def _crowd(crowd: Crowd) -> None:
    """pgqueuer knows no workspaces: the noisy and the quiet jobs wait in the same line."""
    queries, committed = await _queries(), {}
    bodies = [_encoded(arguments) for _, _, arguments in crowd.noisy]
    for start in range(0, len(bodies), BULK):
        await _enqueue_many(queries, "stamp", bodies[start : start + BULK])
    await asyncio.sleep(BEFORE_THE_QUIET)
    for owner, arguments in crowd.quiet.items():
        await _enqueue_many(queries, "stamp", [_encoded(each) for each in arguments])
        committed[owner] = time.monotonic()
    answer(committed=committed)
    wait_for_the_end()


async def _queries() -> Queries:
    return Queries(AsyncpgDriver(await asyncpg.connect(DATABASE_URL)))


async def _enqueue_many(queries: Queries, entrypoint: str, bodies: list[bytes]) -> None:
    await queries.enqueue([entrypoint] * len(bodies), list(bodies), [0] * len(bodies))


def _encoded(arguments: dict[str, Any]) -> bytes:
    return json.dumps(arguments).encode()


if __name__ == "__main__":
    actions = (install, load, enqueue_single, enqueue_bulk, drain, serve, feed, crowd)
    run({action.__name__: action for action in actions})
