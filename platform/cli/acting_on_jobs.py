"""What is done to jobs: ``jobplatform jobs retry`` and ``cancel`` to one or to all that fit, the rest to one alone."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import click
from sqlalchemy.orm import Session

from jobplatform.cli.acting import audit
from jobplatform.cli.amounts import Duration
from jobplatform.cli.asking import agrees
from jobplatform.cli.beginning import telling_of_the_step
from jobplatform.cli.cancelling import told
from jobplatform.cli.changing import change_options, read_change
from jobplatform.cli.database import find_workspace, find_workspace_of, of_a_job_option, open_session
from jobplatform.cli.show import as_json_option, make_console, print_json
from jobplatform.models import Status
from jobplatform.queue import (
    CancelAnswer,
    ChangeAnswer,
    Deed,
    Matching,
    RetryKind,
    RunNowAnswer,
    act_on_some,
    cancel_job,
    cancel_tree,
    change_job,
    count_matching,
    retry_job,
    run_job_now,
)
from jobplatform.wording import plural

Command = TypeVar("Command", bound=Callable[..., Any])

CANCEL_ANSWERS = {
    CancelAnswer.CANCELLED: "is cancelled",
    CancelAnswer.REQUESTED: "is running; its worker was told to stop it",
    CancelAnswer.FINISHED: "has ended already",
    CancelAnswer.UNKNOWN: "is not a job of this workspace",
    CancelAnswer.BUSY: "changed hands at every look; try again",
}
RETRY_ANSWERS = {
    RetryKind.RETRIED: "is pending again, with all its attempts ahead of it",
    RetryKind.DUPLICATE: "cannot be retried: another unfinished job holds its uniqueness guard",
    RetryKind.LIVE: "has not ended yet",
    RetryKind.COMPLETED: "completed; there is nothing to retry",
    RetryKind.UNKNOWN: "is not a job of this workspace",
    RetryKind.BUSY: "changed hands at every look; try again",
}

RUN_NOW_ANSWERS = {
    RunNowAnswer.READY: "waits for nothing but its turn",
    RunNowAnswer.BLOCKED: "waits for other jobs, and not for its time",
    RunNowAnswer.RUNNING: "is running already",
    RunNowAnswer.FINISHED: "has ended already",
    RunNowAnswer.UNKNOWN: "is not a job of this workspace",
    RunNowAnswer.BUSY: "changed hands at every look; try again",
}

CHANGE_ANSWERS = {
    ChangeAnswer.CHANGED: "is changed",
    ChangeAnswer.RUNNING: "is running already",
    ChangeAnswer.FINISHED: "has ended already",
    ChangeAnswer.UNKNOWN: "is not a job of this workspace",
    ChangeAnswer.BUSY: "changed hands at every look; try again",
}

_OF_MANY = {
    "status": "--status",
    "task": "--task",
    "queue": "--queue",
    "since": "--since",
    "everything": "--all",
    "dry_run": "--dry-run",
}

_OPTIONS = (
    click.argument("job_id", type=click.UUID, required=False),
    click.option("-w", "--workspace", help="By id or name. Default: the one that has the job; many: all."),
    click.option(
        "-s", "--status", type=click.Choice([status.value for status in Status]), help="Many: of this status."
    ),
    click.option("-t", "--task", help="Many: of this task."),
    click.option("-Q", "--queue", help="Many: of this queue."),
    click.option(
        "--since", type=Duration(), help="Many: that ended (to retry) or were made (to cancel) within 1h, 2d."
    ),
    click.option("--all", "everything", is_flag=True, help="Many: whatever there is; needed when nothing narrows it."),
    click.option("--dry-run", is_flag=True, help="Many: only count them."),
    click.option("-y", "--yes", is_flag=True, help="Many: do not ask whether the count is meant."),
    as_json_option,
)


def job_options(command: Command) -> Command:
    """One job by its id, or the description of many."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@job_options
@click.option("--from-start", is_flag=True, help="One: forget the steps and the checkpoint that it has saved.")
@click.option("--from-step", metavar="NAME", help="One: forget this step, and what was done after it.")
def retry(job_id: UUID | None, from_start: bool, from_step: str | None, **options: Any) -> None:
    """Make a failed or cancelled job pending again, to go on after the steps that are done; or all that fit."""
    if job_id is None:
        if from_start or from_step is not None:
            raise click.UsageError(f"--from-{'start' if from_start else 'step'} is for one job: say its id")
        _act_on_many("retry", **options)
        return
    if from_start and from_step is not None:
        raise click.UsageError("--from-step and --from-start are two ways to say what is done again; say one")
    with open_session() as session:
        workspace_id = _workspace_of_one(session, job_id, options)
        with telling_of_the_step():
            answer = retry_job(session, workspace_id, job_id, from_start=from_start, from_step=from_step)
        if answer.kind is RetryKind.RETRIED:
            told = {name: said for name, said in {"from_start": from_start, "from_step": from_step}.items() if said}
            audit(session, "job.retry", f"job:{job_id}", workspace_id, **told)
    fine = answer.kind is RetryKind.RETRIED
    _answer(job_id, answer.kind.value, RETRY_ANSWERS[answer.kind], fine=fine, as_json=options["as_json"])


@click.command()
@job_options
@click.option("--tree", is_flag=True, help="One: everything that waits for it too, and for that, and so on.")
def cancel(job_id: UUID | None, tree: bool, **options: Any) -> None:
    """Cancel a job, at once while it waits, through its worker while it runs; or all that fit."""
    if tree:
        _cancel_tree(job_id, options)
        return
    if job_id is None:
        _act_on_many("cancel", **options)
        return
    with open_session() as session:
        workspace_id = _workspace_of_one(session, job_id, options)
        answer = cancel_job(session, workspace_id, job_id)
        fine = answer in (CancelAnswer.CANCELLED, CancelAnswer.REQUESTED)
        if fine:
            audit(session, "job.cancel", f"job:{job_id}", workspace_id, answer=answer.value)
    _answer(job_id, answer.value, CANCEL_ANSWERS[answer], fine=fine, as_json=options["as_json"])


