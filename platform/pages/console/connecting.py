"""Lists of what is between workspaces and the outside: of everybody's, or of one workspace's, a page at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, request

from jobplatform.pages.console.jobs import workspace_names
from jobplatform.pages.console.schedules import read_pair, write_pair
from jobplatform.pages.console.whose import asked_workspace
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import looking

PER_PAGE = 50


def show_list(template: str, look: Callable[..., Any], cursor: str = "after", **words: Any) -> Response:
    """What ``look`` finds from where the query says on, by the name that both have for that. ``words`` are what the
    template says something by."""
    began, whose = read_pair(request.args.get(cursor)), asked_workspace()
    with looking() as session:
        found = look(session, workspace_id=whose, limit=PER_PAGE, **{cursor: began})
        names = workspace_names(session, [whose, *(line.workspace_id for line in found.lines)])
    following = write_pair(found.next)
    return render(template, found=found, names=names, cursor=cursor, began=began, whose=whose, next=following, **words)
