"""Words that agree with the number they are said of. Pure; imports nothing of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


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