@click.command()
@click.argument("job_id", type=click.UUID)
@of_a_job_option
@as_json_option
def run_now(job_id: UUID, workspace: str | None, as_json: bool) -> None:
    """Have a job that waits for its time, or for its next attempt, wait for nothing but its turn."""
    with open_session() as session:
        workspace_id = find_workspace_of(session, job_id, workspace)
        answer = run_job_now(session, workspace_id, job_id)
        fine = answer is RunNowAnswer.READY
        if fine:
            audit(session, "job.run_now", f"job:{job_id}", workspace_id)
    _answer(job_id, answer.value, RUN_NOW_ANSWERS[answer], fine=fine, as_json=as_json)


@click.command()
@click.argument("job_id", type=click.UUID)
@of_a_job_option
@change_options
@as_json_option
def change(job_id: UUID, workspace: str | None, as_json: bool, **options: Any) -> None:
    """Change a job that has not begun: its priority, its queue, when it runs. What is not said stays."""
    with open_session() as session:
        workspace_id = find_workspace_of(session, job_id, workspace)
        wanted = read_change(session, **options)
        answer = change_job(session, workspace_id, job_id, wanted)
        fine = answer is ChangeAnswer.CHANGED
        if fine:
            audit(session, "job.change", f"job:{job_id}", workspace_id, **wanted.as_json())
    _answer(job_id, answer.value, CHANGE_ANSWERS[answer], fine=fine, as_json=as_json)


def _cancel_tree(job_id: UUID | None, options: dict[str, Any]) -> None:
    if job_id is None:
        raise click.UsageError("--tree is for one job: say its id")
    with open_session() as session:
        workspace_id = _workspace_of_one(session, job_id, options)
        answer = cancel_tree(session, workspace_id, job_id)
        if answer is not None:
            audit(session, "job.cancel", f"job:{job_id}", workspace_id, tree=True, **answer._asdict())
    if answer is None:
        _answer(job_id, "unknown", CANCEL_ANSWERS[CancelAnswer.UNKNOWN], fine=False, as_json=options["as_json"])
    elif options["as_json"]:
        print_json({"jobId": job_id, **answer._asdict()})
    else:
        click.echo(f"{job_id} and what waits for it: {told(answer)}")


def _workspace_of_one(session: Session, job_id: UUID, options: dict[str, Any]) -> UUID:
    too_much = [said for name, said in _OF_MANY.items() if options[name]]
    if too_much:
        raise click.UsageError(f"{too_much[0]} describes many jobs; leave out the id")
    return find_workspace_of(session, job_id, options["workspace"])


def _answer(job_id: UUID, answer: str, sentence: str, *, fine: bool, as_json: bool) -> None:
    if as_json:
        print_json({"jobId": job_id, "answer": answer})
        raise SystemExit(0 if fine else 1)
    if not fine:
        raise click.ClickException(f"{job_id} {sentence}")
    click.echo(f"{job_id} {sentence}")


def _act_on_many(
    deed: Deed,
    *,
    workspace: str | None,
    status: str | None,
    task: str | None,
    queue: str | None,
    since: datetime.timedelta | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    if not (workspace or status or task or queue or since or everything):
        raise click.UsageError(f"say which: JOB_ID, or --status, --task, --queue, --since; or --all to {deed}")
    with open_session() as session:
        workspace_id = find_workspace(session, workspace) if workspace is not None else None
        matching = Matching(workspace_id, Status(status) if status else None, task, queue, since)
        counts = count_matching(session, deed, matching)
        total = sum(counts.values())
        if dry_run or not total:
            _tell_count(deed, counts, as_json=as_json)
            return
        if not (yes or agrees(session, f"{deed} {_words(counts)}?", as_json=as_json, instead="--yes, or --dry-run")):
            raise click.Abort
        # What was counted may be an hour old by the time somebody has agreed; it is looked for anew.
        session.commit()
        done, left = _act(session, deed, matching, total, quiet=as_json)
    if as_json:
        print_json({"found": total, "done": done, "left": dict(left)})
    else:
        rest = ", ".join(f"{count} {answer}" for answer, count in left.items())
        click.echo(f"{done} of {plural(total, 'job')}: {deed}" + (f"; left: {rest}" if rest else ""))


def _act(session: Session, deed: Deed, matching: Matching, total: int, *, quiet: bool) -> tuple[int, Counter[str]]:
    """A portion after the other, each with its audit lines committed by itself."""
    from rich.progress import Progress

    done, left, after = 0, Counter[str](), None
    with Progress(console=make_console(), disable=quiet, transient=True) as bar:
        task = bar.add_task(deed, total=total)
        while True:
            portion = act_on_some(session, deed, matching, after=after)
            for workspace_id, job_id in portion.done:
                audit(session, f"job.{deed}", f"job:{job_id}", workspace_id, bulk=True)
            session.commit()
            done += len(portion.done)
            left.update(portion.left)
            after = portion.after
            bar.update(task, completed=done + sum(left.values()))
            if after is None:
                return done, left


def _tell_count(deed: Deed, counts: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json({"found": sum(counts.values()), "byStatus": counts})
    else:
        click.echo(f"would {deed} {_words(counts)}" if counts else f"there is nothing to {deed}")


def _words(counts: dict[str, int]) -> str:
    return " and ".join(plural(count, f"{status} job") for status, count in counts.items())
