"""JSON that PostgreSQL takes. Pure.

``jsonb`` refuses NUL characters, lone surrogates, NaN, infinities and deep nesting. From an enqueuer that is an error
with a path (:func:`strict_json`). From a handler it must never be one, because then it would be *saving* the result
or the error that fails, and the job would run for ever: :func:`safe_json` and :func:`safe_text` replace instead.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from jobplatform.errors import InvalidPayloadError, Problem

DEEPEST = 64
PAYLOAD_LIMIT = 262_144
RESULT_LIMIT = 1_048_576
PROGRESS_LIMIT = 4_096
ERROR_LIMIT = 16_384
TRACEBACK_LIMIT = 32_768
LOG_LINE_LIMIT = 8_192

#: Digits of a whole number; PostgreSQL's numeric takes more, Python refuses to write more than 4,300.
LONGEST_NUMBER = 4_000

Path = tuple[Any, ...]

#: One encoder for all: ``json.dumps`` with options makes a new one at each call.
_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _quick_encoder() -> Callable[[Any], str]:
    """The same for what is plain (:func:`_is_plain`): the encoder in C that ``json`` makes anew for each value, to note
    in it what the value is made of and find what contains itself. What is plain does not.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _ENCODE
    encode = make(None, None, json.encoder.encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(encode(value, 0))


_ENCODE_PLAIN = _quick_encoder()

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_FORBIDDEN = re.compile("[\x00\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")

#: Whole numbers below this are nothing to think about.
_PLAIN_NUMBER = 2**64


def strict_json(value: Any, *, limit: int = PAYLOAD_LIMIT) -> str:
    """``value`` as JSON text. Raises :class:`InvalidPayloadError` naming every place that cannot be stored.

    Accepts what JSON has: dict with string keys, list, tuple, str, int, float, bool, None; nested at most
    64 deep, at most ``limit`` bytes in all.
    """
    text = _ENCODE_PLAIN(value) if _is_plain(value, DEEPEST) else None
    if text is None or _may_be_refused(text):
        problems: list[Problem] = []
        _inspect(value, (), (), problems)
        if problems:
            raise InvalidPayloadError(problems)
        text = _ENCODE(value)
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        raise InvalidPayloadError([Problem("", f"is {size} bytes of JSON; at most {limit} are stored")])
    return text


def _is_plain(value: Any, depth: int) -> bool:
    """Whether the encoder takes the value as we would, save for characters: quick, and false for what is not sure.

    Nearly every payload is, and looking closely (:func:`_inspect`) costs four times as much as encoding it.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-_PLAIN_NUMBER < value < _PLAIN_NUMBER)
    if kind is float:
        return math.isfinite(value)
    if depth == 1:
        return False
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not (type(item) is str or _is_plain(item, depth - 1)):
                return False
        return True
    return kind in (list, tuple) and all(_is_plain(item, depth - 1) for item in value)


def _may_be_refused(text: str) -> bool:
    """The encoder writes NUL as an escape; the word ``\\u0000`` in a text looks the same here, and gets away later."""
    return "\\u0000" in text or not (text.isascii() or _SURROGATE.search(text) is None)


def text_problem(text: str) -> str | None:
    """What PostgreSQL could not store about this text, or None."""
    try:
        match = _FORBIDDEN.search(text)
    except TypeError:
        # Not every caller has a type checker.
        return f"must be a text, and is a {type(text).__name__}"
    if match is None:
        return None
    return "must not contain NUL characters" if match.group() == "\0" else "must not contain lone surrogates"


def _inspect(value: Any, path: Path, above: tuple[int, ...], problems: list[Problem]) -> None:
    if len(above) >= DEEPEST:
        _note(problems, path, f"is nested deeper than {DEEPEST} levels")
    elif isinstance(value, str):
        _note(problems, path, text_problem(value))
    elif id(value) in above:
        # Not left to the depth: a value that holds itself twice would be 2**64 places to look at.
        _note(problems, path, "contains itself")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _note(problems, path, _key_problem(key))
            _inspect(item, (*path, key), (*above, id(value)), problems)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _inspect(item, (*path, index), (*above, id(value)), problems)
    else:
        _note(problems, path, _scalar_problem(value))


def _scalar_problem(value: Any) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else "must be a finite number"
    if isinstance(value, int):
        return None if value.bit_length() < LONGEST_NUMBER * 3 else "is too large a number"
    return f"is a {type(value).__name__}, which JSON cannot hold"


def _key_problem(key: Any) -> str | None:
    return text_problem(key) if isinstance(key, str) else f"has a key that is a {type(key).__name__}, not a string"


def _note(problems: list[Problem], path: Path, message: str | None) -> None:
    if message:
        problems.append(Problem("".join("/" + _escaped(step) for step in path), message))


def _escaped(step: Any) -> str:
    """A step of a JSON pointer, shown without what cannot be printed."""
    return safe_text(str(step), 100).replace("~", "~0").replace("/", "~1")


def safe_json(value: Any) -> str:
    """``value`` as JSON text that PostgreSQL takes, whatever it is made of.

    NUL and surrogates become U+FFFD, NaN and infinities null, what is nested too deep a note of it. Raises TypeError
    for a value that has no meaning in JSON (a set, an object, what contains itself): the caller decides whether that
    is an error.
    """
    if _is_plain(value, DEEPEST) and not _may_be_refused(text := _ENCODE_PLAIN(value)):
        return text
    return _ENCODE(_safe(value, ()))


def _safe(value: Any, above: tuple[int, ...]) -> Any:
    if len(above) >= DEEPEST:
        return f"[nested deeper than {DEEPEST} levels]"
    if isinstance(value, str):
        return _FORBIDDEN.sub(REPLACEMENT, value)
    if id(value) in above:
        raise TypeError("what contains itself has no meaning in JSON")
    if isinstance(value, Mapping):
        return {_safe_key(key): _safe(item, (*above, id(value))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(item, (*above, id(value))) for item in value]
    return _safe_scalar(value)


def _safe_key(key: Any) -> str:
    if isinstance(key, str):
        return _FORBIDDEN.sub(REPLACEMENT, key)
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(_safe_scalar(key))
    raise TypeError(f"a key that is a {type(key).__name__} has no meaning in JSON")


def _safe_scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value) if value.bit_length() < LONGEST_NUMBER * 3 else "[number too large]"
    raise TypeError(f"a {type(value).__name__} has no meaning in JSON")


def safe_text(text: str, limit: int) -> str:
    """``text`` without what PostgreSQL refuses, at most ``limit`` characters: the beginning and the end are kept."""
    clean = _FORBIDDEN.sub(REPLACEMENT, text)
    if len(clean) <= limit:
        return clean
    note = f"\n… {len(clean) - limit} characters left out …\n"
    head = max(0, (limit - len(note)) * 2 // 3)
    tail = max(0, limit - len(note) - head)
    return clean[:head] + note + clean[len(clean) - tail :] if tail else clean[:limit]
