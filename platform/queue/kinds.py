"""Kinds: what an argument may be, by the annotation of its parameter. Pure.

Annotations are texts here, and few: those of values have a line in :data:`KINDS`; lists and mappings are known by how
they begin; anything else is a name, of words or of a class.
"""

from __future__ import annotations

import datetime
import enum
import types
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin

from jobplatform.errors import Problem
from jobplatform.queue.allowed import (
    COUNTS,
    PRIORITIES,
    VERSIONS,
    duration_problem,
    id_problem,
    is_number,
    is_whole,
    list_problem,
    moment_problem,
    outside,
    session_problem,
)
from jobplatform.queue.safe_json import text_problem

#: Parameters that say who does something.
NAMES: Final = ("actor", "made_by")
#: What of whole numbers is no count. ``before`` is of a log that only grows.
NUMBERS: Final = {"before": range(2**63), "key_id": VERSIONS, "priority": PRIORITIES}
#: So far back the database can look from now.
LONGEST: Final = datetime.timedelta(days=36_500)
LISTS: Final = ("Sequence", "Iterable", "Collection")

#: A text of which what cannot be stored is replaced: to write it down is not to fail because of that.
AnyText = str

#: What is wrong with the argument of a parameter of this name.
Check = Callable[[str, Any], str | None]


class Kind(NamedTuple):
    """What an argument has to be, by a check of it and one of ``each`` thing in it; ``read`` gives it as the verb is to
    have it, and leaves alone what is wrong."""

    check: Check
    each: Check | None = None
    read: Callable[[Any], Any] = lambda said: said
    may_be_none: bool = False

    def problems(self, name: str, said: Any) -> Iterator[Problem]:
        """What is wrong with what is said for this parameter, as it was read."""
        if said is None and self.may_be_none:
            return
        if problem := self.check(name, said):
            yield Problem(_path(name), problem)
        elif self.each is not None:
            yield from self._problems_of_each(self.each, name, said)

    def _problems_of_each(self, each: Check, name: str, said: Iterable[Any]) -> Iterator[Problem]:
        for at, one in enumerate(said):
            if problem := each(name, one):
                yield Problem(f"{_path(name)}/{at}", problem)


def kinds_of(annotations: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, Kind]:
    """The kinds that these annotations ask for, by parameter; ``known`` are the names of their module. What has none
    may be anything, or the verb itself looks more closely."""
    found = {name: _kind_of(annotation, known) for name, annotation in annotations.items()}
    return {name: kind for name, kind in found.items() if kind is not None}


