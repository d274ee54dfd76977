"""Pausing and resuming, wherever a page shows something that can be paused."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import request

from jobplatform.pages.acting import done
from jobplatform.pages.shell import ask

DEFAULT_REASON = "paused in the console"


def pause_it(kind: str, key: str) -> Any:
    """A reason is asked for, as whoever finds it paused will want to know."""
    reason = request.form.get("reason", "").strip() or DEFAULT_REASON
    answer = ask("PUT", f"/operator/pauses/{kind}/{quote(key, safe='')}", {"reason": reason})
    return done(answer, f"Nothing more of {key} is started. What runs goes on to its end.")


def resume_it(kind: str, key: str) -> Any:
    answer = ask("DELETE", f"/operator/pauses/{kind}/{quote(key, safe='')}")
    return done(answer, f"{key} goes on.")
