"""From a step: which of the things that a job has done come before one of them. Pure.

Of what has one moment, as it once had what was saved in one commit, neither is before the other: both are done again.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from jobplatform.errors import InvalidJobError, Problem
from jobplatform.models import CHECKPOINT_PART, JobStep

#: Names that are listed where one is not found.
MOST_NAMES = 20


def done_before(steps: Sequence[JobStep], name: str) -> list[JobStep]:
    """Of the steps and the checkpoint those that were saved before the step ``name`` was; parts go with the checkpoint.

    Raises :class:`InvalidJobError` when there is no such step.
    """
    parts = [step for step in steps if step.name.startswith(CHECKPOINT_PART)]
    others = [step for step in steps if not step.name.startswith(CHECKPOINT_PART)]
    found = next((step for step in others if step.name == name != ""), None)
    if found is None:
        raise unknown_step(name, [step.name for step in others if step.name])
    before = [step for step in others if step.saved_at < found.saved_at]
    return before + (parts if any(step.name == "" for step in before) else [])


def unknown_step(name: str, known: Sequence[str]) -> InvalidJobError:
    """What to raise where ``name`` is none of the steps that the job has done."""
    return InvalidJobError([Problem("/fromStep", _unknown(name, known))])


def _unknown(name: str, known: Sequence[str]) -> str:
    if not known:
        return f"{name!r} is not a step that the job has done: it has done none"
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"{name!r} is not a step that the job has done; did you mean {near[0]!r}?"
    more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
    return f"{name!r} is not a step that the job has done; those are {', '.join(known[:MOST_NAMES])}{more}"
