"""A connector for sources that answer JSON pages over HTTP, described by its configuration alone.

A page is fetched again when the source is busy (429 or 503 with ``Retry-After``) or fails for a moment (5xx, a lost
connection). What is still wrong after that is the connection's failure; a source that is still busy has the job wait.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import backoff
from marshmallow import fields, validate

from jobplatform.connectors.addresses import check_url
from jobplatform.connectors.asking import pause_of, says_too_often
from jobplatform.connectors.opening import Opening
from jobplatform.connectors.outside import Answer
from jobplatform.connectors.schemas import ConfigSchema
from jobplatform.connectors.source import Page, SourceRecord
from jobplatform.errors import SourceAnswerError, SourceBusyError, SourceError, SourceUnreachableError

log = logging.getLogger(__name__)

LARGEST_PAGE = 16 * 1024 * 1024
MOST_TRIES = 6
#: Seconds for all tries of one page.
LONGEST_TRYING = 120.0
#: A source that wants a longer pause than this has its connection fail: waiting would hold a slot of the worker.
LONGEST_PAUSE = 60.0


class StreamConfig(ConfigSchema):
    """One stream: where it is, and which field of a record is its id."""

    path = fields.String(required=True, validate=validate.Regexp(r"^/"))
    id_field = fields.String(data_key="idField", load_default="id")


class HttpJsonConfig(ConfigSchema):
    """The configuration of a connection of this type. Names of fields may be dotted paths."""

    base_url = fields.Url(data_key="baseUrl", required=True, schemes={"http", "https"}, require_tld=False)
    streams = fields.Dict(
        keys=fields.String(), values=fields.Nested(StreamConfig), required=True, validate=validate.Length(min=1)
    )
    page_size = fields.Integer(data_key="pageSize", load_default=100, validate=validate.Range(1, 1000))
    limit_parameter = fields.String(data_key="limitParameter", load_default="limit")
    cursor_parameter = fields.String(data_key="cursorParameter", load_default="after")
    items_field = fields.String(data_key="itemsField", load_default="results")
    cursor_field = fields.String(data_key="cursorField", load_default="paging.next.after")
    total_field = fields.String(data_key="totalField", load_default="total")
    headers = fields.Dict(keys=fields.String(), values=fields.String(), load_default=dict)


def _tell(details: Any) -> None:
    log.info(
        "source asks for patience",
        extra={"tries": details["tries"], "wait_seconds": details["wait"], "reason": str(details["exception"])},
    )


def _pause(error: Any) -> float:
    """The pause that a :class:`SourceBusyError` asks for."""
    return float(error.retry_after)


class HttpJson:
    """An open connection to such a source."""

    def __init__(self, opening: Opening) -> None:
        self.config = opening.config
        # One that is never asked is told at once, and not after the first page of another stream.
        check_url(self.config["base_url"], allow_private=opening.allow_private)
        self.client = opening.client(headers=self.config["headers"], largest=LARGEST_PAGE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def streams(self) -> Sequence[str]:
        return tuple(self.config["streams"])

    def fetch(self, stream: str, cursor: str | None) -> Page:
        settings = self.config["streams"][stream]
        body = self._get(self.config["base_url"].rstrip("/") + settings["path"], self._parameters(cursor))
        items = _look_up(body, self.config["items_field"])
        if not isinstance(items, list):
            raise SourceError(f"{stream}: the answer has no list at {self.config['items_field']!r}")
        following = _look_up(body, self.config["cursor_field"])
        total = _look_up(body, self.config["total_field"])
        return Page(
            records=[_as_record(stream, item, settings["id_field"]) for item in items],
            next_cursor=None if following is None else str(following),
            total=total if isinstance(total, int) else None,
        )

    def _parameters(self, cursor: str | None) -> dict[str, str]:
        parameters = {self.config["limit_parameter"]: str(self.config["page_size"])}
        if cursor is not None:
            parameters[self.config["cursor_parameter"]] = cursor
        return parameters

    @backoff.on_exception(
        backoff.runtime,
        SourceBusyError,
        value=_pause,
        jitter=None,
        max_tries=MOST_TRIES,
        max_time=LONGEST_TRYING,
        giveup=lambda error: _pause(error) > LONGEST_PAUSE,
        on_backoff=_tell,
        logger=None,
    )
    @backoff.on_exception(
        backoff.expo,
        SourceUnreachableError,
        factor=0.5,
        max_value=10,
        max_tries=MOST_TRIES,
        max_time=LONGEST_TRYING,
        on_backoff=_tell,
        logger=None,
    )
    def _get(self, url: str, parameters: Mapping[str, str]) -> Any:
        answer = self.client.get(url, params=parameters)
        _check_status(answer)
        return answer.json()


def _check_status(answer: Answer) -> None:
    status, url = answer.status, answer.url
    if says_too_often(answer):
        raise SourceBusyError(f"{url} is busy (HTTP {status})", pause_of(answer))
    if status >= 500:
        raise SourceUnreachableError(f"{url} failed (HTTP {status})")
    if status != 200:
        raise SourceAnswerError(f"{url} refused (HTTP {status})", status)


def _look_up(body: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(body, dict):
            return None
        body = body.get(name)
    return body


def _as_record(stream: str, item: Any, id_field: str) -> SourceRecord:
    identifier = _look_up(item, id_field)
    if not isinstance(identifier, str | int) or isinstance(identifier, bool) or identifier == "":
        raise SourceError(f"{stream}: a record has no id at {id_field!r}")
    return SourceRecord(str(identifier), item)
