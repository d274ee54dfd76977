"""A schedule as somebody types it, and as the API takes it: what is wrong with it, and what is different. Pure."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from jobplatform.models import CatchUp, Overlap, Schedule
from jobplatform.pages.console.typed import AN_INTERVAL, milliseconds, moment_in_utc, whole_number
from jobplatform.pages.inner_api import Answer
from jobplatform.pages.words import interval
from jobplatform.queue import closed_payload
from jobplatform.redaction import redacted

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
    """What the API found wrong, by the form's own fields. Everything within the payload stands beside the payload."""
    found: Complaints = {}
    for path, message in answer.complaints.items():
        field, _, rest = path.partition("/")
        name, said = _FIELDS.get(field, ""), f"{rest}: {message}" if rest else message
        found[name] = f"{found[name]} {said}" if name in found else said
    return found or {"": answer.complaint}


def in_words(name: str, value: str) -> str:
    """A field's value as people see it: what they choose from by the words of the choice."""
    choices: dict[str, dict[Any, str]] = {"rule": RULES, "catch_up": CATCH_UPS, "if_active": OVERLAPS}
    return choices[name][value] if name in choices else value or "empty"


def is_same_text(typed: str, before: str) -> bool:
    """Whether two texts differ in white space at most: a browser sends line ends of its own."""
    return typed.split() == before.split()


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
