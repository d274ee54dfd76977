"""procrastinate on psycopg 3: asynchronous tasks in one worker process, LISTEN on."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import procrastinate
from procrastinate import types
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

CONCURRENCY = 20
BULK = 1000

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=DATABASE_URL, min_size=2, max_size=10))
started: dict[str, float] = {}
expected = 0
ended = 0


@app.task(name="noop")
async def noop(**arguments: Any) -> None:
    """The arguments have been decoded by now; there is nothing else to do."""


@app.task(name="stamp")
async def run_stamp(key: str, ms: int) -> None:
    global ended  # noqa: PLW0603 - a task is a plain function here, and has nowhere else to count
    started[key] = time.monotonic()
    await asyncio.sleep(ms / 1000)
    ended += 1
    if ended == expected:
        answer(started=started)


def install() -> None:
    with app.open() as opened:
        opened.schema_manager.apply_schema()
    answer()


def load(jobs: int, _workspaces: int, size: int) -> None:
    with app.open():
        for start in range(0, jobs, BULK):
            noop.batch_defer(*[payload(size)] * min(BULK, jobs - start))
    answer()


def enqueue_single(jobs: int, size: int) -> None:
    with app.open():
        noop.defer(**payload(size))
        with Stopwatch() as watch:
            for _ in range(jobs):
                noop.defer(**payload(size))
    answer(jobs=jobs, seconds=watch.seconds)


def enqueue_bulk(batches: int, batch: int, size: int) -> None:
    with app.open():
        noop.batch_defer(*[payload(size)] * batch)
        with Stopwatch() as watch:
            for _ in range(batches):
                noop.batch_defer(*[payload(size)] * batch)
    answer(jobs=batches * batch, seconds=watch.seconds)


def drain(jobs: int) -> None:
    asyncio.run(_drain(jobs))


def serve(jobs: int, slots: int) -> None:
    global expected  # noqa: PLW0603
    expected = jobs
    asyncio.run(_serve(slots))


def feed(jobs: int, rate: int) -> None:
    committed = {}
    with app.open():
        for number, pause in ticks(jobs, rate):
            time.sleep(pause)
            run_stamp.defer(**stamp(str(number)))
            committed[str(number)] = time.monotonic()
    answer(committed=committed)
    wait_for_the_end()


def crowd(*numbers: int) -> None:
    """procrastinate knows no workspaces: the noisy and the quiet jobs wait in the same line."""
    crowd, committed = Crowd(*numbers), {}
    bodies: list[types.JSONDict] = [arguments for _, _, arguments in crowd.noisy]
    with app.open():
        for start in range(0, len(bodies), BULK):
            run_stamp.batch_defer(*bodies[start : start + BULK])
        time.sleep(BEFORE_THE_QUIET)
        for owner, arguments in crowd.quiet.items():
            run_stamp.batch_defer(*arguments)
            committed[owner] = time.monotonic()
    answer(committed=committed)
    wait_for_the_end()


async def _drain(jobs: int) -> None:
    async with app.open_async():
        ready()
        await asyncio.to_thread(wait_for_go)
        with Stopwatch() as watch:
            await app.run_worker_async(wait=False, concurrency=CONCURRENCY, install_signal_handlers=False)
        answer(jobs=jobs, seconds=watch.seconds)
        wait_for_the_end()


async def _serve(slots: int) -> None:
    async with app.open_async():
        ready()
        await app.run_worker_async(concurrency=slots or CONCURRENCY)


if __name__ == "__main__":
    actions = (install, load, enqueue_single, enqueue_bulk, drain, serve, feed, crowd)
    run({action.__name__: action for action in actions})
