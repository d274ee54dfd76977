"""How a worker starts, and what keeps it from starting."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from jobplatform.embedded import EmbeddedServer
from jobplatform.errors import SettingsError
from jobplatform.migrations import upgrade
from jobplatform.models import Role, make_engine
from jobplatform.settings import Settings
from jobplatform.testing import WorkerProcess, is_dead, wait_until
from jobplatform.worker import Worker, WorkerOptions
from tests.worker.conftest import Database, Lines, StartWorker
from tests.worker.processes import ROOT, command_of


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import no_such_module_anywhere", "no_such_module_anywhere"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit('not today')", "not today"),
        ("tasks = 3", "is a int, not a Tasks"),
        ("", "has no attribute 'tasks'"),
    ],
)
def test_tasks_that_cannot_be_imported_stop_the_start_and_say_why(
    start_worker: StartWorker,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    said: str,
) -> None:
    (tmp_path / "broken_tasks.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    worker = start_worker(ready=False, tasks="broken_tasks:tasks")

    assert worker.wait() == 1
    last = worker.log.read_text()
    assert last.count("the configuration has 1 problem:") == 1
    assert said in last
    assert "nursery died" not in last
    assert database.rows("select count(*) from jobplatform.workers") == [(0,)]


@pytest.mark.thorough
def test_a_worker_registers_only_when_every_slot_is_ready(
    start_worker_anew: StartWorker, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path / "gate"
    (tmp_path / "slow_tasks.py").write_text(
        textwrap.dedent(f"""
        import pathlib, threading
        from jobplatform.queue import Tasks
        tasks = Tasks()
        pathlib.Path({str(tmp_path / "importing")!r}).touch()
        while not pathlib.Path({str(gate)!r}).exists():
            threading.Event().wait(0.01)
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    worker = start_worker_anew(ready=False, tasks="slow_tasks:tasks")
    wait_until((tmp_path / "importing").exists, what="the import to begin")
    assert database.rows("select count(*) from jobplatform.workers") == [(0,)]
    gate.touch()

    worker.wait_for("worker ready")
    assert database.rows("select pid, slots from jobplatform.workers") == [(worker.pid, 2)]
    assert len(worker.children()) == 2


