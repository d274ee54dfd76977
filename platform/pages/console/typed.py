"""What was typed into a form, as the API takes it. What is none of it goes as it is: the API says what is wrong."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any


def moment_in_utc(text: str) -> str | None:
    """A moment as a browser writes it. None for what is none."""
    try:
        return datetime.datetime.fromisoformat(text.replace(" ", "T")).replace(tzinfo=datetime.UTC).isoformat()
    except ValueError:
        return None


def change_of_job(form: Mapping[str, str]) -> dict[str, Any]:
    """What is to be different about jobs that wait. A field that was left empty says nothing."""
    typed = {name: form.get(name, "").strip() for name in ("priority", "queue", "run_after")}
    changes: dict[str, Any] = {}
    if priority := typed["priority"]:
        is_whole = priority.removeprefix("-").isdecimal() and len(priority) < 10
        changes["priority"] = int(priority) if is_whole else priority
    if typed["queue"]:
        changes["queue"] = typed["queue"]
    if form.get("at_once"):
        changes["runAfter"] = None
    elif typed["run_after"]:
        changes["runAfter"] = moment_in_utc(typed["run_after"]) or typed["run_after"]
    return changes
