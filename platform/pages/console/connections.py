"""Connections to sources, and what their syncs brought."""

from __future__ import annotations

from flask import Response, request

from jobplatform.pages.console.jobs import workspace_names
from jobplatform.pages.console.schedules import read_pair, write_pair
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, looking
from jobplatform.queue import pages

PER_PAGE = 50


def make_connections() -> Section:
    section = Section("connections", __name__)
    section.page("/connections")(list_connections)
    section.page("/connections/syncs")(list_syncs)
    return section


def list_connections() -> Response:
    after = read_pair(request.args.get("after"))
    with looking() as session:
        found = pages.connection_lines(session, limit=PER_PAGE, after=after)
        names = workspace_names(session, (line.workspace_id for line in found.lines))
    return render("connections.html", found=found, names=names, after=after, next=write_pair(found.next))


def list_syncs() -> Response:
    before = read_pair(request.args.get("before"))
    with looking() as session:
        found = pages.sync_lines(session, limit=PER_PAGE, before=before)
        names = workspace_names(session, (line.workspace_id for line in found.lines))
    return render("syncs.html", found=found, names=names, before=before, next=write_pair(found.next))
