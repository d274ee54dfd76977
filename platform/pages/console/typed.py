"""What was typed into a form, as the API takes it. What is none of it goes as it is: the API says what is wrong."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any, Final

from jobplatform.api.schemas.fields import NO_MOMENT
from jobplatform.pages.words import UNITS

_WHOLE = re.compile("-?[0-9]{1,15}")
_IN_THOUSANDS = re.compile(r"-?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?")
_INTERVAL = re.compile(rf"([0-9]{{1,12}})\s*({'|'.join(UNITS)})")
#: How an interval is typed.
AN_INTERVAL: Final = "Write it as 90 s, 15 min, 2 h or 1 d."
#: What is to be different about jobs, as the API calls it and as the form does.
_CHANGES: Final = {"priority": "priority", "queue": "queue", "runAfter": "run_after"}


def whole_number(text: str) -> int | None:
    """A whole number. None for what is none."""
    return int(text) if _WHOLE.fullmatch(text) else None


def ungrouped(text: str) -> str:
    """A number without the commas between its thousands. Any other comma stays: 1,5 is not 15."""
    return text.replace(",", "") if _IN_THOUSANDS.fullmatch(text) else text


def milliseconds(text: str) -> int | None:
    """An interval with its unit: a number alone might mean any. None for what is none."""
    found = _INTERVAL.fullmatch(text.strip())
    return int(found[1]) * UNITS[found[2]] if found else None


def moment_in_utc(text: str) -> str | None:
    """A moment as a browser writes it, or with an offset as somebody does. None for what is none."""
    try:
        moment = datetime.datetime.fromisoformat(text.replace(" ", "T"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC).isoformat()
    except (ValueError, OverflowError):
        return None


def change_of_job(form: Mapping[str, str]) -> dict[str, Any]:
    """What is to be different about jobs that wait. A field that was left empty says nothing."""
    typed = {name: form.get(name, "").strip() for name in ("priority", "queue", "run_after")}
    changes: dict[str, Any] = {}
    if priority := typed["priority"]:
        number = whole_number(priority)
        changes["priority"] = priority if number is None else number
    if typed["queue"]:
        changes["queue"] = typed["queue"]
    if form.get("at_once"):
        changes["runAfter"] = None
    elif typed["run_after"]:
        changes["runAfter"] = moment_in_utc(typed["run_after"]) or typed["run_after"]
    return changes


def typed_change(form: Mapping[str, str]) -> dict[str, str]:
    """The same as it was typed, for a form that is shown again."""
    return {name: form.get(name, "") for name in (*_CHANGES.values(), "at_once")}


def wrong_with_change(form: Mapping[str, str], complaints: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with such a form, by its fields; under the empty name what belongs to none. ``complaints`` are the
    API's, by the names that it has."""
    if form.get("at_once") and form.get("run_after", "").strip():
        return {"run_after": "At once, or not before a moment: say one of them."}
    return {_CHANGES.get(name, ""): _in_words_of_the_form(name, message) for name, message in complaints.items()}


def _in_words_of_the_form(name: str, message: str) -> str:
    if name == "runAfter" and message == NO_MOMENT:
        return "Write it as 2031-01-01T06:00, in UTC."
    return message if name in _CHANGES else "Say what is to be different: the priority, the queue or the moment."
