"""Reading what clients send, distrusting it in the order in which distrust is cheap.

Size, media type, encoding, nesting, syntax, then the two kinds of character that JSON allows and
PostgreSQL's jsonb does not (NUL and lone surrogates); only then do schemas look at it. Nothing here takes
longer than linear in the body's size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from flask import Request
from marshmallow import RAISE, Schema, ValidationError
from webargs.flaskparser import FlaskParser
from webargs.multidictproxy import MultiDictProxy
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge

from jobplatform.api.problems import ProblemError, invalid
from jobplatform.errors import Problem

MAX_BODY_BYTES = 1024 * 1024
MAX_DEPTH = 64
MOST_FIELDS = 1000
#: More mistakes than this are not worth naming: a megabyte of them would be answered by ten.
MOST_ERRORS = 100

# A string (or what is left of one that never ends) or a bracket. Possessive, and every alternative consumes,
# so a hostile body cannot make it backtrack: with an ordinary `*` a megabyte of `\"` takes minutes.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.|\\\Z)*+(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def read_json(request: Request) -> Any:
    """The body as JSON; an entirely empty one reads as ``{}``. Raises the problem that fits what is wrong."""
    body = request.get_data(cache=True)
    if not body:
        return {}
    if len(body) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    _require_json(request)
    return parse_json(_decode(body))


def parse_json(text: str) -> Any:
    """The value of a JSON text that somebody sent. Raises the problem that fits what is wrong."""
    _require_shallow(text)
    value = _parse(text)
    if "\\u" in text:  # Only an escape can spell them: the decoder refuses both in the raw.
        _require_storable(value)
    return value


def read_event(body: bytes, content_type: str) -> Any:
    """What a provider sent, whatever it calls it: JSON, or a form, with JSON in its field ``payload`` or without."""
    kind = content_type.partition(";")[0].strip().lower()
    text = _decode(body)
    if kind != "application/x-www-form-urlencoded":
        return parse_json(text)
    try:
        form = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise ProblemError(400, f"The form has more than {MOST_FIELDS} fields.") from None
    if set(form) == {"payload"}:
        return parse_json(form["payload"])
    _require_storable(form)
    return form


class StrictParser(FlaskParser):
    """webargs, with our reading of bodies, unknown names refused everywhere, and errors as problems."""

    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "json": RAISE, "query": RAISE}

    def load_json(self, req: Request, schema: Schema) -> Any:  # webargs' signature
        return read_json(req)

    def load_querystring(self, req: Request, schema: Schema) -> MultiDictProxy:
        _require_clean_query(req.args)
        loaded: MultiDictProxy = super().load_querystring(req, schema)
        return loaded

    def handle_error(self, error: ValidationError, *_: Any, **__: Any) -> NoReturn:
        raise invalid(_flatten(error.messages)[:MOST_ERRORS]) from None


def _require_json(request: Request) -> None:
    compressed = request.headers.get("Content-Encoding", "identity") != "identity"
    if request.mimetype != "application/json" or compressed:
        raise ProblemError(415, "The body must be application/json, and not compressed.")


def _decode(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProblemError(400, f"The body is not UTF-8 (byte {error.start}).") from None


def _require_shallow(text: str) -> None:
    """Before parsing: the parser itself would end in a RecursionError somewhere deeper."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        first = token.group()[0]
        depth += (first in "[{") - (first in "]}")
        if depth > MAX_DEPTH:
            raise ProblemError(400, f"The body is nested deeper than {MAX_DEPTH} levels.")


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ProblemError(400, f"The body is not JSON: {error.msg} ({where}).") from None
    except ValueError as error:
        # NaN and its like, or an integer of more digits than Python is willing to read.
        raise ProblemError(400, f"The body has a number that cannot be read: {error}.") from None


def _refuse_constant(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is not JSON")


def _require_storable(value: Any) -> None:
    errors = list(islice(_unstorable(value, ""), MOST_ERRORS))
    if errors:
        raise invalid(errors)


def _unstorable(value: Any, path: str) -> Iterator[Problem]:
    """Every NUL and lone surrogate, by place. Recursion is as deep as the body: at most ``MAX_DEPTH``."""
    if isinstance(value, str):
        yield from _unstorable_text(value, path)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _unstorable_text(name, f"{path}/{_pointer(name)}")
            yield from _unstorable(item, f"{path}/{_pointer(name)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable(item, f"{path}/{index}")


def _unstorable_text(text: str, path: str) -> Iterator[Problem]:
    found = _UNSTORABLE.search(text)
    if found:
        character = found.group()
        name = "a NUL character" if character == "\x00" else f"the lone surrogate U+{ord(character):04X}"
        yield Problem(path, f"contains {name}, which cannot be stored")


def _require_clean_query(args: MultiDict[str, str]) -> None:
    errors = [
        Problem(f"?{name}", "contains a NUL character")
        for name, value in args.items(multi=True)
        if "\x00" in name + value
    ]
    if errors:
        raise invalid(errors)


def _flatten(messages: Any) -> list[Problem]:
    """webargs' ``{"json": {"tags": {3: ["…"]}}}`` as a list of places and messages."""
    errors: list[Problem] = []
    for location, inner in messages.items():
        _collect(inner, "", errors)
        if location == "query":
            errors = [Problem("?" + error.path.lstrip("/"), error.message) for error in errors]
    return errors


def _collect(messages: Any, path: str, errors: list[Problem]) -> None:
    if isinstance(messages, dict):
        for name, inner in messages.items():
            _collect(inner, path if name == "_schema" else f"{path}/{_pointer(str(name))}", errors)
    elif isinstance(messages, list):
        errors.extend(Problem(path, str(message)) for message in messages)
    else:
        errors.append(Problem(path, str(messages)))


def _pointer(name: str) -> str:
    return _UNSTORABLE.sub("\ufffd", name).replace("~", "~0").replace("/", "~1")
