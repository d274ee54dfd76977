"""A schedule made or changed by a form: its next runs are shown before anything is saved, and nothing typed is lost."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask import Response, redirect, request

from jobplatform.api.editing import tag_of_schedule
from jobplatform.models import PLATFORM_WORKSPACE, CatchUp, Overlap, Schedule
from jobplatform.pages.acting import done
from jobplatform.pages.console.typed import AN_INTERVAL, id_of_workspace, milliseconds, moment_in_utc, whole_number
from jobplatform.pages.inner_api import Answer
from jobplatform.pages.notices import notify
from jobplatform.pages.problems import nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.seen import ANOTHER, CHANGED, CHANGED_TO_THE_SAME, FIELD, seen
from jobplatform.pages.shell import Section, ask, current_shell, looking, url
from jobplatform.pages.words import interval
from jobplatform.queue import closed_payload, get_schedule
from jobplatform.redaction import REDACTED, redacted

ONE = "/schedules/<uuid:workspace_id>/<uuid:schedule_id>"

Form = dict[str, str]
#: By the name of a field; under the empty name what belongs to none.
Complaints = dict[str, str]

RULES = {"cron": "By a cron line", "every": "Again and again", "once": "Once"}
WHOSE = {"workspace": "One workspace", "every": "Every workspace", "platform": "The platform itself"}
CATCH_UPS = {CatchUp.NONE: "Leave them out", CatchUp.ONE: "Make up for them once", CatchUp.ALL: "Make up for each"}
OVERLAPS = {"": "As the task says", Overlap.SKIP: "Leave this one out", Overlap.REPLACE: "Replace what waits"}

#: What the API calls it, and what the form does.
_FIELDS = {
    "name": "name",
    "jobType": "task",
    "payload": "payload",
    "cron": "cron",
    "timezone": "timezone",
    "everyMs": "every",
    "runAt": "at",
    "catchUp": "catch_up",
    "spreadMs": "spread",
    "startWithinMs": "start_within",
    "queue": "queue",
    "priority": "priority",
    "ifActive": "if_active",
    "tags": "tags",
    "everyWorkspace": "whose",
}


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
    workspace_id = id_of_workspace(form.get("workspace", ""))
    if whose == "workspace" and workspace_id is None:
        wrong["workspace"] = "This is not the id of a workspace."
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
    if _same_text(form.get("payload", ""), before["payload"]):
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


def form_of(schedule: Schedule) -> Form:
    """A schedule as somebody might have typed it."""
    payload = json.dumps(redacted(closed_payload(schedule)), indent=2, ensure_ascii=False)
    return {
        "name": schedule.name,
        "task": schedule.task,
        "rule": "cron" if schedule.cron else "every" if schedule.every_ms else "once",
        "cron": schedule.cron or "",
        "timezone": schedule.timezone if schedule.cron else "",
        "every": interval(schedule.every_ms),
        "at": schedule.run_at.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S") if schedule.run_at else "",
        "payload": payload,
        "catch_up": schedule.catch_up,
        "spread": interval(schedule.spread_ms or None),
        "start_within": interval(schedule.start_within_ms),
        "queue": schedule.queue or "",
        "priority": "" if schedule.priority is None else str(schedule.priority),
        "if_active": schedule.if_active or "",
        "tags": ", ".join(schedule.tags),
    }


def body_of(form: Mapping[str, str]) -> tuple[Complaints, dict[str, Any]]:
    """What is wrong with what was typed, by field; and the rest of it as the API takes it."""
    typed = {name: value.strip() for name, value in form.items()}
    wrong: Complaints = {}
    body: dict[str, Any] = {
        "jobType": typed.get("task", ""),
        "catchUp": typed.get("catch_up") or CatchUp.ONE.value,
        "spreadMs": _milliseconds(typed, "spread", wrong) or 0,
        "startWithinMs": _milliseconds(typed, "start_within", wrong),
        "queue": typed.get("queue") or None,
        "priority": _whole(typed, "priority", wrong),
        "ifActive": typed.get("if_active") or None,
        "tags": [tag.strip() for tag in typed.get("tags", "").split(",") if tag.strip()],
        **_rule(typed, wrong),
    }
    if typed.get("name"):
        body["name"] = typed["name"]
    if not body["jobType"]:
        wrong["task"] = "Say which task it is to enqueue."
    try:
        body["payload"] = json.loads(typed.get("payload") or "{}")
    except (ValueError, RecursionError) as error:
        wrong["payload"] = f"This is not JSON: {error}."
    return wrong, body


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``after`` is new. A cron line and its time zone are one rule."""
    changes = {name: value for name, value in after.items() if name not in before or before[name] != value}
    if "cron" in changes or "timezone" in changes:
        changes |= {name: after[name] for name in ("cron", "timezone") if name in after}
    return changes


