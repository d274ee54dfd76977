"""Situations of jobs that wait for others and of batches, and the variants that get each wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jobplatform.models import RunIf
from jobplatform.queue import ClaimedJob, Edge, NewJob, close_batch, enqueue_jobs, open_batch, retry_job, settle_endings
from tests.chaos.stage import Stage

Scene = Callable[[Stage], None]


def a_chain_is_enqueued(stage: Stage) -> None:
    first = stage.enqueue()
    stage.enqueue(after=[first])


def one_of_two_predecessors_ends(stage: Stage) -> None:
    stage.enqueue(after=[stage.enqueue(), stage.enqueue()])
    worker = stage.worker()
    stage.settle()
    first = stage.claim(worker, limit=1)
    stage.complete(first)
    stage.settle()
    stage.complete(stage.claim(worker))


def a_predecessor_fails(stage: Stage) -> None:
    first = stage.enqueue("hopeless")
    stage.enqueue(after=[Edge(first)])
    stage.enqueue(after=[Edge(first, RunIf.FAILED)])
    stage.settle()
    stage.fail(stage.claim(stage.worker()))
    stage.settle()


def two_ends_are_settled_side_by_side(stage: Stage) -> None:
    """Neither has committed when the other looks."""
    stage.enqueue(after=[stage.enqueue(), stage.enqueue()])
    stage.settle()
    worker = stage.worker()
    first, second = stage.claim(worker)
    stage.complete([first])
    with stage.transaction() as session:
        settle_endings(session)
        stage.complete([second])
        with stage.statement() as other:
            settle_endings(other)


def a_batch_ends_well(stage: Stage) -> None:
    _batch(stage, [stage.new_job() for _ in range(2)])
    worker = stage.worker()
    stage.complete(stage.claim(worker, limit=1))
    stage.settle()


def a_batch_ends_badly(stage: Stage) -> None:
    _batch(stage, [stage.new_job(), stage.new_job("hopeless")])
    _end(stage, stage.claim(stage.worker()))
    stage.settle()


def a_failed_member_is_retried(stage: Stage) -> None:
    (member,) = _batch(stage, [stage.new_job("hopeless")])
    _end(stage, stage.claim(stage.worker()))
    stage.settle()
    stage.promises.retries_begun.add(str(member.id))
    with stage.transaction() as session:
        retry_job(session, member.workspace_id, member.id)
    stage.settle()


def _batch(stage: Stage, jobs: list[NewJob]) -> list[NewJob]:
    with stage.transaction() as session:
        batch_id = open_batch(session, stage.workspace_id)
        members = [replace(job, batch_id=batch_id) for job in jobs]
        callbacks = [stage.new_job(after=[Edge(batch_id, run_if, of_batch=True)]) for run_if in RunIf]
        answers = enqueue_jobs(session, [*members, *callbacks])
        close_batch(session, stage.workspace_id, batch_id)
    for answer in answers:
        stage.acknowledge(answer)
    stage.settle()
    return members


def _end(stage: Stage, jobs: list[ClaimedJob]) -> None:
    stage.fail([job for job in jobs if job.task == "hopeless"])
    stage.complete([job for job in jobs if job.task != "hopeless"])


FAMILY_MUTANTS: tuple[tuple[str, Scene, str], ...] = (
    ("an end that is not told", a_chain_is_enqueued, "running"),
    ("a job that exists is not followed", a_chain_is_enqueued, "running"),
    ("let go by the first end", one_of_two_predecessors_ends, "waits"),
    ("let go by a failure", a_predecessor_fails, "waits"),
    ("two decide side by side", two_ends_are_settled_side_by_side, "running"),
    ("a batch ends with its first job", a_batch_ends_well, "waits"),
    ("every callback is called", a_batch_ends_well, "batches"),
    ("a failure counts as a completion", a_batch_ends_badly, "batches"),
    ("a retry that is not told", a_failed_member_is_retried, "batches"),
    ("what was called off stays so", a_failed_member_is_retried, "waits"),
    ("called off for no reason", a_batch_ends_well, "waits"),
)
