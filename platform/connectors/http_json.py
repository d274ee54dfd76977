"""A connector for sources that answer JSON pages over HTTP, described by its configuration alone.

Pages are asked for in one of the ways of :mod:`~jobplatform.connectors.paging`: all of them, or those with something
that has changed since (:mod:`~jobplatform.connectors.since`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from jobplatform.connectors.addresses import check_url
from jobplatform.connectors.http_json_config import HttpJsonConfig, Stream, stream_of
from jobplatform.connectors.keeping import Rate
from jobplatform.connectors.opening import Opening
from jobplatform.connectors.outside import Answer
from jobplatform.connectors.paging import Place, Turner, turner_of
from jobplatform.connectors.patience import AskedSource, Asker
from jobplatform.connectors.since import Since
from jobplatform.connectors.source import Page, SourceRecord
from jobplatform.errors import AddressRefusedError, Problem, SourceError
from jobplatform.redaction import is_secret_name, redact_text

__all__ = ["HttpJson", "HttpJsonConfig", "check_config", "look_up"]

LARGEST_PAGE = 16 * 1024 * 1024
LARGEST_COUNT = 2**53
#: Fields of an answer that are named to whoever has configured another, and how long their names may be.
MOST_NAMED, LONGEST_NAMED = 5, 40


class HttpJson(AskedSource):
    """An open connection to such a source."""

    def __init__(self, opening: Opening) -> None:
        # One that is never asked is told at once, and not after the first page of another stream.
        check_url(opening.config["base_url"], allow_private=opening.allow_private)
        client = opening.client(headers=opening.config["headers"], largest=LARGEST_PAGE, rate=rate_of(opening.config))
        self._begin(opening.config, Asker(client, patient=opening.patient))

    @classmethod
    def over(cls, asker: Asker, config: Mapping[str, Any]) -> Self:
        """The streams of a configuration, asked for by somebody else's client, which the caller closes."""
        made = cls.__new__(cls)
        made._begin(dict(HttpJsonConfig().load(config)), asker)
        return made

    def _begin(self, config: dict[str, Any], asker: Asker) -> None:
        self.config = config
        self._seen: dict[str, tuple[str, Sequence[str]]] = {}
        self.base_url = config["base_url"].rstrip("/")
        self.asker = asker

    def streams(self) -> Sequence[str]:
        return tuple(self.config["streams"])

    def fetch(self, stream: str, cursor: str | None) -> Page:
        settings = stream_of(self.config, stream)
        turner = turner_of(settings, self.base_url)
        place = Place.read(cursor) if settings.incremental else Place(cursor)
        since = Since(settings.incremental, place) if settings.incremental else None
        request = turner.request(place)
        parameters = {**settings.params, **(since.parameters() if since else {}), **request.parameters}
        # A link of the source's own holds all that it needs.
        answer = self.asker.get(request.url, {} if request.is_whole else parameters)
        return self._page(stream, settings, turner, place, since, answer)

    # --------------------------------------------------------------------------------------------

    def _page(
        self, stream: str, settings: Stream, turner: Turner, place: Place, since: Since | None, answer: Answer
    ) -> Page:
        body = answer.json()
        items = look_up(body, settings.items_field)
        if not isinstance(items, list):
            raise SourceError(f"{stream}: {_no_list(body, settings.items_field)}")
        total = look_up(body, settings.total_field) if isinstance(body, dict) else None
        following = turner.following(place, answer, body, len(items), total if _is_count(total) else None)
        if since is not None:
            since.see(items, stream)
            since.note_begin(answer, time.time_ns() // 1_000_000)
        records = [as_record(stream, item, settings.id_field) for item in items]
        self._require_news(stream, settings, place.cursor or "", records)
        return Page(
            records=records,
            next_cursor=since.cursor(following) if since else following,
            total=total if _is_count(total) else None,
            state=since.state() if since else None,
        )

    def _require_news(self, stream: str, settings: Stream, cursor: str, records: Sequence[SourceRecord]) -> None:
        """Where pages are counted here, a source that does not heed the count answers the first one for ever."""
        if settings.pagination not in ("offset", "page"):
            return
        ids = [record.external_id for record in records]
        before, seen = self._seen.get(stream, (cursor, ()))
        if ids and ids == seen and cursor != before:
            raise SourceError(
                f"{stream}: the source answers the very same page again and would never end; "
                f"does it hand out pages by {settings.pagination}?"
            )
        self._seen[stream] = cursor, ids


def check_config(config: Mapping[str, Any], allow_private: bool) -> Iterator[Problem]:
    """What the schema cannot know: whether the address may be asked, and secrets that do not belong here."""
    try:
        check_url(config["base_url"], allow_private=allow_private)
    except AddressRefusedError as error:
        yield Problem("/baseUrl", str(error))
    yield from _secrets(config.get("headers", {}), "/headers", "header")
    yield from _secrets(config.get("params", {}), "/params", "query")
    for name, stream in config["streams"].items():
        yield from _secrets(stream.get("params", {}), f"/streams/{name}/params", "query")


def _secrets(values: Mapping[str, str], path: str, scheme: str) -> Iterator[Problem]:
    for name, value in values.items():
        if looks_secret(name, value):
            yield Problem(
                f"{path}/{name}",
                "Looks like a secret, and a configuration is shown to whoever may see the connection. Give it as "
                f'credentials: {{"scheme": "{scheme}", "name": "{name}", "value": "…"}}, or as scheme bearer or basic.',
            )


def looks_secret(name: str, value: str) -> bool:
    """Whether a header or parameter is better kept sealed."""
    return is_secret_name(name) or redact_text(value) != value


def rate_of(config: Mapping[str, Any]) -> Rate | None:
    """The rate that a configuration names for its account."""
    limit = config.get("rate_limit")
    return None if limit is None else Rate(limit["requests"], limit["period_ms"] / 1000)


def look_up(body: Any, path: str) -> Any:
    """What is at a dotted path; at an empty one is the body itself."""
    for name in path.split(".") if path else ():
        if not isinstance(body, dict):
            return None
        body = body.get(name)
    return body


def as_record(stream: str, item: Any, id_field: str) -> SourceRecord:
    identifier = look_up(item, id_field)
    if not _is_id(identifier):
        instead = f" but {identifier}, and an id is a text or a whole number" if isinstance(identifier, float) else ""
        raise SourceError(f"{stream}: a record has no id at {id_field!r}{instead}; {_named('idField', item, _is_id)}")
    return SourceRecord(str(identifier), item)


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _no_list(body: Any, items_field: str) -> str:
    words = f"the answer has no list at {repr(items_field) if items_field else 'its top'}"
    if isinstance(body, list):
        return f"{words}; the answer is the list itself, for which itemsField is empty"
    return f"{words}; {_named('itemsField', body, lambda value: isinstance(value, list))}"


def _named(key: str, body: Any, fits: Callable[[Any], bool]) -> str:
    """What a key of the configuration can name; the names are the source's, so few and short ones."""
    fields = body.items() if isinstance(body, dict) else ()
    names = [repr(name) for name, value in fields if len(name) <= LONGEST_NAMED and fits(value)]
    return f"{key} can name {', '.join(names[:MOST_NAMED])}" if names else f"{key} says where it is"


def _is_count(value: Any) -> bool:
    """-1 is what some say for "I do not know"; what is no number of JSON's counts nothing either."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_COUNT
