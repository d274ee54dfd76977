"""What a test costs with ``jobplatform.testing``: ``python benchmarks/testing_kit.py``.

Each kind of test is run in a pytest process of its own, once a few times and once many times; the difference of the two
divided by the difference in number is what one test costs, without the start of pytest and of the server. The kinds
take turns, and the middle one of several rounds is shown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

FEW = 10

TESTS = """
import pytest
from sqlalchemy import text
from jobplatform.queue import Tasks
from jobplatform.testing import assert_enqueued, drain

tasks = Tasks()

@tasks.task("work")
def work(job, payload):
    return payload["number"]

@pytest.mark.parametrize("number", range({number}))
def test_nothing(number, request):
    pass

@pytest.mark.parametrize("number", range({number}))
def test_look(number, jobplatform_session):
    assert jobplatform_session.scalar(text("select count(*) from jobplatform.jobs")) == 0

@pytest.mark.parametrize("number", range({number}))
def test_enqueue(number, jobplatform_session, jobplatform_workspace_id):
    work.enqueue(jobplatform_session, {{"number": number}}, workspace_id=jobplatform_workspace_id)
    jobplatform_session.commit()
    assert_enqueued(jobplatform_session, work, {{"number": number}})

@pytest.mark.parametrize("number", range({number}))
def test_drain(number, jobplatform_session, jobplatform_workspace_id):
    work.enqueue(jobplatform_session, {{"number": number}}, workspace_id=jobplatform_workspace_id)
    (job,) = drain(jobplatform_session, tasks)
    assert job.result == number
"""
KINDS = {
    "a test that uses nothing": "nothing",
    "asks the database something": "look",
    "enqueues, asserts what was enqueued": "enqueue",
    "enqueues and drains": "drain",
}
MODES = ("fresh", "reused")


def main() -> None:
    parser = argparse.ArgumentParser(description="What a test costs with jobplatform.testing.")
    parser.add_argument("--tests", type=int, default=100, help="tests of each kind in a long run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS.values()], default=[*KINDS.values()])
    options = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        for kind in options.kinds:
            for mode in MODES:
                found.setdefault((kind, mode), []).append(cost_of_one(kind, mode, options.tests))
    show(found)


def cost_of_one(kind: str, mode: str, many: int) -> tuple[float, float]:
    """Milliseconds of a test: by the clock, and of processor time, the server's included."""
    short, long = run(kind, mode, FEW), run(kind, mode, FEW + many)
    wall, cpu = ((after - before) / many * 1000 for before, after in zip(short, long, strict=True))
    return wall, cpu


def run(kind: str, mode: str, number: int) -> tuple[float, float]:
    """Seconds that a run takes, by the clock and of processor time."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_it.py").write_text(TESTS.format(number=number))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"test_{kind}"]
        # Whatever is left is inherited by this process, which is how the server's time is counted too.
        watched = [sys.executable, __file__, "--watch", *command, "--jobplatform-database", mode]
        done = subprocess.run(watched, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    wall, cpu = map(float, done.stdout.splitlines()[-1].split())
    return wall, cpu


def watch(command: list[str]) -> None:
    """Run a command to the end of all it started; tell the seconds it took and the processor time."""
    from jobplatform.worker.kernel import become_subreaper

    become_subreaper()
    began = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    wall = time.monotonic() - began
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    times = os.times()
    sys.stdout.write(f"\n{wall} {times.children_user + times.children_system}\n")
    raise SystemExit(code)


def show(found: dict[tuple[str, str], list[tuple[float, float]]]) -> None:
    table = Table("milliseconds a test", *(f"{mode}, {what}" for mode in MODES for what in ("clock", "processor")))
    for title, kind in KINDS.items():
        if (kind, MODES[0]) not in found:
            continue
        cells = [
            f"{statistics.median(sample[index] for sample in found[kind, mode]):.1f}"
            for mode in MODES
            for index in (0, 1)
        ]
        table.add_row(title, *cells)
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        watch(sys.argv[2:])
    main()
