"""Situations in which limits, rates, pauses and quotas matter, and the variants that get each wrong."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from jobplatform.errors import QuotaExceededError
from jobplatform.proof.changes import PAUSES
from jobplatform.queue import ClaimedJob, NewJob, enqueue_jobs
from jobplatform.testing import wait_until
from tests.chaos.stage import Stage

ELSEWHERE = uuid.UUID(int=2)
POOL = "pool:shared"
DESK, EACH_DESK = "desk:1", "desk:*"

Scene = Callable[[Stage], None]


def a_workspace_is_claimed_from_by_two_at_once(stage: Stage) -> None:
    stage.set("workspace", stage.workspace_id, 1)

    two_claims_at_once(stage)


def a_queue_is_claimed_from_by_two_at_once(stage: Stage) -> None:
    stage.set("queue", "default", 1)

    two_claims_at_once(stage)


def a_task_is_claimed_by_two_at_once(stage: Stage) -> None:
    stage.set("task", "noop", 1)

    two_claims_at_once(stage)


def a_resource_is_claimed_by_two_at_once(stage: Stage) -> None:
    stage.set("resource", EACH_DESK, 1)

    two_claims_at_once(stage, resource=DESK)


def two_claims_at_once(stage: Stage, resource: str | None = None) -> None:
    """One has not committed when the other begins."""
    for workspace_id in (stage.workspace_id, ELSEWHERE) * 2:
        stage.enqueue(workspace_id=workspace_id, resource=resource)
    first, second = stage.worker(), stage.worker()
    claimed: list[ClaimedJob] = []
    other = threading.Thread(target=lambda: claimed.extend(stage.claim(second, limit=1)))

    with stage.transaction() as session:
        jobs = stage.claim_in(session, first, limit=1)
        other.start()
        wait_until(lambda: stage.somebody_waits_for_a_lock() or not other.is_alive(), what="the other claim")
    other.join()

    stage.look()
    stage.complete(stage.begin(jobs, first) + claimed)


def a_limited_queue_has_jobs_of_two_workspaces(stage: Stage) -> None:
    stage.set("queue", "default", 1)
    for workspace_id in (stage.workspace_id, ELSEWHERE):
        stage.enqueue(workspace_id=workspace_id)

    jobs = stage.claim(stage.worker()) + stage.claim(stage.worker())

    stage.look()
    stage.complete(jobs)


def a_limited_resource_has_jobs_of_two_workspaces(stage: Stage) -> None:
    stage.set("resource", EACH_DESK, 1)
    for workspace_id in (stage.workspace_id, ELSEWHERE):
        stage.enqueue(workspace_id=workspace_id, resource=DESK)

    jobs = stage.claim(stage.worker()) + stage.claim(stage.worker())

    stage.look()
    stage.complete(jobs)


def a_task_is_limited_in_each_workspace(stage: Stage) -> None:
    stage.set("here", "noop", 1)
    for _ in range(3):
        stage.enqueue()

    jobs = stage.claim(stage.worker()) + stage.claim(stage.worker())

    stage.look()
    stage.complete(jobs)


def a_limit_is_lowered_below_what_runs(stage: Stage) -> None:
    stage.set("workspace", stage.workspace_id, 3)
    for _ in range(5):
        stage.enqueue()
    worker = stage.worker()
    running = stage.claim(worker)
    stage.look()

    stage.set("workspace", stage.workspace_id, 1)
    stage.look()
    stage.complete(running[:1])
    running = running[1:] + stage.claim(worker)

    stage.look()
    stage.complete(running)


def a_job_of_a_limited_workspace_failed(stage: Stage) -> None:
    stage.set("workspace", stage.workspace_id, 1)
    stage.enqueue("flaky")
    worker = stage.worker()
    stage.fail(stage.claim(worker))
    stage.sweep()

    jobs = stage.claim(worker)

    stage.look()
    stage.look_later(60)
    stage.complete(jobs)


def a_workspace_has_started_what_its_rate_allows(stage: Stage) -> None:
    stage.set("pace", stage.workspace_id, (2, 0.001))
    for _ in range(5):
        stage.enqueue()

    jobs = stage.claim(stage.worker()) + stage.claim(stage.worker())

    stage.complete(jobs)
    stage.set("pace", stage.workspace_id, None)


def a_resource_is_used_up(stage: Stage) -> None:
    stage.set("rate", POOL, (5, 0.001))
    for workspace_id in (stage.workspace_id, ELSEWHERE) * 6:
        stage.enqueue(workspace_id=workspace_id, resource=POOL, units=3)

    jobs = stage.claim(stage.worker()) + stage.claim(stage.worker())

    stage.complete(jobs)
    stage.set("rate", POOL, None)


def what_was_claimed_goes_back_unstarted(stage: Stage) -> None:
    """One of three, so that there is enough for one more and not for two."""
    stage.set("rate", POOL, (10, 0.001))
    for _ in range(5):
        stage.enqueue(resource=POOL, units=3)
    worker = stage.worker()
    *jobs, ahead = stage.claim_without_answer(worker)
    stage.begin(jobs, worker)

    stage.hand_back([ahead])
    jobs += stage.claim(worker)

    stage.complete(jobs)
    stage.set("rate", POOL, None)


def paused(kind: str, key: object = None) -> Scene:
    """Something is paused, and resumed later."""

    def scene(stage: Stage) -> None:
        stage.enqueue(resource=POOL if kind == "resource" else None)
        stage.set(PAUSES[kind], key or stage.workspace_id, {"until": None})

        jobs = stage.claim(stage.worker())

        stage.complete(jobs)
        stage.set(PAUSES[kind], key or stage.workspace_id, None)

    scene.__name__ = f"a_{kind}_is_paused"
    return scene


a_queue_is_paused = paused("queue", "default")
a_task_is_paused = paused("task", "noop")
a_workspace_is_paused = paused("workspace")
a_resource_is_paused = paused("resource", POOL)


def two_calls_want_the_last_place(stage: Stage) -> None:
    stage.set("waiting", stage.workspace_id, 1)
    first, second = stage.new_job(), stage.new_job()
    other = threading.Thread(target=partial(_enqueue, stage, [second]))

    with stage.transaction() as session:
        stage.acknowledge(enqueue_jobs(session, [first])[0])
        other.start()
        wait_until(lambda: stage.somebody_waits_for_a_lock() or not other.is_alive(), what="the second call")
    other.join()

    stage.look()


def a_full_workspace_gets_a_job_back(stage: Stage) -> None:
    stage.set("waiting", stage.workspace_id, 1)
    stage.enqueue("flaky")
    jobs = stage.claim(stage.worker())
    stage.fail(jobs)
    stage.look()

    _enqueue(stage, [stage.new_job()])

    stage.look()


def a_workspace_is_full_of_later_jobs(stage: Stage) -> None:
    stage.set("waiting", stage.workspace_id, 1)
    stage.enqueue(delay=timedelta(hours=1))

    _enqueue(stage, [stage.new_job()])

    stage.look()


def a_full_workspace_gives_up_jobs(stage: Stage) -> None:
    stage.shed()
    stage.set("waiting", stage.workspace_id, 1)
    stage.enqueue(priority=3)

    _enqueue(stage, [stage.new_job(priority=3)])
    _enqueue(stage, [stage.new_job(priority=4)])

    stage.look()


def _enqueue(stage: Stage, jobs: list[NewJob]) -> None:
    try:
        with stage.transaction() as session:
            answers = enqueue_jobs(session, jobs)
    except QuotaExceededError:
        stage.promises.refused |= {str(job.id) for job in jobs}
        return
    for answer in answers:
        stage.acknowledge(answer)


#: The variant, the scene in which it shows, and the rule that must be reported as broken.
LIMIT_MUTANTS: tuple[tuple[str, Scene, str], ...] = (
    ("a workspace counted without a lock", a_workspace_is_claimed_from_by_two_at_once, "limits"),
    ("a workspace counted before its lock", a_workspace_is_claimed_from_by_two_at_once, "limits"),
    ("a lowered limit not seen", a_limit_is_lowered_below_what_runs, "limits"),
    ("a queue counted without a lock", a_queue_is_claimed_from_by_two_at_once, "limits"),
    ("a queue limited in each workspace", a_limited_queue_has_jobs_of_two_workspaces, "limits"),
    ("a task counted without a lock", a_task_is_claimed_by_two_at_once, "limits"),
    ("a task not counted where it runs", a_task_is_limited_in_each_workspace, "limits"),
    ("a resource counted without a lock", a_resource_is_claimed_by_two_at_once, "limits"),
    ("a resource limited in each workspace", a_limited_resource_has_jobs_of_two_workspaces, "limits"),
    ("a slot leaks with each retry", a_job_of_a_limited_workspace_failed, "standstill"),
    ("a workspace does not pay", a_workspace_has_started_what_its_rate_allows, "rates"),
    ("a resource is not paid for", a_resource_is_used_up, "rates"),
    ("units not counted", a_resource_is_used_up, "rates"),
    ("units given back twice", what_was_claimed_goes_back_unstarted, "rates"),
    ("plain claims in a pause", a_workspace_is_paused, "pauses"),
    ("queues not paused", a_queue_is_paused, "pauses"),
    ("tasks not paused", a_task_is_paused, "pauses"),
    ("workspaces not paused", a_workspace_is_paused, "pauses"),
    ("resources not paused", a_resource_is_paused, "pauses"),
    ("a quota counted without a lock", two_calls_want_the_last_place, "quotas"),
    ("what went back takes no place", a_full_workspace_gets_a_job_back, "quotas"),
    ("what is due later takes no place", a_workspace_is_full_of_later_jobs, "quotas"),
    ("as important jobs given up", a_full_workspace_gives_up_jobs, "shed"),
)
