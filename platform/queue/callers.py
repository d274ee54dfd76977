"""Callers: whether a verb is called with ids that are ids, texts that can be stored, and in the name of somebody.

Not every caller has a type checker. What is no id would be found by the driver or by the database, in words that name
neither the verb nor the parameter, and the caller's transaction would be lost with it.
"""

from __future__ import annotations

import functools
import inspect
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, ParamSpec, TypeVar

from jobplatform.errors import InvalidJobError, Problem
from jobplatform.queue.allowed import COUNTS, id_problem, is_whole, outside
from jobplatform.queue.safe_json import text_problem

P = ParamSpec("P")
T = TypeVar("T")

#: Parameters that say who does something.
NAMES: Final = ("actor", "made_by")

#: An error that lists problems by their paths.
Refusal = Callable[[Sequence[Problem]], Exception]


def reads_ids(refusal: Refusal = InvalidJobError) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """The verb, which raises a ``refusal`` for an id that is none, for a text or a ``limit`` that the database could
    not take, and for an actor without a name, before it does anything. The text of an id is read."""

    def decorate(verb: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(verb)
        parameters = tuple(signature.parameters)
        ids = [(at, name) for at, name in enumerate(parameters) if _is_id(signature, name)]
        texts = [name for name in parameters if str(signature.parameters[name].annotation) in ("str", "str | None")]
        others = bool(texts) or "limit" in parameters

        @functools.wraps(verb)
        def reading(*args: P.args, **kwargs: P.kwargs) -> T:
            if not others and all(isinstance(_said(args, kwargs, at, name), uuid.UUID) for at, name in ids):
                return verb(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            given = bound.arguments
            said = [name for _, name in ids if name in given and not _is_left_out(signature, name, given[name])]
            given.update(read_ids(given, said, refusal))
            said_texts = [name for name in texts if name in given and not _is_left_out(signature, name, given[name])]
            if problems := [*_problems_of_texts(given, said_texts), *_problems_of_limit(given)]:
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


def read_list(name: str, said: Iterable[Any]) -> list[Any]:
    """These ids, read where they are texts. Raises :class:`InvalidJobError` naming the place of each that is none."""
    found = list(map(_read, said))
    if problems := [Problem(f"{_path(name)}/{at}", text) for at, one in enumerate(found) if (text := id_problem(one))]:
        raise InvalidJobError(problems)
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


def _problems_of_texts(given: Mapping[str, Any], names: Sequence[str]) -> Iterator[Problem]:
    for name in names:
        if problem := text_problem(given[name]):
            yield Problem(_path(name), problem)
        elif name in NAMES and not given[name]:
            yield Problem(_path(name), "must not be empty")


def _problems_of_limit(given: Mapping[str, Any]) -> Iterator[Problem]:
    if "limit" in given and not is_whole(given["limit"], COUNTS):
        yield outside(COUNTS, "/limit")


def _path(name: str) -> str:
    first, *others = name.split("_")
    return f"/{first}{''.join(word.capitalize() for word in others)}"
