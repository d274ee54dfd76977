"""A situation in which the level of an adaptive limit matters, and the variants that get it wrong."""

from __future__ import annotations

from collections.abc import Callable

from jobplatform.proof.terrain import EACH_TIDE, TIDE
from jobplatform.queue import ClaimedJob, ResourceNote, note_resources
from tests.chaos.stage import Stage

Scene = Callable[[Stage], None]


def jobs_are_told_too_often(stage: Stage) -> None:
    """Those of one burst one after the other, and then one that was started later."""
    stage.set("adaptive", EACH_TIDE, (2, 9))
    for _ in range(8):
        stage.enqueue(resource=TIDE)
    worker = stage.worker()

    burst = stage.claim(worker)
    for job in burst:
        _refused(stage, job)
    stage.complete(burst)
    later = stage.claim(worker)
    for job in later[:1]:
        _refused(stage, job)

    stage.complete(later)


def _refused(stage: Stage, job: ClaimedJob) -> None:
    with stage.statement() as session:
        note_resources(session, [ResourceNote(TIDE, worked=True, too_often=True, lease=job.lease)])


#: The variant, the scene in which it shows, and the rule that must be reported as broken.
LEVEL_MUTANTS: tuple[tuple[str, Scene, str], ...] = (
    ("a level not asked for", jobs_are_told_too_often, "levels"),
    ("a level lowered for each refusal", jobs_are_told_too_often, "levels"),
    ("a level below the least", jobs_are_told_too_often, "levels"),
)
