"""Numbers, durations and moments as people read them. Pure."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import zoneinfo
from collections.abc import Mapping
from typing import Any

MINUTE, HOUR, DAY = 60, 3600, 86_400
#: What is typed with a number, in milliseconds.
UNITS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_ISO = re.compile(r"\b(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z")
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def number(value: float | None) -> str:
    """``12,345``; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """``12 %``, and a decimal where it says something."""
    if value is None:
        return "–"
    shown = value * 100
    return f"{shown:.1f} %" if 0 < shown < 10 else f"{shown:.0f} %"


def as_typed(number: float) -> str:
    """A number as it is typed into a form. Read again it is the very same."""
    return repr(number).removesuffix(".0")


def interval(milliseconds: int | None) -> str:
    """``15 min``: in the largest unit that leaves nothing over, as it is typed into a form. Empty for none."""
    if not milliseconds:
        return ""
    name, size = next((name, size) for name, size in reversed(UNITS.items()) if milliseconds % size == 0)
    return f"{milliseconds // size} {name}"


def in_form(value: Any, name: str) -> Any:
    """A limit as the field of this name has it: a period with its unit, what was typed and all else as it is."""
    return interval(value) if name.endswith("period_ms") and isinstance(value, int) else value


def duration(seconds: float | None) -> str:
    """``0 ms``, ``230 ms``, ``1.2 s``, ``48 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``: two parts at most."""
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if round(seconds) < MINUTE:
        return f"{seconds:.0f} s"
    if round(seconds) < HOUR:
        return _two(round(seconds), MINUTE, "min", 1, "s")
    if seconds < DAY:
        return _two(round(seconds / 60) * 60, HOUR, "h", MINUTE, "min")
    return _two(round(seconds / HOUR) * HOUR, DAY, "d", HOUR, "h")


def ago(moment: datetime.datetime | None, now: datetime.datetime) -> str:
    """``3 min ago``, ``in 2 h``, ``just now``."""
    if moment is None:
        return "–"
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 5:
        return "just now"
    words = coarse(abs(seconds))
    return f"{words} ago" if seconds > 0 else f"in {words}"


def coarse(seconds: float) -> str:
    """One part only."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds)} s"


def moment(at: datetime.datetime | None) -> str:
    """``2026-01-05 09:00:00 UTC``."""
    return "–" if at is None else at.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def local(at: datetime.datetime, timezone: str | None) -> str:
    """The same where a rule is from: ``2026-01-05 10:00 Europe/Berlin``; in UTC where that is said of none."""
    zone = zoneinfo.ZoneInfo(timezone) if timezone else datetime.UTC
    form = "%Y-%m-%d %H:%M:%S" if at.second else "%Y-%m-%d %H:%M"
    return f"{at.astimezone(zone).strftime(form)} {timezone or 'UTC'}"


def readable(text: str) -> str:
    """A sentence for programs and people alike, for people: its moments without their T and Z."""
    return _ISO.sub(r"\1 \2 UTC", text)


def iso(at: datetime.datetime) -> str:
    """For the attribute that scripts and screen readers read."""
    return at.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def pretty(value: Any) -> str:
    """JSON for reading."""
    return _in_order(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def changes(arguments: Mapping[str, Any]) -> str:
    """What a bulk action changes jobs to, as it is kept."""
    words = {"priority": "priority", "queue": "queue", "runAfter": "not before"}
    known = {word: arguments[name] for name, word in words.items() if name in arguments}
    return ", ".join("at once" if value is None else f"{word} {value}" for word, value in known.items())


def short_id(value: Any) -> str:
    """The end of an id tells jobs apart; their beginnings are the moment they were made in."""
    return str(value)[-8:]


def key(text: Any) -> str:
    """The same for the same text, and fit to be in the id of an element: what a row is about, wherever it stands."""
    return hashlib.sha256(str(text).encode("utf-8", "surrogatepass")).hexdigest()[:10]


def _two(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    whole, rest = divmod(seconds, large)
    rest //= small
    return f"{whole} {large_name} {rest} {small_name}" if rest else f"{whole} {large_name}"


def compact(value: Any) -> str:
    """JSON on one line."""
    return _in_order(json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str))


def _in_order(text: str) -> str:
    """Characters that turn the direction of others are written as JSON may write them: what follows stays in place."""
    return _TURNS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