def test_only_the_nursery_imports_the_handlers(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "telling_tasks.py").write_text(
        f"from tests.worker.handlers import append, tasks\nimport os\nappend({told.path!r}, os.getpid())"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    worker = start_worker(tasks="telling_tasks:tasks", max_jobs_per_child=1)
    database.enqueue_many("noop", [{}] * 5)
    database.wait_until_done()

    assert told.read() == [str(worker.nursery)]


def test_what_alembic_says_of_itself_when_the_tasks_are_imported_is_not_logged(
    start_worker: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "migrating_tasks.py").write_text(
        textwrap.dedent("""
        import logging
        from tests.worker.handlers import tasks
        logging.getLogger("alembic.runtime.plugins").info("a plug-in is there")
        logging.getLogger("shop").info("the tasks are imported")
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    worker = start_worker(tasks="migrating_tasks:tasks")

    assert "the tasks are imported" in worker.log.read_text()
    assert "a plug-in is there" not in worker.log.read_text()


@pytest.mark.thorough
def test_a_worker_that_is_told_to_stop_while_it_starts_stops(
    start_worker_anew: StartWorker, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "endless_tasks.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(300)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = start_worker_anew(ready=False, tasks="endless_tasks:tasks")
    wait_until(lambda: "importing" in worker.log.read_text(), what="the import to begin")
    family = worker.descendants()

    assert worker.stop() == 0

    assert all(map(is_dead, family))


@pytest.mark.thorough
def test_children_that_die_before_they_are_ready_do_not_end_the_worker(
    start_worker: StartWorker, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    (tmp_path / "fragile_tasks.py").write_text(
        textwrap.dedent(f"""
        import os, pathlib
        from jobplatform.queue import RunningJob, Tasks
        tasks = Tasks()
        @tasks.task("noop")
        def noop(job: RunningJob, payload: dict) -> None: ...
        os.register_at_fork(after_in_child=lambda: pathlib.Path({str(broken)!r}).exists() and os._exit(9))
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = start_worker(tasks="fragile_tasks:tasks")
    broken.touch()

    for child in worker.children():
        os.kill(child, signal.SIGKILL)
    worker.wait_for("no children are started for a while")
    broken.unlink()
    job = database.enqueue("noop")

    database.wait_for_status(job, "completed")


def test_while_no_process_can_be_started_what_runs_goes_on_and_nobody_is_charged(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, end, tries = tmp_path / "full", tmp_path / "end", Lines(tmp_path / "tries")
    (tmp_path / "crowded_tasks.py").write_text(
        textwrap.dedent(f"""
        import errno, os, pathlib, sys
        from tests.worker.handlers import append, tasks
        def limit_processes(event, arguments):
            if event == "os.fork" and pathlib.Path({str(full)!r}).exists():
                append({tries.path!r}, "refused")
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        sys.addaudithook(limit_processes)
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = start_worker(tasks="crowded_tasks:tasks")
    nursery = worker.nursery
    running = database.enqueue("wait", {"file": told.path, "until": str(end)})
    busy = int(told.wait(1)[0].split()[1])

    full.touch()
    for child in set(worker.children()) - {busy}:
        os.kill(child, signal.SIGKILL)
    tries.wait(3)
    full.unlink()
    other = database.enqueue("noop")
    database.wait_for_status(other, "completed")
    worker.wait_for("processes are started again")
    end.touch()

    ended = database.wait_for_status(running, "completed")
    assert (ended.attempts, ended.crash_count) == (1, 0)
    assert worker.nursery == nursery
    (said,) = worker.events("no process can be started")
    assert said["problem"] == "Resource temporarily unavailable"
    assert "ulimit -u" in said["instead"]


@pytest.mark.thorough
def test_a_worker_whose_folder_is_deleted_can_start_another_nursery(
    login_url: Callable[..., str], database: Database, tmp_path: Path
) -> None:
    """As a release's folder is, when the next one has been there for long enough."""
    gone = tmp_path / "gone"
    gone.mkdir()
    command = command_of(database_url=login_url(Role.WORKER))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    worker = WorkerProcess(tmp_path / "worker.log", command=command, folder=gone, environment=environment)
    try:
        worker.wait_until_ready()

        gone.rmdir()
        os.kill(worker.nursery, signal.SIGKILL)
        worker.wait_for("nursery up", 2)

        database.enqueue("noop")
        database.wait_until_done()
        assert database.statuses() == {"completed": 1}
    finally:
        worker.destroy()


def test_options_that_cannot_work_are_all_named() -> None:
    with pytest.raises(SettingsError) as caught:
        WorkerOptions(database_url="", tasks="nothing", slots=0, lease=5, heartbeat=4, poll=-1)

    assert len(caught.value.problems) == 5


def test_a_worker_takes_its_options_from_the_settings() -> None:
    settings = Settings(database_url="postgresql:///x", concurrency=3, threads=2, queues=("a",), memory_mb=512)

    options = Worker.from_settings(settings, name="mine").options

    assert (options.slots, options.threads, options.queues) == (3, 2, ("a",))
    assert (options.memory_mb, options.worker_name, options.capacity) == (512, "mine", 6)


def test_a_worker_that_is_there_before_the_schema_is_none_before_its_login_is_looked_at(
    start_worker: StartWorker, empty_url: str, server: EmbeddedServer
) -> None:
    server.provide_login("unfit", Role.API)
    unfit = server.url(make_url(empty_url).database or "", "unfit")
    worker = start_worker(ready=False, database_url=unfit)
    assert "run `jobplatform migrate`" in worker.wait_for("database unavailable")["error"]

    migrate(empty_url)

    assert worker.wait() != 0
    assert "'unfit' may not act as jobplatform_worker" in worker.end_of_log
    assert worker.events("worker ready") == []


def test_a_worker_that_is_there_before_the_schema_begins_when_it_is_there(
    start_worker: StartWorker, empty_url: str
) -> None:
    worker = start_worker(ready=False, database_url=empty_url, trust_login=True)
    assert "run `jobplatform migrate`" in worker.wait_for("database unavailable")["error"]

    migrate(empty_url)

    worker.wait_for("worker ready")
    assert worker.stop() == 0


def migrate(url: str) -> None:
    engine = make_engine(url, pool_size=1)
    upgrade(engine)
    engine.dispose()


@pytest.mark.thorough
def test_nothing_is_left_of_a_worker_that_is_killed_while_its_tasks_are_imported(
    start_worker_anew: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stuck_tasks.py").write_text(
        textwrap.dedent(f"""
        import os, pathlib, threading
        pathlib.Path({str(tmp_path / "importing")!r}).write_text(str(os.getpid()))
        threading.Event().wait()
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = start_worker_anew(ready=False, tasks="stuck_tasks:tasks")
    nursery = int(
        wait_until(lambda: (importing := tmp_path / "importing").exists() and importing.read_text(), what="it")
    )

    worker.signal(signal.SIGKILL)

    wait_until(lambda: is_dead(nursery), what="the end of the nursery")
