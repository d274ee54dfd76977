"""What people read is right of one and of many."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobplatform.queue import METRICS, AlertRule
from jobplatform.queue.numbers.counts import Done, Live
from jobplatform.wording import agreeing, plural

PLATFORM = Path(__file__).resolve().parents[2] / "platform"
#: ``job(s)``. A unit in the head of a table stands apart from its word: ``timeout (s)``.
UNDECIDED = re.compile(r"[^\s(]+\((?:s|es|ies)\)")
QUOTED = re.compile(r"""(["'`])(?:\\.|(?!\1).)*\1""", re.DOTALL)

COUNTED = {
    "ready": ("1 job is ready and waits for a slot", "2 jobs are ready and wait for a slot"),
    "scheduled": ("1 job waits for a later moment", "2 jobs wait for a later moment"),
    "blocked": ("1 job waits for other jobs", "2 jobs wait for other jobs"),
    "pending": ("1 job is pending", "2 jobs are pending"),
    "running": ("1 job runs", "2 jobs run"),
    "completed_last_hour": ("1 job completed in the last hour", "2 jobs completed in the last hour"),
    "failed_last_hour": ("1 job failed in the last hour", "2 jobs failed in the last hour"),
}


def test_words_agree_with_their_number() -> None:
    assert [plural(count, "job") for count in (0, 1, 2_000)] == ["0 jobs", "1 job", "2,000 jobs"]
    assert [plural(count, "entry", "entries") for count in (1, 2)] == ["1 entry", "2 entries"]
    assert [agreeing(count, "minute") for count in (1, 1.0, 0.5)] == ["minute", "minute", "minutes"]


@pytest.mark.parametrize(("metric", "count", "said"), [(m, n, COUNTED[m][n - 1]) for m in COUNTED for n in (1, 2)])
def test_an_alert_about_one_job_reads_as_well_as_one_about_many(metric: str, count: int, said: str) -> None:
    broken = AlertRule("mine", metric, 0).broken_by(*counts(metric, count))
    of_a_queue = AlertRule("mine", metric, 0, queue="letters").broken_by(*counts(metric, count))

    assert broken == said
    assert of_a_queue == re.sub(r"(jobs?)", r"\1 of queue letters", said, count=1)


def test_what_is_measured_in_shares_and_seconds_is_never_said_of_one_job() -> None:
    measured = METRICS.keys() - COUNTED.keys()

    assert measured == {"failure_rate", "oldest_ready_seconds", "longest_running_seconds"}
    all_failed = AlertRule("mine", "failure_rate", 0.5).broken_by([], [Done("letters", "send", 0, 9, 0)])
    assert all_failed == "100% of the jobs that ended in the last hour failed"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.py", 'f"{count} job(s) wait"', ["job(s)"]),
        ("a.py", 'f"{count} {kind(s)}(s)"', ["{}(s)"]),
        ("a.py", '"box(es) and entr(ies)"', ["box(es)", "entr(ies)"]),
        ("a.py", 'Table("timeout (s)", len(s))  # some job(s)', []),
        ("a.html", "<p>{{ count }} worker(s), {{ kind }}(s)</p>", ["worker(s)", "}}(s)"]),
        ("a.js", "said(`${count} job(s)`, parse(s));", ["job(s)"]),
    ],
)
def test_a_text_that_does_not_decide_is_found(name: str, text: str, found: list[str]) -> None:
    assert list(undecided(name, text)) == found


def test_every_text_decides_between_one_and_many() -> None:
    files = [path for path in PLATFORM.rglob("*") if path.suffix in (".py", ".html", ".js")]

    said = {
        str(path.relative_to(PLATFORM)): found
        for path in files
        if (found := list(undecided(path.name, path.read_text())))
    }

    assert len(files) > 400
    assert not said, "say it with jobplatform.wording"


def undecided(name: str, text: str) -> Iterator[str]:
    """What readers see as ``job(s)``: in the strings of programs, and anywhere in a page."""
    for shown in _shown(name, text):
        yield from UNDECIDED.findall(shown)


def _shown(name: str, text: str) -> Iterator[str]:
    if name.endswith(".py"):
        yield from map(_text_of, _strings(ast.parse(text)))
    elif name.endswith(".js"):
        yield from (found[0] for found in QUOTED.finditer(text))
    else:
        yield text


def _strings(node: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """Each once: what stands between the placeholders of an f-string is no string of its own."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.JoinedStr):
            yield child
            for placeholder in child.values:
                if isinstance(placeholder, ast.FormattedValue):
                    yield from _strings(placeholder)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child
        else:
            yield from _strings(child)


def _text_of(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


def counts(metric: str, count: int) -> tuple[list[Live], list[Done]]:
    """So many jobs of what ``metric`` counts, and of nothing else."""
    live = Live("letters", "send", 0, 0, 0, 0, 0, 0, None, None)
    done = Done("letters", "send", 0, 0, 0)
    counted: dict[str, Any] = {metric.removesuffix("_last_hour").replace("pending", "ready"): count}
    return ([], [done._replace(**counted)]) if metric.endswith("_last_hour") else ([live._replace(**counted)], [])
