"""A schedule made or changed by a form: its next runs are shown before anything is saved, and nothing typed is lost."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import UUID

from flask import Response, redirect, request

from jobplatform.api.editing import tag_of_schedule
from jobplatform.models import PLATFORM_WORKSPACE, Schedule
from jobplatform.pages.acting import done
from jobplatform.pages.console.schedule_typed import (
    CATCH_UPS,
    OVERLAPS,
    RULES,
    WHOSE,
    Complaints,
    Form,
    body_of,
    complaints_of,
    differences,
    form_of,
    in_words,
    is_same_text,
)
from jobplatform.pages.console.whose import typed_workspace
from jobplatform.pages.notices import notify
from jobplatform.pages.problems import nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.seen import ANOTHER, CHANGED, CHANGED_TO_THE_SAME, FIELD, seen
from jobplatform.pages.shell import Section, ask, current_shell, looking, url
from jobplatform.queue import get_schedule
from jobplatform.redaction import REDACTED

ONE = "/schedules/<uuid:workspace_id>/<uuid:schedule_id>"


def add_forms_to(section: Section) -> None:
    section.page("/schedules/new", "schedule.change")(new_schedule)
    section.action("/schedules/new", "schedule.change")(create)
    section.page(ONE + "/edit", "schedule.change")(edit_schedule)
    section.action(ONE + "/edit", "schedule.change")(change)
    section.action(ONE + "/delete", "schedule.change")(delete)


def new_schedule() -> Response:
    workspace = request.args.get("workspace", "")
    beginning = {"rule": "cron", "timezone": "UTC", "catch_up": "one", "payload": "{}"}
    return _page(beginning | {"whose": "workspace", "workspace": workspace})


def create() -> Any:
    form = request.form.to_dict()
    wrong, body = body_of(form)
    whose = form.get("whose")
    if whose not in WHOSE:
        wrong["whose"] = "Say whose jobs it enqueues."
    workspace_id, complaint = typed_workspace(form.get("workspace", "")) if whose == "workspace" else (None, "")
    if complaint:
        wrong["workspace"] = complaint
    if wrong or "preview" in form:
        return _look_ahead(form, wrong, body)
    if whose == "workspace":
        answer = ask("POST", f"/workspaces/{workspace_id}/schedules", body)
    else:
        answer = ask("POST", "/operator/schedules", body | {"everyWorkspace": whose == "every"})
    if not answer.ok:
        return _page(form, complaints_of(answer), answer.status)
    made = {"workspace_id": answer.body["workspaceId"], "schedule_id": answer.body["id"]}
    response = redirect(url("schedules.show_schedule", **made), 303)
    notify(response, "The schedule is made.")
    return response


def edit_schedule(workspace_id: UUID, schedule_id: UUID) -> Response:
    schedule = _find(workspace_id, schedule_id)
    return _page(form_of(schedule), schedule=schedule)


def change(workspace_id: UUID, schedule_id: UUID) -> Any:
    """Only what is different is sent: the same rule once more would begin anew."""
    form = request.form.to_dict()
    schedule = _look_for(workspace_id, schedule_id)
    if schedule is None:
        return _as_new(form, workspace_id)
    if seen() not in (None, f'"{tag_of_schedule(schedule)}"'):
        return _changed_meanwhile(form, schedule)
    before = form_of(schedule)
    wrong, body = body_of(form)
    if is_same_text(form.get("payload", ""), before["payload"]):
        wrong.pop("payload", None)
        body.pop("payload", None)
    elif REDACTED in form.get("payload", ""):
        wrong["payload"] = f"What {REDACTED} stands for is not known here: write it anew, or leave all as it was."
    if wrong or "preview" in form:
        return _look_ahead(form, wrong, body, schedule)
    changes = differences(body_of(before)[1], body)
    there = url("schedules.show_schedule", workspace_id=workspace_id, schedule_id=schedule_id)
    if not changes:
        response = redirect(there, 303)
        notify(response, "It was as it is: nothing has changed.")
        return response
    answer = ask("PATCH", _path(workspace_id, schedule_id), changes, if_match=seen())
    if answer.status == ANOTHER:
        return _changed_meanwhile(form, _find(workspace_id, schedule_id))
    if not answer.ok:
        return _page(form, complaints_of(answer), answer.status, schedule=schedule)
    return done(answer, "The schedule is changed.", there)


def delete(workspace_id: UUID, schedule_id: UUID) -> Any:
    answer = ask("DELETE", _path(workspace_id, schedule_id))
    return done(answer, "The schedule is deleted. The jobs that it enqueued stay.", url("schedules.list_schedules"))


def _changed_meanwhile(form: Form, schedule: Schedule) -> Response:
    """As it was typed, with what it is now beside it. Who saves that once more has seen it."""
    now = form_of(schedule)
    kept = {name: value for name, value in form.items() if name != FIELD}
    different = [name for name in now if not is_same_text(kept.get(name, ""), now[name])]
    wrong = {name: f"It is now: {in_words(name, now[name])}." for name in different}
    return _page(kept, {"": CHANGED if wrong else CHANGED_TO_THE_SAME, **wrong}, ANOTHER, schedule=schedule)


def _as_new(form: Form, workspace_id: UUID) -> Response:
    """Of one that was deleted meanwhile what was typed is not lost: it can be made anew."""
    whose = "platform" if workspace_id == PLATFORM_WORKSPACE else "workspace"
    about = {"whose": whose, "workspace": "" if whose == "platform" else str(workspace_id)}
    said = "This schedule was deleted since it was shown to you. With what you typed it can be made anew."
    return _page(form | about, {"": said}, 404)


def _look_ahead(form: Form, wrong: Complaints, body: dict[str, Any], schedule: Schedule | None = None) -> Response:
    """The form again, with the next runs of its rule where that is right."""
    runs: dict[str, Any] | None = None
    if not wrong.keys() & {"cron", "every", "at"}:
        rule = {name: body[name] for name in ("cron", "timezone", "everyMs", "runAt") if name in body}
        answer = ask("POST", "/operator/schedules/preview", rule)
        runs = answer.body if answer.ok else None
        wrong = wrong if answer.ok else complaints_of(answer) | wrong
    return _page(form, wrong, 422 if wrong else 200, schedule=schedule, ahead=runs)


def _page(
    form: Form,
    wrong: Complaints | None = None,
    status: int = 200,
    *,
    schedule: Schedule | None = None,
    ahead: dict[str, Any] | None = None,
) -> Response:
    return render(
        "schedule_form.html",
        status=status,
        form=form,
        wrong=wrong or {},
        schedule=schedule,
        tag=tag_of_schedule(schedule) if schedule else "",
        ahead=ahead,
        runs=[(run["local"], datetime.datetime.fromisoformat(run["runAt"])) for run in (ahead or {}).get("runs", ())],
        rules=RULES,
        whose=WHOSE,
        catch_ups={one.value: words for one, words in CATCH_UPS.items()},
        overlaps={str(one): words for one, words in OVERLAPS.items()},
        known_tasks=current_shell().mounted.tasks.offered_names(),
    )


def _look_for(workspace_id: UUID, schedule_id: UUID) -> Schedule | None:
    with looking() as session:
        return get_schedule(session, workspace_id, schedule_id)


def _find(workspace_id: UUID, schedule_id: UUID) -> Schedule:
    schedule = _look_for(workspace_id, schedule_id)
    if schedule is None:
        raise nothing_here()
    return schedule


def _path(workspace_id: UUID, schedule_id: UUID) -> str:
    whose = "/operator" if workspace_id == PLATFORM_WORKSPACE else f"/workspaces/{workspace_id}"
    return f"{whose}/schedules/{schedule_id}"
