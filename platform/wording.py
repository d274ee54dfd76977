"""Words that agree with the number they are said of, and the names that somebody meant. Pure; imports nothing of
ours."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

#: What marshmallow says of a field that a schema does not have.
UNKNOWN_FIELD = ["Unknown field."]
#: More fields than this, and longer ones, are no typing mistakes: a body of a megabyte would be compared at length.
MOST_MEANT = 100
LONGEST_MEANT = 100


def plural(count: int, one: str, many: str = "") -> str:
    """``1 job`` and ``2,000 jobs``; ``many`` where an s is not enough: ``1 job waits`` and ``2 jobs wait``."""
    return f"{count:,} {agreeing(count, one, many)}"


def agreeing(count: float, one: str, many: str = "") -> str:
    """The same without the number, for where that stands elsewhere: ``is`` or ``are``."""
    return one if count == 1 else many or one + "s"


def called(named: Sequence[tuple[str, object]]) -> list[str]:
    """What things of these names and ids are called where they are spoken of together: by the name, and by the id too
    where others have the same name."""
    times = Counter(name for name, _ in named)
    return [name if times[name] == 1 else f"{name} ({id})" for name, id in named]


def said_of(name: object, id: object, sentences: Iterable[object]) -> list[str]:
    """Those of ``Shop: it is closed`` and the like that are said of one of them, without what it is called."""
    ways = (f"{name} ({id}): ", f"{name}: ")
    texts = map(str, sentences)
    return [text.removeprefix(way) for text in texts if (way := next(filter(text.startswith, ways), None))]


def name_meant_fields(messages: Any, known: Sequence[str]) -> Any:
    """The ``messages`` of a marshmallow schema that has the fields ``known``, where those that say of a field that it
    is unknown name the nearest that there is."""
    if not isinstance(messages, Mapping):
        return messages
    unknown = islice((name for name, said in messages.items() if said == UNKNOWN_FIELD), MOST_MEANT)
    return {**messages, **{name: [f"Unknown field{_meant(str(name), known)}"] for name in unknown}}


def _meant(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1) if len(name) <= LONGEST_MEANT else []
    return f"; did you mean {near[0]!r}?" if near else "."
