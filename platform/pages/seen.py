"""What a form has shown goes along with it, as a tag: so nobody takes back what somebody else has changed since."""

from __future__ import annotations

import re
from typing import Final

from flask import request

FIELD: Final = "seen"
#: The status of an answer to who has seen something else than what is there.
ANOTHER: Final = 412
CHANGED: Final = (
    "Somebody else has changed this since it was shown to you, and nothing of yours is saved. What you typed still "
    "stands here, and beside it what is there now. Save it once more to have it as you typed it."
)
CHANGED_TO_THE_SAME: Final = (
    "Somebody else has changed this since it was shown to you, and nothing of yours is saved. What is there now "
    "differs from what you typed in nothing that stands here. Save it once more to have it as you typed it."
)
_TAG = re.compile("[0-9a-f]{32}")


def seen() -> str | None:
    """What was shown, as ``If-Match`` has it; what is no tag is that of nothing. None: the form does not say."""
    said = request.form.get(FIELD)
    return said if said is None else f'"{said if _TAG.fullmatch(said) else "none"}"'


def seen_before(status: int) -> dict[str, str]:
    """For a form that is shown again: what it has shown at first, or after a conflict nothing: what is there now."""
    said = request.form.get(FIELD)
    return {} if said is None or status == ANOTHER else {FIELD: said}