def problems_of(said: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Iterator[Problem]:
    """What is wrong with what is said, by parameter."""
    for name, value in said.items():
        if name in kinds:
            yield from kinds[name].problems(name, value)


def problems_of_fields(one: object, kinds: Mapping[str, Kind]) -> Iterator[Problem]:
    """The same of what was made of arguments."""
    return problems_of({name: getattr(one, name) for name in kinds}, kinds)


def _kind_of(annotation: str, known: Mapping[str, Any]) -> Kind | None:
    wanted = annotation.removesuffix(" | None")
    if wanted in LEFT_TO_THE_VERB:
        return None
    found = KINDS.get(wanted) or _kind_by_name(wanted, known)
    return found._replace(may_be_none=wanted != annotation)


def _kind_by_name(wanted: str, known: Mapping[str, Any]) -> Kind:
    name, _, parts = wanted.removesuffix(" | str").partition("[")
    if name == "Mapping":
        return Kind(_no_mapping)
    if name not in LISTS:
        words = _words_of(known.get(name))
        return Kind(_none_of(words) if words else _no_instance_of(_classes_of(name, known.get(name))))
    inner = _kind_of(parts[:-1], known)
    return Kind(_no_list, inner and inner.check, _reader_of_list(inner))


def _words_of(named: object) -> Sequence[str]:
    if isinstance(named, type) and issubclass(named, enum.StrEnum):
        return [str(word) for word in named]
    return get_args(named) if get_origin(named) is Literal else ()


def _classes_of(name: str, named: object) -> Sequence[str]:
    """By name: who names a class for the type checker alone does not have it at hand."""
    classes = get_args(named) if isinstance(named, types.UnionType) else ()
    return [one.__name__ for one in classes] or [name.rpartition(".")[2]]


def _reader_of_list(inner: Kind | None) -> Callable[[Any], Any]:
    """Looked at once, and walked by the verb after that."""
    read: Callable[[Any], Any] = inner.read if inner else lambda said: said
    return lambda said: said if list_problem(said) else [read(one) for one in said]


# -- checks ------------------------------------------------------------------------------------------


def _no_id(_name: str, said: Any) -> str | None:
    return f"is not the text of a UUID: {said!r:.100}" if isinstance(said, str) else id_problem(said)


def _no_pair_of_ids(name: str, said: Any) -> str | None:
    if isinstance(said, tuple) and len(said) == 2:
        return next((problem for one in said if (problem := _no_id(name, one))), None)
    return f"must be the pair of a workspace's id and a job's, and is {said!r:.100}"


def _no_text(name: str, said: Any) -> str | None:
    return text_problem(said) or ("must not be empty" if name in NAMES and not said else None)


def _no_text_at_all(_name: str, said: Any) -> str | None:
    return None if isinstance(said, str) else text_problem(said)


def _no_answer(_name: str, said: Any) -> str | None:
    return None if isinstance(said, bool) else f"must be True or False, and is {said!r:.100}"


def _no_whole_number(name: str, said: Any) -> str | None:
    allowed = NUMBERS.get(name, COUNTS)
    return None if is_whole(said, allowed) else outside(allowed, "").message


def _no_number(_name: str, said: Any) -> str | None:
    return None if is_number(said) else f"must be a number, and is {said!r:.100}"


def _no_duration(name: str, said: Any) -> str | None:
    if problem := duration_problem(name, said):
        return problem
    return None if abs(said) <= LONGEST else f"must be at most {LONGEST.days} days"


def _no_mapping(_name: str, said: Any) -> str | None:
    if not isinstance(said, Mapping):
        return f"must be a mapping, and is a {type(said).__name__}: write {{…}}"
    return next((f"has a key that is no text: {key!r:.100}" for key in said if not isinstance(key, str)), None)


def _no_list(_name: str, said: Any) -> str | None:
    return list_problem(said)


def _none_of(words: Sequence[str]) -> Check:
    return lambda _name, said: (
        None if isinstance(said, str) and said in words else f"must be one of {', '.join(words)}, and is {said!r:.100}"
    )


def _no_instance_of(classes: Sequence[str]) -> Check:
    def check(_name: str, said: Any) -> str | None:
        if any(known.__name__ in classes for known in type(said).__mro__):
            return None
        return f"must be a {' or '.join(classes)}, and is a {type(said).__name__}"

    return check


def _no_session(_name: str, said: Any) -> str | None:
    return session_problem(said)


def _path(name: str) -> str:
    first, *others = name.split("_")
    return f"/{first}{''.join(word.capitalize() for word in others)}"


def _read_id(said: Any) -> Any:
    if not isinstance(said, str):
        return said
    try:
        return uuid.UUID(said)
    except ValueError:
        return said


def _read_pair(said: Any) -> Any:
    return tuple(map(_read_id, said)) if isinstance(said, tuple) else said


_ID = Kind(_no_id, read=_read_id)

KINDS: Final[Mapping[str, Kind]] = {
    "Session": Kind(_no_session),
    "UUID": _ID,
    "uuid.UUID": _ID,
    "uuid.UUID | str": _ID,
    "tuple[uuid.UUID, uuid.UUID]": Kind(_no_pair_of_ids, read=_read_pair),
    "str": Kind(_no_text),
    "AnyText": Kind(_no_text_at_all),
    "tuple[str, ...]": Kind(_no_list, _no_text),
    "bool": Kind(_no_answer),
    "int": Kind(_no_whole_number),
    "float": Kind(_no_number),
    "datetime.datetime": Kind(moment_problem),
    "datetime.timedelta": Kind(_no_duration),
}
#: A limit, which is looked at with the others; rows of several kinds; a protocol.
LEFT_TO_THE_VERB: Final = ("Any", "object", "int | Adaptive", "Shown", "Files")
