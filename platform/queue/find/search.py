"""Search: what people write into a box to find jobs, as values. Pure.

>>> search = parse_search('task:sync,export status:failed tag:eu priority:>=5')
>>> search.tasks, search.statuses, search.tags, search.priorities
(('sync', 'export'), (<Status.FAILED: 'failed'>,), (('eu',),), (Range(low=5, high=None),))

There is nothing in it that some index does not lead to, or that is not looked for in a bounded number of jobs: no words
within payloads, no "contains".
"""

from __future__ import annotations

import difflib
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from jobplatform.errors import Problem, SearchError
from jobplatform.models import Status
from jobplatform.queue.numbers.fingerprint import FINGERPRINT

#: What can be asked for, and how.
QUALIFIERS: Final[Mapping[str, str]] = {
    "workspace": "its id: workspace:0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10",
    "task": "its name, whole: task:sync, task:sync,export",
    "queue": 'its name, whole: queue:exports, queue:"two words"',
    "status": "pending, running, completed, failed or cancelled: status:failed,cancelled",
    "priority": "a number or a range: priority:5, priority:>=5, priority:-10..0",
    "tag": "a tag; of several each, of one with commas any: tag:eu tag:vip, tag:a,b",
    "error": "of jobs that failed: the type of the error, or the fingerprint of a group: error:ValueError",
    "id": "the job's id",
}
LONGEST: Final = 2_000
MOST_VALUES: Final = 20

