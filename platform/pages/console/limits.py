"""Limits as forms have them: of a workspace or a plan, of a task, and rates of external resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from flask import request

from jobplatform.api.schemas.fields import camel
from jobplatform.pages.console.typed import AN_INTERVAL, milliseconds, ungrouped, whole_number
from jobplatform.pages.inner_api import Answer
from jobplatform.pages.seen import CHANGED, CHANGED_TO_THE_SAME, seen_before
from jobplatform.pages.words import in_form

#: What a form may set, with what it is called and what is said about it.
LIMITS: Final = {
    "weight": ("Weight", "Its share of the slots against others', 1 to 100"),
    "max_running": ("Running at most", "Jobs at a time"),
    "max_pending": ("Waiting at most", "Jobs; more are refused"),
    "rate_units": ("Rate: jobs", "Jobs that start in each period"),
    "rate_period_ms": ("Rate: period", "Such as 10 s, 5 min or 1 h"),
}
#: Of a queue.
QUEUE_LIMIT: Final = ("max_running",)
#: Of a task.
TASK_LIMITS: Final = {
    "max_running": ("Running at most", "Jobs of it at a time, over all workspaces"),
    "max_running_per_workspace": ("In each workspace", "Jobs of it at a time, of one workspace"),
}
#: Of what jobs use outside: how many use it at a time, and how much of it.
RESOURCE_LIMIT: Final = {
    "max_running": ("Running at most", "Jobs that use it at a time; empty for no limit"),
    "min_running": (
        "Adaptive from",
        "It finds out how many it takes, no fewer than so many; empty for a fixed limit",
    ),
}
RATE: Final = {
    "units": ("Units", "What jobs may use in each period"),
    "period_ms": ("Period", "Such as 10 s, 5 min or 1 h"),
    "burst": ("At once", "Units; empty for as many as in a period"),
}


def limits_in_form(names: Iterable[str] = LIMITS) -> dict[str, Any]:
    """As the API takes them. An empty field clears."""
    return {camel(name): value for name, value in values_in_form(names).items()}


def wrong_with(answer: Answer, names: Iterable[str] = LIMITS) -> dict[str, str]:
    """What the API says of a form's fields, by field; under the empty name what belongs to none of them."""
    if answer.ok:
        return {}
    fields = {camel(name): name for name in names}
    wrong = {fields.get(path, ""): _plain(path, message) for path, message in answer.complaints.items()}
    if not wrong or "" in wrong:
        wrong[""] = answer.complaint
    return wrong


def _plain(path: str, message: str) -> str:
    """An empty field is none for the API, which has words of its own for that; and a period a number."""
    if message.startswith(("Field may not be null", "Missing data")):
        return "This is needed."
    return f"{AN_INTERVAL} At most a year." if path.endswith("eriodMs") and message.startswith("Must be") else message


def typed_in_form(names: Iterable[str] = LIMITS, status: int = 0) -> dict[str, str]:
    """As it was typed, for a form that is shown again with this status."""
    return {name: request.form.get(name, "") for name in names} | seen_before(status)


def beside_what_is_now(typed: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What is to be read beside each field of a form that somebody else has been quicker with, both as values."""
    different = {name: f"It is {_shown(now[name], name)} now." for name in now if typed[name] != now[name]}
    return {"": CHANGED if different else CHANGED_TO_THE_SAME, **different}


def values_in_form(names: Iterable[str] = LIMITS) -> dict[str, Any]:
    """What was typed, by the names of the fields."""
    return {name: _value(name, request.form.get(name, "").strip()) for name in names}


def _shown(value: Any, name: str) -> Any:
    return "empty" if value is None else in_form(value, name)


def _value(name: str, text: str) -> Any:
    """A number where it is one; else as it is, and the API says what is wrong with it."""
    if not text:
        return None
    number = milliseconds(text) if name.endswith("period_ms") else whole_number(ungrouped(text))
    return text if number is None else number
