"""Resources: what a task's jobs use outside, named by the task for each payload. Pure.

>>> template = Template("hubspot:{account}")
>>> template.fill({"account": 4711}, with_defaults=dict)
'hubspot:4711'
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jobplatform.errors import InvalidPayloadError, Problem, TaskDefinitionError
from jobplatform.queue.allowed import COUNTS
from jobplatform.queue.safe_json import text_problem

LONGEST_RESOURCE = 200

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def resource_problem(name: str) -> str | None:
    """What is wrong with the name of a resource, or None."""
    if problem := text_problem(name):
        return problem
    if not name:
        return "must not be empty"
    if len(name) > LONGEST_RESOURCE:
        return f"must be at most {LONGEST_RESOURCE} characters"
    # chr(31) stands between task and resource where lanes are told apart.
    return "must not contain control characters" if _CONTROL.search(name) else None


@dataclass(frozen=True, slots=True)
class Adaptive:
    """A limit that finds itself: of each resource by itself so many jobs run at a time as it turns out to take, never
    fewer than ``least`` and never more than ``most``.

    >>> str(Adaptive(1, 50))
    '1..50'
    """

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}..{self.most}"


def adaptive_problem(limit: Adaptive) -> str | None:
    """What is wrong with a limit as code has it, or None."""
    if type(limit.least) is not int or type(limit.most) is not int or not 1 <= limit.least <= limit.most:
        return "must be from a whole number of at least 1 to one that is no less, as in Adaptive(1, 50)"
    return None if limit.most in COUNTS else f"must be to a whole number of at most {COUNTS[-1]}"


class Template:
    """A resource's name with fields of the payload in it, by their JSON names: ``hubspot:{account}``.

    Raises :class:`TaskDefinitionError` for what is no such template.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.fields = tuple(_fields_of(text))
        self.rule = _rule_of(text)
        """What a limit for it is set for: the resource itself or, where fields tell them apart, each of its kind
        (``hubspot:*``). None if it is a payload that says which kind."""

    def fill(self, payload: Any, with_defaults: Callable[[], Any]) -> str:
        """The name for a payload. ``with_defaults`` is asked for the payload only if a field is missing in it.

        Raises :class:`InvalidPayloadError` naming each field that is missing or cannot be part of a name.
        """
        values = payload if isinstance(payload, Mapping) else {}
        if any(name not in values for name in self.fields):
            values = with_defaults()
        problems = [Problem(f"/{name}", problem) for name in self.fields if (problem := _problem(values, name))]
        if problems:
            raise InvalidPayloadError(problems)
        return self.text.format_map({name: values[name] for name in self.fields})


def _fields_of(text: str) -> list[str]:
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise TaskDefinitionError(f"the resource {text!r} is no template: {error}") from None
    names = []
    for _, name, specification, conversion in parts:
        if name is None:
            continue
        if not name.isidentifier() or specification or conversion:
            raise TaskDefinitionError(
                f"the resource {text!r} may have fields of the payload in it, such as {{account}}, and nothing else"
            )
        names.append(name)
    return names


def _rule_of(text: str) -> str | None:
    (before, field, *_), *more = [*string.Formatter().parse(text), ("", None)]
    if field is None:
        return before + "".join(literal for literal, *_ in more)
    kind, colon, _ = before.partition(":")
    return f"{kind}:*" if kind and colon else None


def _problem(values: Mapping[str, Any], name: str) -> str | None:
    if name not in values:
        return "is missing: it is part of the name of the resource that the job uses"
    if isinstance(values[name], bool) or not isinstance(values[name], str | int):
        return "must be a text or a whole number: it is part of the name of the resource that the job uses"
    return None
