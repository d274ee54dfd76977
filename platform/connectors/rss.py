"""A connector for feeds: RSS and Atom of every version, read by feedparser.

A feed is asked for only if it has changed: what the source said of its last answer (``ETag``, ``Last-Modified``) is the
stream's state. Feeds are often not quite well-formed; their entries count all the same, with a warning. One that is
gone for good (410) is not asked again until somebody has looked after its connection.
"""

from __future__ import annotations

import calendar
import datetime
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from marshmallow import fields, validate

from jobplatform.connectors.addresses import check_url
from jobplatform.connectors.following import UNCHANGED, Followed, get_file, judge_file, read_state, said_of
from jobplatform.connectors.opening import Opening
from jobplatform.connectors.outside import Answer
from jobplatform.connectors.patience import AskedSource, Asker
from jobplatform.connectors.schemas import ConfigSchema
from jobplatform.connectors.source import Page, SourceRecord
from jobplatform.errors import SourceAnswerError, SourceError, SourceGoneError
from jobplatform.wording import plural

LARGEST_FEED = 8 * 1024 * 1024
#: An id longer than this is replaced by its digest: it is part of a key.
LONGEST_ID = 800
GONE = 410
NO_FEEDPARSER = "this installation cannot read feeds: pip install 'jobplatform[rss]'"

TEXTS = ("title", "link", "summary", "author", "comments")
MOMENTS = ("published", "updated", "created", "expired")


class RssConfig(ConfigSchema):
    """The configuration of a connection of this type."""

    url = fields.Url(required=True, schemes={"http", "https"}, require_tld=False)
    stream = fields.String(load_default="entries", validate=validate.Length(1, 100))


class Rss(AskedSource):
    """An open connection to a feed: one stream, of one page."""

    def __init__(self, opening: Opening) -> None:
        self.url: str = opening.config["url"]
        self.stream: str = opening.config["stream"]
        check_url(self.url, allow_private=opening.allow_private)
        self._keeper = opening.keeper
        self._parse = _feedparser()
        self.asker = Asker(opening.client(largest=LARGEST_FEED), judge=judge_file, patient=opening.patient)

    def streams(self) -> Sequence[str]:
        return (self.stream,)

    def fetch(self, stream: str, cursor: str | None) -> Page:
        answer, moved_to = self._get(read_state(cursor))
        if answer.status == UNCHANGED:
            return Page([], state=cursor)
        feed = self._parse(io.BytesIO(answer.content), response_headers=_about(answer))
        if not feed.entries and not feed.get("version"):
            raise SourceError(f"{answer.url} is not a feed{_why(feed)}")
        records, without_id = _records(feed.entries)
        return Page(
            records,
            total=len(records),
            state=_state(answer),
            complete=False,
            skipped=without_id,
            warnings=[*_oddities(feed, without_id), *_moved(self.url, moved_to)],
        )

    def _get(self, said: Mapping[str, str]) -> Followed:
        try:
            return get_file(self.asker, self.url, said)
        except SourceAnswerError as error:
            if error.status != GONE:
                raise
            reason = f"{self.url} is gone for good (HTTP 410); give the connection another URL, or delete it"
            self._keeper.needs_attention(reason, None)
            raise SourceGoneError(reason) from error


def _feedparser() -> Any:
    """Never given a text: it would take one for a URL or a file, and open it."""
    try:
        import feedparser
    except ImportError:
        raise SourceError(NO_FEEDPARSER) from None
    return feedparser.parse


def _state(answer: Answer) -> str | None:
    """None, so that the old one stays, for a source that says nothing by which it could be asked for changes."""
    said = said_of(answer)
    return json.dumps(said) if said else None


def _about(answer: Answer) -> dict[str, str]:
    """What feedparser reads of an answer's headers: the encoding, and what relative links are relative to."""
    return {"content-type": answer.headers.get("content-type", ""), "content-location": answer.url}


def _records(entries: Sequence[Any]) -> tuple[list[SourceRecord], int]:
    records = [SourceRecord(_short(name), _data(entry)) for entry in entries if (name := _id_of(entry))]
    return records, len(entries) - len(records)


def _id_of(entry: Any) -> str:
    return str(entry.get("id") or entry.get("link") or "").strip()


def _short(name: str) -> str:
    if len(name.encode(errors="replace")) <= LONGEST_ID:
        return name
    return f"sha256:{hashlib.sha256(name.encode(errors='replace')).hexdigest()}"


def _data(entry: Any) -> dict[str, Any]:
    """What is common to all kinds of feeds, in one form. feedparser has made the HTML in it harmless."""
    data: dict[str, Any] = {"id": entry.get("id"), **{name: entry.get(name) for name in TEXTS}}
    # As a plain mapping: asked for what is not there, feedparser's answers with something like it, and a warning.
    data |= {name: _moment(dict(entry).get(f"{name}_parsed")) for name in MOMENTS}
    data["content"] = [{"type": one.get("type"), "value": one.get("value")} for one in entry.get("content", [])]
    data["tags"] = [tag["term"] for tag in entry.get("tags", []) if tag.get("term")]
    data["enclosures"] = [
        {"href": one.get("href"), "type": one.get("type"), "length": one.get("length")}
        for one in entry.get("enclosures", [])
    ]
    return {name: value for name, value in data.items() if value not in (None, [], "")}


def _moment(parsed: time.struct_time | None) -> str | None:
    if parsed is None:
        return None
    try:
        moment = datetime.datetime.fromtimestamp(calendar.timegm(parsed), datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat().replace("+00:00", "Z")


def _oddities(feed: Any, without_id: int) -> Iterator[str]:
    if feed.bozo:
        yield f"the feed is not well-formed{_why(feed)}"
    if without_id:
        yield f"{plural(without_id, 'entry has', 'entries have')} neither an id nor a link"


def _why(feed: Any) -> str:
    found = feed.get("bozo_exception")
    return "" if found is None else f" ({type(found).__name__}: {found})"


def _moved(url: str, moved_to: str | None) -> list[str]:
    return [f"{url} has moved to {moved_to} for good; change the connection"] if moved_to else []
