"""What the bodies of a child's frames say, as far as the parent reads them. Pure.

A handler shares its process with whoever writes these: it may have written to the pipe itself. So nothing is taken for
granted here, and what cannot be right raises :class:`BodyError`. Results and progress pass through as text, which the
database reads.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from jobplatform.models import Outcome
from jobplatform.queue import Happening
from jobplatform.worker.frames import LEVELS

Types = tuple[type, ...]

TEXT: Final[Types] = (str,)
NUMBER: Final[Types] = (int, float)
FLAG: Final[Types] = (bool,)
MAYBE_TEXT: Final[Types] = (str, type(None))

#: The members of an :class:`~jobplatform.queue.Ended`. A delay may be infinite: handlers have snoozed for ever.
END: Final[Mapping[str, Types]] = {
    "kind": TEXT,
    "outcome": TEXT,
    "result": TEXT,
    "error_type": TEXT,
    "message": TEXT,
    "traceback": MAYBE_TEXT,
    "delay": NUMBER,
    "retry": FLAG,
    "closes": MAYBE_TEXT,
    "closed_for": NUMBER,
    "infrastructure": FLAG,
    "too_often": FLAG,
}
KINDS: Final = frozenset({"completed", "completed_in", "snoozed", "failed", "interrupted"})
OUTCOMES: Final = frozenset(Outcome)
#: Whose outcome is any class's own word.
WITH_A_REASON: Final = "interrupted"

RECORD: Final[Mapping[str, Types]] = {
    "name": TEXT,
    "levelno": (int,),
    "levelname": TEXT,
    "msg": TEXT,
    "created": NUMBER,
    "extra": (dict,),
}


class BodyError(Exception):
    """A child sent a body that its parent cannot read: its process is not to be trusted any more."""


def decode_end(body: bytes) -> dict[str, Any]:
    """How an attempt ended, other than with a plain result."""
    end = _with(END, body, "an end of an attempt")
    if end["kind"] not in KINDS or (end["kind"] != WITH_A_REASON and end["outcome"] not in OUTCOMES):
        raise BodyError(f"a child sent an end that does not exist: {end['kind'][:40]!r}, {end['outcome'][:40]!r}")
    return end


def decode_line(body: bytes) -> tuple[str, str]:
    """The level and the text of a line to be kept with the job."""
    match _decoded(body, "a log line"):
        case [str(level), str(message)] if level in LEVELS:
            return level, message
        case _:
            raise _unreadable("a log line", body)


def decode_record(body: bytes) -> dict[str, Any]:
    """The fields of a log record; ``extra`` has those that a caller has added."""
    return _with(RECORD, body, "a log record")


def decode_happenings(body: bytes) -> dict[Happening, int]:
    """What handlers have enqueued, and how often."""
    happened: dict[Happening, int] = {}
    for one in _list(body, "counts"):
        match one:
            case ["enqueued" | "conflict" as kind, str(queue), str(task), int(count)] if count >= 0:
                happened[Happening(kind, queue, task)] = count
            case _:
                raise _unreadable("counts", body)
    return happened


def _with(members: Mapping[str, Types], body: bytes, what: str) -> dict[str, Any]:
    value = _decoded(body, what)
    if not isinstance(value, dict) or not value.keys() >= members.keys():
        raise _unreadable(what, body)
    if not all(isinstance(value[name], types) for name, types in members.items()):
        raise _unreadable(what, body)
    return value


def _list(body: bytes, what: str) -> list[Any]:
    value = _decoded(body, what)
    if not isinstance(value, list):
        raise _unreadable(what, body)
    return value


def _decoded(body: bytes, what: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _unreadable(what, body) from error


def _unreadable(what: str, body: bytes) -> BodyError:
    return BodyError(f"a child sent {what} that cannot be read: {body[:80]!r}")
