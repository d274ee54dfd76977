"""Queues: what waits in each and for how long, who serves it, its limit, and pausing it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from uuid import UUID

from flask import Response, request

from jobplatform.models import PauseKind
from jobplatform.pages.acting import done
from jobplatform.pages.charts import sparkline
from jobplatform.pages.console.jobs import workspace_names
from jobplatform.pages.console.limits import wrong_with
from jobplatform.pages.console.pausing import pause_it, resume_it
from jobplatform.pages.rendering import render
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


def _page(of: str = "", typed: str = "", wrong: str = "", status: int = 200) -> Response:
    with looking() as session:
        lines = pages.queue_lines(session)
        others = [one for one in list_pauses(session) if one.kind != PauseKind.QUEUE]
        paused = workspace_names(session, (UUID(one.key) for one in others if one.kind == PauseKind.WORKSPACE))
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
        typed=typed,
        wrong=wrong,
    )


def pause(queue: str) -> Any:
    return pause_it("queue", queue)


def resume(queue: str) -> Any:
    return resume_it("queue", queue)


def limit(queue: str) -> Any:
    text = request.form.get("max_running", "").strip()
    value: Any = (int(text) if text.isdecimal() and len(text) < 12 else text) if text else None
    answer = ask("PATCH", f"/operator/queues/{quote(queue, safe='')}/limits", {"maxRunning": value})
    if not answer.ok:
        wrong = wrong_with(answer, ("max_running",))
        return _page(queue, text, wrong.get("max_running") or wrong[""], answer.status)
    if not text:
        return done(answer, f"{queue} has no limit.")
    run = agreeing(value, "runs", "run")
    return done(answer, f"At most {plural(value, 'job')} of {queue} {run} at a time.")
