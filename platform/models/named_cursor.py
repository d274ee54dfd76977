"""A cursor that looks only once for the placeholders in a statement, however long that is."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import psycopg

_PLACEHOLDER = re.compile(r"%(?:%|s|\((\w+)\)s)")


class NamedCursor(psycopg.RawCursor[Any]):
    """For connections that run the same few statements for ever: takes the driver's usual ``%(name)s`` and ``%s``.

    The driver remembers where a text has them too, but of texts up to 4,096 characters only. A claim is longer, and
    was taken apart anew each time: 0.1 ms before an idle worker's job could start.
    """

    def execute(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Self:
        """As the driver's own; a text without parameters is left as it is."""
        if params is not None:
            query, names = _numbered(self._text(query))
            params = _in_order(names, params)
        return super().execute(query, params, prepare=prepare, binary=binary)

    def executemany(self, query: Any, params_seq: Any, *, returning: bool = False) -> None:
        """As the driver's own."""
        query, names = _numbered(self._text(query))
        super().executemany(query, [_in_order(names, params) for params in params_seq], returning=returning)

    def _text(self, query: Any) -> str:
        if isinstance(query, bytes):
            return query.decode()
        return query if isinstance(query, str) else str(query.as_string(self.connection))


@functools.lru_cache(maxsize=256)
def _numbered(text: str) -> tuple[bytes, tuple[str, ...]]:
    """The text as the server wants it, and the names of ``$1``, ``$2`` and so on. Those without a name are numbered."""
    names: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        return f"${names.setdefault(match[1] or str(len(names)), len(names) + 1)}"

    return _PLACEHOLDER.sub(number, text).encode(), tuple(names)


def _in_order(names: Sequence[str], params: Mapping[str, Any] | Sequence[Any]) -> Sequence[Any]:
    return [params[name] for name in names] if isinstance(params, Mapping) else params
