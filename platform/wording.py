"""Words that agree with the number they are said of. Pure; imports nothing of ours."""

from __future__ import annotations


def plural(count: int, one: str, many: str = "") -> str:
    """``1 job`` and ``2,000 jobs``; ``many`` where an s is not enough: ``1 job waits`` and ``2 jobs wait``."""
    return f"{count:,} {agreeing(count, one, many)}"


def agreeing(count: float, one: str, many: str = "") -> str:
    """The same without the number, for where that stands elsewhere: ``is`` or ``are``."""
    return one if count == 1 else many or one + "s"
