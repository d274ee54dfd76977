"""Pausing and resuming, wherever a page shows something that can be paused."""

from __future__ import annotations

import datetime
from typing import Any, Final
from urllib.parse import quote

from flask import request

from jobplatform.pages.acting import done
from jobplatform.pages.shell import ask, looking
from jobplatform.pages.words import moment
from jobplatform.queue import time_now

DEFAULT_REASON: Final = "paused in the console"
LONGEST: Final = datetime.timedelta(days=366)


def pause_it(kind: str, key: str, called: str = "") -> Any:
    """A reason is asked for, as whoever finds it paused will want to know; and for how long, which may be open."""
    reason, until = request.form.get("reason", "").strip() or DEFAULT_REASON, _until()
    body = {"reason": reason, "until": until.isoformat() if until else None}
    answer = ask("PUT", f"/operator/pauses/{kind}/{quote(key, safe='')}", body)
    ends = f" until {moment(until)}" if until else ""
    return done(answer, f"Nothing more of {called or key} is started{ends}. What runs goes on to its end.")


def resume_it(kind: str, key: str, called: str = "") -> Any:
    """Somebody else may have been quicker."""
    answer = ask("DELETE", f"/operator/pauses/{kind}/{quote(key, safe='')}")
    refusal = "It was not paused any more." if answer.status == 404 else ""
    return done(answer, f"{called or key} goes on.", refusal=refusal)


def _until() -> datetime.datetime | None:
    """The form has seconds, which begin by the database's clock; nothing, and nonsense, is until somebody resumes."""
    text = request.form.get("lasting", "")
    lasting = datetime.timedelta(seconds=int(text)) if text.isdecimal() and len(text) < 10 else None
    if not lasting or lasting > LONGEST:
        return None
    with looking() as session:
        return time_now(session) + lasting
