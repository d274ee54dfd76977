"""What a handler leaves behind in its process, and what the next job of that process finds."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobplatform.worker.surroundings import TIMERS, Surroundings
from tests.worker.conftest import Database, StartWorker
from tests.worker.processes import ROOT


@pytest.mark.parametrize("long", [True, False])
def test_a_job_finds_its_process_as_the_first_one_found_it(
    start_worker: StartWorker, database: Database, tmp_path: Path, long: bool
) -> None:
    """Also one of those that a child is given many at a time, if the one before took longer than next to nothing."""
    elsewhere = {"to": str(tmp_path), "seconds": 3600, "long": long}
    start_worker(slots=1)

    if long:
        jobs = database.enqueue_many("move", [elsewhere] * 50)
        database.wait_until_done()
    else:
        jobs = []
        for _ in range(3):
            jobs.append(database.enqueue("move", elsewhere))
            database.wait_until_done()

    found = [database.job(job).result for job in jobs]
    assert len({one["pid"] for one in found}) == 1
    assert {(one["folder"], one["umask"], one["alarm"]) for one in found} == {(str(ROOT), found[0]["umask"], False)}
    assert found[0]["umask"] != 0o777


def test_an_alarm_that_a_handler_left_behind_ends_nobody(
    start_worker: StartWorker, database: Database, tmp_path: Path
) -> None:
    worker = start_worker(slots=1)
    children = worker.children()
    database.enqueue("move", {"to": str(tmp_path), "seconds": 0.2, "long": True})

    job = database.enqueue("sleep", {"seconds": 0.5})
    database.wait_for_status(job, "completed")

    assert worker.children() == children


@pytest.fixture
def folder() -> Iterator[str]:
    """Where this process is, and will be."""
    here, umask = os.getcwd(), os.umask(0o022)
    os.umask(umask)
    yield here
    os.chdir(here)
    os.umask(umask)


def test_a_folder_that_was_deleted_is_gone_back_to_all_the_same(folder: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    surroundings = Surroundings()
    gone.rmdir()
    os.chdir(folder)

    surroundings.put_back()

    with pytest.raises(FileNotFoundError):
        os.getcwd()


def test_who_has_closed_every_file_keeps_its_folder_and_loses_its_timers(folder: str, tmp_path: Path) -> None:
    surroundings = Surroundings()
    os.close(surroundings._folder)
    os.chdir(tmp_path)
    for timer in TIMERS:
        signal.setitimer(timer, 3600)

    surroundings.put_back()

    assert os.getcwd() == str(tmp_path)
    assert [signal.getitimer(timer) for timer in TIMERS] == [(0.0, 0.0)] * len(TIMERS)
