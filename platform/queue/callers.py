"""Callers: whether a verb is called with ids that are ids, and in the name of somebody.

Not every caller has a type checker. What is no id would be found by the driver or by the database, in words that name
neither the verb nor the parameter, and the caller's transaction would be lost with it.
"""

from __future__ import annotations

import functools
import inspect
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, ParamSpec, TypeVar

from jobplatform.errors import InvalidJobError, Problem
from jobplatform.queue.allowed import id_problem
from jobplatform.queue.safe_json import text_problem

P = ParamSpec("P")
T = TypeVar("T")

#: Parameters that say who does something.
NAMES: Final = ("actor", "made_by")

#: An error that lists problems by their paths.
Refusal = Callable[[Sequence[Problem]], Exception]


def reads_ids(refusal: Refusal = InvalidJobError) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """The verb, which raises a ``refusal`` for an id that is none, and for an actor without a name, before it does
    anything. The text of an id is read."""

    def decorate(verb: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(verb)
        parameters = tuple(signature.parameters)
        ids = [(at, name) for at, name in enumerate(parameters) if _is_id(signature, name)]
        actors = [name for name in NAMES if name in parameters]

        @functools.wraps(verb)
        def reading(*args: P.args, **kwargs: P.kwargs) -> T:
            if not actors and all(isinstance(_said(args, kwargs, at, name), uuid.UUID) for at, name in ids):
                return verb(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            given = bound.arguments
            said = [name for _, name in ids if name in given and not _is_left_out(signature, name, given[name])]
            given.update(read_ids(given, said, refusal))
            if problems := list(_problems_of_names(given, actors)):
                raise refusal(problems)
            return verb(*bound.args, **bound.kwargs)

        return reading

    return decorate


def read_ids(given: Mapping[str, Any], names: Sequence[str], refusal: Refusal = InvalidJobError) -> dict[str, Any]:
    """What is given, with the ids of these names read where they are texts. Raises a ``refusal`` for what is no id."""
    found = {name: _read(value) if name in names else value for name, value in given.items()}
    if problems := list(_problems_of_ids({name: found[name] for name in names if name in found})):
        raise refusal(problems)
    return found


def _is_id(signature: inspect.Signature, name: str) -> bool:
    """Annotations are texts here."""
    return str(signature.parameters[name].annotation).removeprefix("uuid.") in ("UUID", "UUID | None")


def _said(args: Sequence[Any], kwargs: Mapping[str, Any], at: int, name: str) -> Any:
    return args[at] if at < len(args) else kwargs.get(name)


def _is_left_out(signature: inspect.Signature, name: str, value: object) -> bool:
    return value is None and signature.parameters[name].default is None


def _read(said: Any) -> Any:
    if not isinstance(said, str):
        return said
    try:
        return uuid.UUID(said)
    except ValueError:
        return said


def _problems_of_ids(given: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in given.items():
        if isinstance(value, str):
            yield Problem(_path(name), f"is not the text of a UUID: {value!r:.100}")
        elif problem := id_problem(value):
            yield Problem(_path(name), problem)


def _problems_of_names(given: Mapping[str, Any], actors: Sequence[str]) -> Iterator[Problem]:
    for name in actors:
        if name in given and (problem := text_problem(given[name]) or ("" if given[name] else "must not be empty")):
            yield Problem(_path(name), problem)


def _path(name: str) -> str:
    first, *others = name.split("_")
    return f"/{first}{''.join(word.capitalize() for word in others)}"
