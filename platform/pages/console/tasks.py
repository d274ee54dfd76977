"""Tasks: what each takes and how it is run, and a form that enqueues a job of one to see whether it works."""

from __future__ import annotations

import json
import secrets
from typing import Any
from urllib.parse import quote

from flask import Response, redirect, request

from jobplatform.api.editing import tag_of_task_limits
from jobplatform.models import TaskLimits
from jobplatform.pages.acting import done, key_of_form
from jobplatform.pages.console.limits import (
    TASK_LIMITS,
    beside_what_is_now,
    limits_in_form,
    typed_in_form,
    values_in_form,
    wrong_with,
)
from jobplatform.pages.console.pausing import pause_it, resume_it
from jobplatform.pages.console.typed import whole_number
from jobplatform.pages.console.whose import typed_workspace
from jobplatform.pages.notices import notify
from jobplatform.pages.problems import PageError, nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.seen import ANOTHER, seen
from jobplatform.pages.shell import Section, ask, looking, url
from jobplatform.queue import pages


def make_tasks() -> Section:
    section = Section("tasks", __name__)
    section.page("/tasks")(list_tasks)
    section.page("/tasks/<path:task>/new", "job.enqueue")(new_job)
    section.action("/tasks/<path:task>/new", "job.enqueue")(enqueue)
    section.action("/tasks/<path:task>/pause", "pause")(pause)
    section.action("/tasks/<path:task>/resume", "pause")(resume)
    section.action("/tasks/<path:task>/limits", "limit")(limit)
    section.page("/tasks/<path:task>")(show_task)
    return section


def list_tasks() -> Response:
    with looking() as session:
        lines = pages.task_lines(session)
    return render("tasks.html", lines=lines)


def show_task(task: str) -> Response:
    return _page(task)


def new_job(task: str) -> Response:
    form = {"workspace": request.args.get("workspace", ""), "payload": example_of(schema_of(_line(task)))}
    return _form(task, form, {})


def enqueue(task: str) -> Any:
    """What is wrong is said beside its field, and nothing that was typed is lost."""
    form = request.form.to_dict()
    wrong, body = _body(task, form)
    workspace_id, complaint = typed_workspace(form.get("workspace", ""))
    if complaint:
        wrong["workspace"] = complaint
    try:
        key = key_of_form()
    except PageError as error:
        wrong[""] = error.detail
    if wrong:
        return _form(task, form, wrong, 422)
    answer = ask("POST", f"/workspaces/{workspace_id}/jobs", body, key=key)
    if not answer.ok:
        return _form(task, form, _by_field(answer.complaints) or {"": answer.complaint}, answer.status)
    response = redirect(url("job.show_job", workspace_id=workspace_id, job_id=answer.body["jobId"]), 303)
    notify(response, "The job is enqueued.")
    return response


def pause(task: str) -> Any:
    return pause_it("task", task)


def resume(task: str) -> Any:
    return resume_it("task", task)


def limit(task: str) -> Any:
    """An empty field is no limit, whatever the code says."""
    path = f"/operator/tasks/{quote(task, safe='')}/limits"
    answer = ask("PATCH", path, limits_in_form(TASK_LIMITS), if_match=seen())
    if not answer.ok:
        return _page(task, wrong_with(answer, TASK_LIMITS), answer.status)
    return done(answer, "The limits count from the next claim on.")


def schema_of(line: pages.TaskLine) -> dict[str, Any] | None:
    """What its payload may be, as a JSON schema, where the task has one."""
    found = (line.details or {}).get("payload_schema")
    return found if isinstance(found, dict) else None


def example_of(schema: dict[str, Any] | None) -> str:
    """A payload to begin with: every field that has to be there, and those with a default."""
    properties = (schema or {}).get("properties", {})
    required = set((schema or {}).get("required", ()))
    filled = {
        name: about["default"] if "default" in about else _blank(about)
        for name, about in properties.items()
        if isinstance(about, dict) and (name in required or "default" in about)
    }
    return json.dumps(filled, indent=2, ensure_ascii=False)


def _blank(about: dict[str, Any]) -> Any:
    if about.get("enum"):
        return about["enum"][0]
    kind = about.get("type")
    kind = next((one for one in kind if one != "null"), None) if isinstance(kind, list) else kind
    return {"integer": 0, "number": 0, "boolean": False, "array": [], "object": {}}.get(str(kind), "")


def _page(task: str, wrong: dict[str, str] | None = None, status: int = 200) -> Response:
    """``wrong``: with the form of its limits, which is shown again as it was typed."""
    one = _line(task)
    limits = one.limits or TaskLimits(task=task)
    if status == ANOTHER:
        wrong = beside_what_is_now(values_in_form(TASK_LIMITS), {name: getattr(limits, name) for name in TASK_LIMITS})
    details = dict(one.details or {})
    details.pop("payload_schema", None)
    return render(
        "task.html",
        status=status,
        one=one,
        details=details,
        schema=schema_of(one),
        fields=TASK_LIMITS,
        typed=typed_in_form(TASK_LIMITS, status) if wrong else {},
        wrong=wrong or {},
        tag=tag_of_task_limits(limits),
    )


def _line(task: str) -> pages.TaskLine:
    with looking() as session:
        found = next((line for line in pages.task_lines(session) if line.name == task), None)
    if found is None:
        raise nothing_here()
    return found


def _body(task: str, form: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    wrong: dict[str, str] = {}
    body: dict[str, Any] = {"jobType": task, "tags": ["test"]}
    try:
        body["payload"] = json.loads(form.get("payload") or "{}")
    except (ValueError, RecursionError) as error:
        wrong["payload"] = f"This is not JSON: {error}."
    for name, inside in (("priority", "priority"), ("delay", "delayMs")):
        text = form.get(name, "").strip()
        number = whole_number(text)
        if number is not None:
            body[inside] = number * (1000 if name == "delay" else 1)
        elif text:
            wrong[name] = "This is not a whole number."
    return wrong, body


def _by_field(complaints: dict[str, str]) -> dict[str, str]:
    """As the form calls its fields; all of a payload's stand beside the payload."""
    found: dict[str, str] = {}
    for path, message in complaints.items():
        field, _, rest = path.partition("/")
        name = {"delayMs": "delay"}.get(field, field)
        name = name if name in ("payload", "priority", "delay", "workspace") else ""
        said = f"{rest}: {message}" if rest else message
        found[name] = f"{found[name]} {said}" if name in found else said
    return found


def _form(task: str, form: dict[str, str], wrong: dict[str, str], status: int = 200) -> Response:
    one = _line(task)
    # So that the same form sent twice enqueues once.
    once = secrets.token_urlsafe(16)
    return render("task_new.html", status=status, one=one, schema=schema_of(one), form=form, wrong=wrong, once=once)
