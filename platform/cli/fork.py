"""``jobplatform jobs fork``."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from jobplatform.cli.acting import audit
from jobplatform.cli.beginning import from_step_option, parse_payload, payload_option, telling_of_the_step
from jobplatform.cli.database import find_workspace_of, known_tasks, of_a_job_option, open_session
from jobplatform.cli.enqueue import refusal
from jobplatform.cli.show import as_json_option, tell
from jobplatform.queue import ForkAnswer, ForkKind, fork_job


@click.command()
@click.argument("job_id", type=click.UUID)
@of_a_job_option
@from_step_option
@click.option("--from-start", is_flag=True, help="Keep no steps and no checkpoint.")
@payload_option
@as_json_option
def fork(
    job_id: UUID, workspace: str | None, from_step: str | None, from_start: bool, payload: str | None, as_json: bool
) -> None:
    """Enqueue a job like one that has ended, to go on after what that has done; the old one stays as it is."""
    if from_step is not None and from_start:
        raise click.UsageError("--from-step and --from-start are two ways to say what is done again; say one")
    given = None if payload is None else parse_payload(payload)
    known = known_tasks()
    with open_session() as session:
        workspace_id = find_workspace_of(session, job_id, workspace)
        asked: dict[str, Any] = {"from_step": from_step, "from_start": from_start, "payload": given}
        with telling_of_the_step():
            answer = fork_job(session, known, workspace_id, job_id, **asked)
        if answer.kind is not ForkKind.FORKED or answer.enqueued is None:
            raise click.ClickException(_refusal(job_id, answer))
        new_id = answer.enqueued.job_id
        said = {name: asked[name] for name in ("from_step", "from_start") if asked[name]}
        facts = {"from_job": str(job_id), **said, "new_payload": payload is not None}
        audit(session, "job.fork", f"job:{new_id}", workspace_id, **facts)
    kept = f"; it finds done: {', '.join(answer.kept)}" if answer.kept else ""
    tell(as_json, f"{new_id} is made from {job_id}{kept}", job_id=new_id, from_job_id=job_id, kept=list(answer.kept))


def _refusal(job_id: UUID, answer: ForkAnswer) -> str:
    if answer.kind is ForkKind.UNKNOWN:
        return f"{job_id} is not a job of this workspace"
    if answer.enqueued is None:
        return f"{job_id} has not ended yet"
    return refusal(answer.enqueued)
