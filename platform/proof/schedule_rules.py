"""The promise about schedules: every tick is done once, whoever is killed in between."""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from jobplatform.proof.evidence import Evidence, Row
from jobplatform.proof.findings import Finding

Findings = Iterator[Finding]


def each_tick_was_done_once(evidence: Evidence) -> Findings:
    """The ticks of a schedule follow each other without a gap, up to the one it waited for at the end; each has one job
    of its own."""
    by_schedule: dict[str, list[Row]] = defaultdict(list)
    for tick in evidence.ticks:
        by_schedule[tick["schedule_id"]].append(tick)
    for schedule in evidence.schedules:
        ticks = sorted(by_schedule[schedule["id"]], key=lambda tick: tick["tick_at"])
        yield from _of_schedule(schedule, ticks)
        yield from _jobs_of(evidence, ticks)


def no_job_is_of_a_tick_that_was_not_done(evidence: Evidence) -> Findings:
    """Nor do two say that they are of the same one."""
    done = {tick["job_id"] for tick in evidence.ticks}
    scheduled = {
        job_id: row["request_id"]
        for job_id, row in evidence.records.items()
        if (row["request_id"] or "").startswith("schedule:")
    }
    for job_id in scheduled.keys() - done:
        yield Finding("ticks", job_id, f"is of {scheduled[job_id]}, and no tick says so")
    for request_id, count in Counter(scheduled.values()).items():
        if count > 1:
            yield Finding("ticks", None, f"{count} jobs are of {request_id}")


def _of_schedule(schedule: Row, ticks: Sequence[Row]) -> Findings:
    interval = datetime.timedelta(milliseconds=schedule["every_ms"])
    if not ticks:
        yield Finding("ticks", None, f"schedule {schedule['name']} was never done")
        return
    expected = ticks[0]["tick_at"]
    for tick in ticks:
        if tick["tick_at"] != expected:
            yield Finding(
                "ticks", tick["job_id"], f"{schedule['name']}: {expected} was to come before {tick['tick_at']}"
            )
        expected = tick["tick_at"] + interval
    if schedule["next_tick_at"] != expected:
        what = f"{schedule['name']} waited for {schedule['next_tick_at']} after {ticks[-1]['tick_at']}"
        yield Finding("ticks", None, what)


def _jobs_of(evidence: Evidence, ticks: Sequence[Row]) -> Findings:
    for job_id, count in Counter(tick["job_id"] for tick in ticks).items():
        if count > 1:
            yield Finding("ticks", job_id, f"is the job of {count} ticks")
    for tick in ticks:
        if tick["outcome"] != "enqueued":
            yield Finding("ticks", tick["job_id"], f"{tick['tick_at']} was {tick['outcome']}: {tick['reason']}")
        elif tick["job_id"] not in evidence.records:
            yield Finding("ticks", tick["job_id"], f"was enqueued at {tick['tick_at']} and does not exist")


SCHEDULE_RULES = (each_tick_was_done_once, no_job_is_of_a_tick_that_was_not_done)
