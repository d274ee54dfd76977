"""How sources hand out their pages, as far as a request and an answer tell. Does no input or output.

A page's cursor is a text: what the source itself calls it, or how far we are. For a stream that is read incrementally
it also carries what has to be known at the end, so that a sync can go on from any page.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import httpx

from jobplatform.connectors.asking import origin_of
from jobplatform.connectors.http_json_config import Stream
from jobplatform.connectors.outside import Answer
from jobplatform.errors import SourceError

# One entry of a Link header: the address in angle brackets, then its parameters up to the next entry's bracket.
_LINK = re.compile(r"<([^<>]*)>((?:\s*;\s*[^,;=<>]+(?:=(?:\"[^\"]*\"|[^,;<>\"]*))?)*)")
_REL = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """Where in a stream a page is. ``since`` is what the sync began with, ``newest`` what it has seen so far, and
    ``began`` when it did, by the source's own clock."""

    cursor: str | None = None
    since: str | None = None
    newest: str | None = None
    began: int | None = None

    @classmethod
    def read(cls, text: str | None) -> Self:
        """What :meth:`write` wrote, or the state of an earlier sync."""
        if text is None:
            return cls()
        try:
            found = json.loads(text)
            return cls(found.get("cursor"), found.get("since"), found.get("newest"), found.get("began"))
        except (ValueError, AttributeError) as error:
            raise SourceError(f"{text[:100]!r} is no place in this stream: sync it initially") from error

    def write(self) -> str:
        said = {"cursor": self.cursor, "since": self.since, "newest": self.newest, "began": self.began}
        return json.dumps({name: value for name, value in said.items() if value is not None})


class Request(NamedTuple):
    """How a page is asked for. ``is_whole``: the URL is the source's own and says all there is to say."""

    url: str
    parameters: Mapping[str, str] = {}
    is_whole: bool = False


class Turner(Protocol):
    """Turns the pages of a stream."""

    def request(self, place: Place) -> Request: ...

    def following(self, place: Place, answer: Answer, body: Any, items: int, total: int | None) -> str | None:
        """The cursor of the page after this one, None where it was the last."""


@dataclass(frozen=True)
class _Turner:
    stream: Stream
    base_url: str

    @property
    def url(self) -> str:
        return self.base_url + self.stream.path

    def size(self) -> dict[str, str]:
        return {self.stream.limit_parameter: str(self.stream.page_size)} if self.stream.limit_parameter else {}


class ByCursor(_Turner):
    """The answer says by which word the next page is asked for."""

    def request(self, place: Place) -> Request:
        parameters = self.size()
        if place.cursor is not None:
            parameters[self.stream.cursor_parameter] = place.cursor
        return Request(self.url, parameters)

    def following(self, place: Place, answer: Answer, body: Any, items: int, total: int | None) -> str | None:
        found = _look_up(body, self.stream.cursor_field)
        return None if found is None or found in ("", False) else str(found)


class ByOffset(_Turner):
    """So many are skipped. It ends with a page that is not full (or has nothing), or when the total is reached."""

    def request(self, place: Place) -> Request:
        return Request(self.url, {**self.size(), self.stream.offset_parameter: str(_number(place.cursor, 0))})

    def following(self, place: Place, answer: Answer, body: Any, items: int, total: int | None) -> str | None:
        reached = _number(place.cursor, 0) + items
        if _is_over(self.stream, items) or (total is not None and reached >= total):
            return None
        return str(reached)


class ByPage(_Turner):
    """Pages have numbers. It ends as it does with offsets."""

    def request(self, place: Place) -> Request:
        number = _number(place.cursor, self.stream.first_page)
        return Request(self.url, {**self.size(), self.stream.page_parameter: str(number)})

    def following(self, place: Place, answer: Answer, body: Any, items: int, total: int | None) -> str | None:
        number = _number(place.cursor, self.stream.first_page)
        before = (number - self.stream.first_page) * self.stream.page_size
        if _is_over(self.stream, items) or (total is not None and before + items >= total):
            return None
        return str(number + 1)


class ByUrl(_Turner):
    """The answer has the next page's URL in it."""

    def request(self, place: Place) -> Request:
        if place.cursor is None:
            return Request(self.url, self.size())
        return Request(self._here(place.cursor), is_whole=True)

    def following(self, place: Place, answer: Answer, body: Any, items: int, total: int | None) -> str | None:
        found = _look_up(body, self.stream.cursor_field)
        return None if not isinstance(found, str) or not found else self._cursor(answer, found)

    def _cursor(self, answer: Answer, link: str) -> str:
        """A path with its query: what is kept must not send the next request, and our credentials, elsewhere."""
        url = urllib.parse.urljoin(answer.url, link)
        self._require_here(url)
        parsed = httpx.URL(url)
        return parsed.raw_path.decode()

    def _here(self, cursor: str) -> str:
        url = urllib.parse.urljoin(self.base_url, cursor)
        self._require_here(url)
        return url

    def _require_here(self, url: str) -> None:
        try:
            is_here = origin_of(url) == origin_of(self.base_url)
        except (httpx.InvalidURL, UnicodeError):
            is_here = False
        if not is_here:
            raise SourceError(f"the source says that its next page is at {url[:200]!r}, which is not its own address")


class ByLink(ByUrl):
    """The answer has a header ``Link`` with the next page's URL."""

    def following(self, place: Place, answer: Answer, body: Any, items: int, total: int | None) -> str | None:
        found = next_link(answer.headers.get("link", ""))
        return None if found is None else self._cursor(answer, found)


class AllAtOnce(_Turner):
    """There is one page."""

    def request(self, place: Place) -> Request:
        return Request(self.url)

    def following(self, place: Place, answer: Answer, body: Any, items: int, total: int | None) -> str | None:
        return None


TURNERS: Mapping[str, Callable[[Stream, str], Turner]] = {
    "cursor": ByCursor, "offset": ByOffset, "page": ByPage, "link": ByLink, "url": ByUrl, "none": AllAtOnce
}  # fmt: skip


def turner_of(stream: Stream, base_url: str) -> Turner:
    return TURNERS[stream.pagination](stream, base_url)


def next_link(header: str) -> str | None:
    """The address with ``rel="next"`` in a ``Link`` header, as RFC 8288 writes it."""
    for match in _LINK.finditer(header[:8192]):
        relations = _REL.search(match[2])
        if relations and "next" in (relations[1] or relations[2] or "").lower().split():
            return match[1]
    return None


def _is_over(stream: Stream, items: int) -> bool:
    return items == 0 or (stream.ends_when == "short" and items < stream.page_size)


def _number(cursor: str | None, first: int) -> int:
    try:
        return first if cursor is None else int(cursor)
    except ValueError:
        raise SourceError(f"{cursor!r} is no place in this stream: sync it initially") from None


def _look_up(body: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(body, dict):
            return None
        body = body.get(name)
    return body
