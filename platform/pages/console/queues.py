"""Queues: what waits in each and for how long, who serves it, its limit, and pausing it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from uuid import UUID

from flask import Response

from jobplatform.api.editing import tag_of_queue_limit
from jobplatform.models import PauseKind, QueueLimits
from jobplatform.pages.acting import done
from jobplatform.pages.charts import sparkline
from jobplatform.pages.console.jobs import workspace_names
from jobplatform.pages.console.limits import QUEUE_LIMIT, beside_what_is_now, typed_in_form, values_in_form, wrong_with
from jobplatform.pages.console.pausing import pause_it, resume_it
from jobplatform.pages.rendering import render
from jobplatform.pages.seen import ANOTHER, seen
from jobplatform.pages.shell import Section, ask, looking
from jobplatform.queue import list_pauses, pages
from jobplatform.wording import agreeing, plural


def make_queues() -> Section:
    section = Section("queues", __name__)
    section.page("/queues")(list_queues)
    section.action("/queues/<queue>/pause", "pause")(pause)
    section.action("/queues/<queue>/resume", "pause")(resume)
    section.action("/queues/<queue>/limit", "limit")(limit)
    return section


def list_queues() -> Response:
    return _page()


def _page(of: str = "", wrong: dict[str, str] | None = None, status: int = 200) -> Response:
    """``of``: the queue whose form is shown again, as it was typed."""
    with looking() as session:
        lines = pages.queue_lines(session)
        others = [one for one in list_pauses(session) if one.kind != PauseKind.QUEUE]
        paused = workspace_names(session, (UUID(one.key) for one in others if one.kind == PauseKind.WORKSPACE))
    limits = {line.queue: line.max_running for line in lines}
    is_gone = bool(of) and of not in limits
    if is_gone:
        wrong = {"": f"There is no queue {of} any more, and nothing was changed."}
    elif status == ANOTHER:
        wrong = beside_what_is_now(values_in_form(QUEUE_LIMIT), {"max_running": limits[of]})
    sparks = {
        line.queue: sparkline([point.completed + point.failed for point in line.throughput.points])
        for line in lines
        if line.throughput
    }
    return render(
        "queues.html",
        status=status,
        lines=lines,
        sparks=sparks,
        others=others,
        names={str(found): name for found, name in paused.items()},
        of=of,
        is_gone=is_gone,
        typed=typed_in_form(QUEUE_LIMIT, status) if wrong else {},
        wrong=wrong or {},
        tags={queue: tag_of_queue_limit(QueueLimits(queue=queue, max_running=most)) for queue, most in limits.items()},
    )


def pause(queue: str) -> Any:
    return pause_it("queue", queue)


def resume(queue: str) -> Any:
    return resume_it("queue", queue)


def limit(queue: str) -> Any:
    value = values_in_form(QUEUE_LIMIT)["max_running"]
    path = f"/operator/queues/{quote(queue, safe='')}/limits"
    answer = ask("PATCH", path, {"maxRunning": value}, if_match=seen())
    if not answer.ok:
        return _page(queue, wrong_with(answer, QUEUE_LIMIT), answer.status)
    if value is None:
        return done(answer, f"{queue} has no limit.")
    run = agreeing(value, "runs", "run")
    return done(answer, f"At most {plural(value, 'job')} of {queue} {run} at a time.")
