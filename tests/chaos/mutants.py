"""Does the checker find what is broken? Each variant is played through the situation in which its defect shows.

The same situations played with the healthy platform must leave the checker silent, so it is neither blind nor afraid.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg

from jobplatform import migrations
from jobplatform.embedded import EmbeddedServer
from jobplatform.proof import history
from jobplatform.proof.checker import judge
from jobplatform.proof.clients import STALE_WRITES
from jobplatform.proof.findings import Finding
from jobplatform.proof.place import QUICK_SERVER
from jobplatform.proof.workload import apply_page
from jobplatform.queue import ClaimedJob, ProgressReport, enqueue_job, report_progress, retry_job
from jobplatform.testing import wait_until
from tests.chaos.family_mutants import FAMILY_MUTANTS
from tests.chaos.level_mutants import LEVEL_MUTANTS
from tests.chaos.limit_mutants import LIMIT_MUTANTS
from tests.chaos.schedule_mutants import SCHEDULE_MUTANTS
from tests.chaos.stage import Stage, fence
from tests.chaos.variants import break_database, broken

Scene = Callable[[Stage], None]


class Mutant(NamedTuple):
    """A variant, the scene in which it shows, and the rule that must be reported as broken."""

    variant: str
    scene: Scene
    rule: str


def a_stopped_worker_completes_late(stage: Stage) -> None:
    stage.enqueue()
    sleeper, other = stage.worker(), stage.worker()
    slept = stage.claim(sleeper)
    stage.fall_silent(sleeper)
    stage.sweep()
    taken_over = stage.claim(other)

    stage.complete(slept)

    stage.complete(taken_over)


def a_stopped_worker_fails_late(stage: Stage) -> None:
    stage.enqueue()
    sleeper, other = stage.worker(), stage.worker()
    slept = stage.claim(sleeper)
    stage.fall_silent(sleeper)
    stage.sweep()
    taken_over = stage.claim(other)

    stage.fail(slept)

    stage.complete(taken_over)


def a_stopped_worker_reports_late(stage: Stage) -> None:
    stage.enqueue()
    sleeper, other = stage.worker(), stage.worker()
    slept = stage.claim(sleeper)
    stage.fall_silent(sleeper)
    stage.sweep()
    taken_over = stage.claim(other)

    _report(stage, taken_over)
    _report(stage, slept)
    # Its first answer was lost.
    _report(stage, taken_over)

    stage.complete(taken_over)


def _report(stage: Stage, jobs: Sequence[ClaimedJob]) -> None:
    with stage.statement() as session:
        report_progress(session, [ProgressReport(job.lease, f'{{"message": "{fence(job.lease)}"}}') for job in jobs])


def an_intruder_uses_old_leases(stage: Stage) -> None:
    stage.enqueue()
    first, second = stage.worker(), stage.worker()
    old = stage.claim(first)
    stage.fall_silent(first)
    stage.sweep()
    taken_over = stage.claim(second)

    for kind, write in STALE_WRITES.items():
        with stage.statement() as session:
            stage.promises.stale_write(kind, old[0].lease, accepted=bool(write(old[0].lease, session)))

    stage.complete(taken_over)


def the_answer_of_a_claim_is_lost(stage: Stage) -> None:
    stage.enqueue()
    worker = stage.worker()

    stage.claim_without_answer(worker)

    stage.beat(worker, [])


def a_worker_dies(stage: Stage) -> None:
    stage.enqueue()
    worker = stage.worker()
    stage.claim(worker)
    stage.fall_silent(worker)


def a_worker_is_busy_while_others_sweep(stage: Stage) -> None:
    stage.enqueue()
    jobs = stage.claim(stage.worker())

    stage.sweep()

    stage.complete(jobs)


def two_transactions_enqueue_the_same_key(stage: Stage) -> None:
    first, second = (stage.new_job(unique_key="only") for _ in range(2))

    def enqueue_second() -> None:
        with stage.transaction() as session:
            stage.acknowledge(enqueue_job(session, second))

    other = threading.Thread(target=enqueue_second)
    with stage.transaction() as session:
        stage.acknowledge(enqueue_job(session, first))
        other.start()
        wait_until(lambda: stage.somebody_waits_for_a_lock() or not other.is_alive(), what="the second transaction")
    other.join()

    stage.look()


def a_job_runs_twice(stage: Stage) -> None:
    stage.enqueue("flaky")
    stage.fail(stage.claim(stage.worker()))


def a_job_kills_its_process(stage: Stage) -> None:
    stage.enqueue("poison")
    for _ in range(20):
        stage.enqueue()


def a_job_completes(stage: Stage) -> None:
    stage.enqueue()
    stage.complete(stage.claim(stage.worker()))


def a_completed_job_is_retried(stage: Stage) -> None:
    job = stage.enqueue()
    stage.complete(stage.claim(stage.worker()))

    stage.promises.retries_begun.add(str(job.id))
    with stage.transaction() as session:
        retry_job(session, job.workspace_id, job.id)


def a_job_becomes_due(stage: Stage) -> None:
    stage.enqueue(delay=timedelta(hours=1))


def a_worker_dies_after_a_commit(stage: Stage) -> None:
    stage.enqueue("pager")
    worker = stage.worker()
    (job,) = stage.claim(worker)

    stage.go_through(job, commits=1)

    stage.fall_silent(worker)


def a_stopped_worker_commits_its_page_late(stage: Stage) -> None:
    stage.enqueue("pager")
    sleeper, other = stage.worker(), stage.worker()
    (slept,) = stage.claim(sleeper)
    late = stage.running(slept)
    with stage.transaction() as session:
        apply_page(late, "checkpoint 0", session)
        late.checkpoint(1, session=session)
        stage.fall_silent(sleeper)
        stage.sweep()
        # Nothing, as long as the first one's lease holds until its commit.
        taken_over = [stage.running(job) for job in stage.claim(other)]
        for job in taken_over:
            assert job.checkpoint_state is None
            apply_page(job, "checkpoint 0")
    for job in taken_over:
        job.checkpoint(1)
        job.close_session(commit=False)
    stage.fall_silent(other)


MUTANTS = (
    Mutant("completing without a fence", a_stopped_worker_completes_late, "stale"),
    Mutant("failing without a fence", a_stopped_worker_fails_late, "stale"),
    Mutant("progress without a fence", a_stopped_worker_reports_late, "stale"),
    Mutant("releasing without a fence", an_intruder_uses_old_leases, "stale"),
    Mutant("log lines without a fence", an_intruder_uses_old_leases, "stale"),
    Mutant("steps without a fence", an_intruder_uses_old_leases, "stale"),
    Mutant("a lease looked at and not locked", a_stopped_worker_commits_its_page_late, "pages"),
    Mutant("a page in another transaction than its note", a_worker_dies_after_a_commit, "pages"),
    Mutant("rows the worker forgot are kept", the_answer_of_a_claim_is_lost, "running"),
    Mutant("nobody rescues", a_worker_dies, "running"),
    Mutant("rescue from the living", a_worker_is_busy_while_others_sweep, "rescue"),
    Mutant("naive unique check", two_transactions_enqueue_the_same_key, "unique"),
    Mutant("epoch handed out again", a_job_runs_twice, "epochs"),
    Mutant("crashes not counted", a_job_kills_its_process, "poison"),
    Mutant("record not finished", a_job_completes, "lost"),
    Mutant("due jobs not promoted", a_job_becomes_due, "running"),
    Mutant("completed jobs retried", a_completed_job_is_retried, "twice"),
    *(Mutant(*mutant) for mutant in FAMILY_MUTANTS),
    *(Mutant(*mutant) for mutant in LIMIT_MUTANTS),
    *(Mutant(*mutant) for mutant in LEVEL_MUTANTS),
    *(Mutant(*mutant) for mutant in SCHEDULE_MUTANTS),
)


def prepare(url: str) -> None:
    """Have a migrated database keep its history."""
    with psycopg.connect(url, autocommit=True) as connection:
        history.install(connection)


def play(scene: Scene, url: str, variant: str | None = None) -> list[Finding]:
    """Play a scene to its end in an empty prepared database, broken or healthy, and judge it."""
    with psycopg.connect(url, autocommit=True) as connection:
        break_database(variant, connection)
    stage = Stage(url)
    try:
        with broken(variant):
            scene(stage)
            stage.finish()
        return judge(stage.evidence()).findings
    finally:
        stage.close()


def run_all(folder: Path, say: Callable[[str], None]) -> int:
    """Play every mutant and return how many were not found, or only together with a healthy platform's."""
    server = EmbeddedServer(folder / "server", QUICK_SERVER)
    server.start()
    try:
        return sum(not _killed(mutant, number, server, say) for number, mutant in enumerate(MUTANTS))
    finally:
        server.stop("immediate")


def _killed(mutant: Mutant, number: int, server: EmbeddedServer, say: Callable[[str], None]) -> bool:
    found = play(mutant.scene, _database(server, f"mutant_{number}"), mutant.variant)
    healthy = play(mutant.scene, _database(server, f"healthy_{number}"))
    killed = any(finding.rule == mutant.rule for finding in found) and not healthy
    say(f"  {'killed ' if killed else 'ALIVE  '} {mutant.variant:<40} {_because(mutant, found, healthy)}")
    return killed


def _because(mutant: Mutant, found: list[Finding], healthy: list[Finding]) -> str:
    if healthy:
        return f"accused when healthy: {healthy[0]}"
    return next((f"{finding.rule}: {finding.what}" for finding in found if finding.rule == mutant.rule), "not found")


def _database(server: EmbeddedServer, name: str) -> str:
    url = server.create_database(name)
    migrations.upgrade(url)
    prepare(url)
    return url