_TERM: Final = re.compile(r'(?:([A-Za-z_][A-Za-z_.]*):)?((?:"(?:[^"\\]|\\.)*"|[^\s"])*)')
_VALUE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([^",]+)')
_NUMBER = r"([+-]?\d{1,6})"
_RANGES: Final = (
    (re.compile(rf"{_NUMBER}\Z"), lambda n: (n, n)),
    (re.compile(rf">={_NUMBER}\Z"), lambda n: (n, None)),
    (re.compile(rf"<={_NUMBER}\Z"), lambda n: (None, n)),
    (re.compile(rf">{_NUMBER}\Z"), lambda n: (n + 1, None)),
    (re.compile(rf"<{_NUMBER}\Z"), lambda n: (None, n - 1)),
    (re.compile(rf"{_NUMBER}\.\.{_NUMBER}\Z"), lambda low, high: (low, high)),
)


class Range(NamedTuple):
    """Priorities from ``low`` to ``high``; None: no end."""

    low: int | None
    high: int | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"<={self.high}" if self.low is None else f">={self.low}"
        return str(self.low) if self.low == self.high else f"{self.low}..{self.high}"


@dataclass(frozen=True, slots=True)
class Search:
    """Jobs that have one of the values of each of these which is not empty; of ``tags`` one of each."""

    workspace_ids: tuple[uuid.UUID, ...] = ()
    tasks: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    priorities: tuple[Range, ...] = ()
    tags: tuple[tuple[str, ...], ...] = ()
    errors: tuple[str, ...] = ()
    ids: tuple[uuid.UUID, ...] = field(default=())

    @property
    def is_empty(self) -> bool:
        """Whether it finds every job."""
        return self == Search()

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Those of ``errors`` that name a group."""
        return tuple(error for error in self.errors if FINGERPRINT.match(error))

    @property
    def error_types(self) -> tuple[str, ...]:
        """Those of ``errors`` that name a type."""
        return tuple(error for error in self.errors if not FINGERPRINT.match(error))

    @property
    def text(self) -> str:
        """The search as one would write it: parsed, it is the same again."""
        return " ".join(f"{name}:{','.join(map(_quoted, values))}" for name, values in self._terms())

    def with_status(self, status: Status | str | None) -> Search:
        """The same with this status only, or with any."""
        return replace(self, statuses=() if status is None else (Status(status),))

    def _terms(self) -> Iterator[tuple[str, Sequence[Any]]]:
        single = {
            "workspace": self.workspace_ids,
            "task": self.tasks,
            "queue": self.queues,
            "status": self.statuses,
            "priority": self.priorities,
            "error": self.errors,
            "id": self.ids,
        }
        yield from ((name, values) for name, values in single.items() if values)
        yield from (("tag", any_of) for any_of in self.tags)


def parse_search(text: str) -> Search:
    """What a box says: ``name:value`` after ``name:value``, values apart by commas, with quotes where they have spaces.

    A job's id may stand alone. Raises :class:`SearchError` with everything that is wrong.
    """
    said: object = text
    if not isinstance(said, str):
        raise SearchError([Problem("/q", f"must be a text, and is a {type(said).__name__}")])
    if len(text) > LONGEST:
        raise SearchError([Problem("/q", f"must be at most {LONGEST} characters long")])
    problems: list[Problem] = []
    found: dict[str, list[Any]] = {}
    for name, values in _split(text, problems):
        try:
            read = [_READERS[name](value) for value in values]
        except ValueError as error:
            problems.append(Problem(f"/q/{name}", str(error)))
            continue
        found.setdefault(name, []).extend([tuple(read)] if name == "tag" else read)
    problems += [
        Problem(f"/q/{name}", f"has more than {MOST_VALUES} values")
        for name, values in found.items()
        if len(values) > MOST_VALUES
    ]
    if problems:
        raise SearchError(problems)
    return _search(found)


def _search(found: Mapping[str, Iterable[Any]]) -> Search:
    def of(name: str) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(found.get(name, ())))

    return Search(
        workspace_ids=of("workspace"),
        tasks=of("task"),
        queues=of("queue"),
        statuses=of("status"),
        priorities=of("priority"),
        tags=of("tag"),
        errors=of("error"),
        ids=of("id"),
    )


def _split(text: str, problems: list[Problem]) -> Iterator[tuple[str, list[str]]]:
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = _TERM.match(text, position)
        assert match is not None
        if match.end() == position or text[match.end() : match.end() + 1] == '"':
            problems.append(Problem("/q", f"a quotation mark is not closed: {text[position:][:60]}"))
            return
        position = match.end()
        term = _term(match.group(1), match.group(2), problems)
        if term is not None:
            yield term


def _term(name: str | None, rest: str, problems: list[Problem]) -> tuple[str, list[str]] | None:
    if name is None:
        return _bare(rest, problems)
    known = name.lower()
    if known not in QUALIFIERS:
        problems.append(Problem(f"/q/{name}", _unknown(name)))
        return None
    values = [_unquoted(*found.groups()) for found in _VALUE.finditer(rest)]
    if not values or "" in values:
        problems.append(Problem(f"/q/{known}", f"has no value; {QUALIFIERS[known]}"))
        return None
    return known, values


def _bare(word: str, problems: list[Problem]) -> tuple[str, list[str]] | None:
    """A word without a qualifier: the id of a job says by itself what it is, and nothing else does."""
    try:
        return "id", [str(uuid.UUID(word))]
    except ValueError:
        shown = word[:60]
        if shown.startswith("-"):
            problem = f"{shown}: what is not wanted cannot be said, only what is"
        else:
            problem = f"{shown}: say what it is, such as task:{shown} or tag:{shown}; only a job's id may stand alone"
        problems.append(Problem("/q", problem))
        return None


def _unquoted(quoted: str | None, plain: str | None) -> str:
    return re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain or ""


def _quoted(value: Any) -> str:
    text = str(value)
    if re.fullmatch(r'[^\s",\\]+', text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), [*QUALIFIERS, "state", "payload"], n=1)
    if near == ["state"]:
        near = ["status"]
    if name.lower().startswith("payload") or near == ["payload"]:
        return "no index leads into payloads; give the jobs tags and search for those"
    hint = f"did you mean {near[0]}:?" if near else f"there are {', '.join(f'{known}:' for known in QUALIFIERS)}"
    return f"is nothing to search by; {hint}"


def _uuid(value: str) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except ValueError:
        raise ValueError(f"{value[:60]} is no id; an id is a UUID") from None


def _status(value: str) -> Status:
    try:
        return Status(value.lower())
    except ValueError:
        near = difflib.get_close_matches(value.lower(), list(Status), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{value[:60]} is none of {', '.join(Status)}{hint}") from None


def _priority(value: str) -> Range:
    for pattern, bounds in _RANGES:
        if match := pattern.match(value):
            low, high = bounds(*map(int, match.groups()))
            if low is not None and high is not None and low > high:
                raise ValueError(f"{value} is empty: {low} is more than {high}")
            return Range(low, high)
    raise ValueError(f"{value[:60]} is no number and no range; {QUALIFIERS['priority']}")


def _name(value: str) -> str:
    if "\0" in value:
        raise ValueError("no name has a NUL in it")
    return value


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "workspace": _uuid,
    "task": _name,
    "queue": _name,
    "status": _status,
    "priority": _priority,
    "tag": _name,
    "error": _name,
    "id": _uuid,
}
