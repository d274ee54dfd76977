"""Files at a URL: asked for if they have changed, and followed wherever redirects lead.

Each hop is asked like the first, so every address on the way is judged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import httpx

from jobplatform.connectors.addresses import check_url
from jobplatform.connectors.outside import Answer, Sink
from jobplatform.connectors.patience import Asker, judge_http
from jobplatform.errors import AddressRefusedError, Problem, SourceError

MOST_HOPS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: The source says that it will not go back.
FOR_GOOD = frozenset({301, 308})
UNCHANGED = 304
#: What a source says of a version of a file, and how it is asked whether there is another.
VALIDATORS = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
_SENDABLE = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,998}[\x21-\x7e])?")


class Followed(NamedTuple):
    """The answer at the end of the way; ``moved_to`` is where the source lives from now on, if it said so."""

    answer: Answer
    moved_to: str | None


def judge_file(answer: Answer) -> None:
    """As in HTTP; that a file has not changed, or is elsewhere, is an answer too."""
    if answer.status != UNCHANGED and answer.status not in REDIRECTS:
        judge_http(answer)


def get_file(asker: Asker, url: str, said: Mapping[str, str], *, into: Sink | None = None) -> Followed:
    """GET, unless it is still as it was ``said`` to be. The connection's credentials go to its own origin, as ever.

    Raises :class:`SourceError` for a way without end; and what the client raises, at each hop.
    """
    # They may have been kept by a version that took whatever was said.
    conditions = {VALIDATORS[name]: value for name, value in said.items() if _can_be_sent(name, value)}
    here, moved_to, moving = url, None, True
    for _ in range(MOST_HOPS + 1):
        answer = asker.ask("GET", here, headers=conditions, into=into)
        if answer.status == UNCHANGED and not conditions:
            # To be taken for a file without anything in it, it would have all that was copied marked as deleted.
            raise SourceError(f"{answer.url} answers that nothing has changed (HTTP {UNCHANGED}), which was not asked")
        location = answer.headers.get("location")
        if answer.status not in REDIRECTS:
            return Followed(answer, moved_to)
        if not location:
            raise SourceError(f"{answer.url} redirects (HTTP {answer.status}) and does not say where to")
        here = _next(here, location)
        moving = moving and answer.status in FOR_GOOD
        moved_to = here if moving else moved_to
    raise SourceError(f"{url} redirects more than {MOST_HOPS} times")


def said_of(answer: Answer) -> dict[str, str]:
    """By what the file can be asked for again only if it has changed; without what no header of ours can say."""
    return {name: value for name, value in answer.headers.items() if _can_be_sent(name, value)}


def _can_be_sent(name: str, value: Any) -> bool:
    return name in VALIDATORS and isinstance(value, str) and _SENDABLE.fullmatch(value) is not None


def check_url_of(config: Mapping[str, Any], allow_private: bool) -> Iterator[Problem]:
    """Whether the configuration's ``url`` may be asked, which its schema cannot know."""
    try:
        if config.get("url") is not None:
            check_url(config["url"], allow_private=allow_private)
    except AddressRefusedError as error:
        yield Problem("/url", str(error))


def read_state(cursor: str | None) -> dict[str, Any]:
    """What a cursor or a state of ours says; nothing for none."""
    return dict(json.loads(cursor)) if cursor else {}


def _next(here: str, location: str) -> str:
    try:
        return str(httpx.URL(here).join(location).copy_with(fragment=None))
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise SourceError(f"{here} redirects to what is no URL: {error}") from error