def complaints_of(answer: Answer) -> Complaints:
    """By the form's own fields; everything within the payload stands beside the payload."""
    found: Complaints = {}
    for path, message in answer.complaints.items():
        field, _, rest = path.partition("/")
        name, said = _FIELDS.get(field, ""), f"{rest}: {message}" if rest else message
        found[name] = f"{found[name]} {said}" if name in found else said
    return found or {"": answer.complaint}


def _changed_meanwhile(form: Form, schedule: Schedule) -> Response:
    """As it was typed, with what it is now beside it. Who saves that once more has seen it."""
    now = form_of(schedule)
    kept = {name: value for name, value in form.items() if name != FIELD}
    different = [name for name in now if not _same_text(kept.get(name, ""), now[name])]
    wrong = {name: f"It is now: {_in_words(name, now[name])}." for name in different}
    return _page(kept, {"": CHANGED if wrong else CHANGED_TO_THE_SAME, **wrong}, ANOTHER, schedule=schedule)


def _in_words(name: str, value: str) -> str:
    """What somebody chooses from is called as it is there."""
    choices: dict[str, dict[Any, str]] = {"rule": RULES, "catch_up": CATCH_UPS, "if_active": OVERLAPS}
    return choices[name][value] if name in choices else value or "empty"


def _as_new(form: Form, workspace_id: UUID) -> Response:
    """Of one that was deleted meanwhile what was typed is not lost: it can be made anew."""
    whose = "platform" if workspace_id == PLATFORM_WORKSPACE else "workspace"
    about = {"whose": whose, "workspace": "" if whose == "platform" else str(workspace_id)}
    said = "This schedule was deleted since it was shown to you. With what you typed it can be made anew."
    return _page(form | about, {"": said}, 404)


def _rule(typed: Mapping[str, str], wrong: Complaints) -> dict[str, Any]:
    rule = typed.get("rule")
    if rule == "every":
        every = _milliseconds(typed, "every", wrong)
        if every is None and "every" not in wrong:
            wrong["every"] = "Say how often: 15 min, 2 h, 1 d."
        return {"everyMs": every}
    if rule == "once":
        at = moment_in_utc(typed.get("at", ""))
        if at is None:
            wrong["at"] = "Say when, as 2026-12-01T06:00 in UTC."
        return {"runAt": at}
    if not typed.get("cron"):
        wrong["cron"] = "Say when, as 30 2 * * * for half past two each night."
    return {"cron": typed.get("cron", ""), "timezone": typed.get("timezone") or "UTC"}


def _milliseconds(typed: Mapping[str, str], name: str, wrong: Complaints) -> int | None:
    text = typed.get(name, "")
    found = milliseconds(text)
    if text and found is None:
        wrong[name] = AN_INTERVAL
    return found


def _whole(typed: Mapping[str, str], name: str, wrong: Complaints) -> int | None:
    text = typed.get(name, "")
    found = whole_number(text)
    if text and found is None:
        wrong[name] = "This is not a whole number."
    return found


def _same_text(typed: str, before: str) -> bool:
    """A browser sends line ends of its own."""
    return typed.split() == before.split()


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
