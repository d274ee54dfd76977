"""Strava: an athlete's activities, and the streams of one.

Activities are a configuration of ``http_json``: pages by number, oldest first because ``after`` is always given, and an
empty one ends. Requests are counted by application, in quarter hours and days that begin for everybody at the same
time. Each answer says how many have been made, so the account is left alone before Strava has to say that it is too
much. The refresh token may be a new one whenever it is used; see :mod:`~jobplatform.connectors.renewing`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from marshmallow import fields, validate

from jobplatform.connectors.addresses import check_url
from jobplatform.connectors.asking import says_too_often
from jobplatform.connectors.http_json import HttpJson
from jobplatform.connectors.hubspot import only_for_development
from jobplatform.connectors.opening import Opening
from jobplatform.connectors.outside import Answer
from jobplatform.connectors.patience import AskedSource, Asker
from jobplatform.connectors.schemas import ConfigSchema
from jobplatform.connectors.schemes import BearerCredentials, GrantCredentials
from jobplatform.connectors.since import date_of
from jobplatform.connectors.source import Page, SourceRecord
from jobplatform.errors import (
    Problem,
    SourceAnswerError,
    SourceBusyError,
    SourceError,
    SourceUnreachableError,
)

STRAVA = "https://www.strava.com"
ACTIVITIES = "activities"
STREAM_KEYS = (
    "time", "distance", "latlng", "altitude", "velocity_smooth", "heartrate", "cadence", "watts", "temp", "moving",
    "grade_smooth",
)  # fmt: skip
#: So many requests of a window are left to those that were on their way when the others were counted.
SPARE = 4
QUARTER_HOUR_MS = 15 * 60 * 1000
DAY_MS = 24 * 3600 * 1000
#: Limits and what was used of them, in quarter hours and days: of all requests, and of those that read.
WINDOWS = (("x-ratelimit-limit", "x-ratelimit-usage"), ("x-readratelimit-limit", "x-readratelimit-usage"))


class StravaConfig(ConfigSchema):
    """What a connection may say; nothing has to be said.

    ``account`` is the id of your application with Strava, whose limits all athletes share: connections of a workspace
    that name the same share them here, too. ``streamKeys`` are read for each activity of a sync, which takes a request
    for each: none, unless named. ``overlapMs`` goes back from the last start seen, for what is uploaded late.
    """

    stream_keys = fields.List(fields.String(validate=validate.OneOf(STREAM_KEYS)), load_default=list)
    page_size = fields.Integer(strict=True, load_default=100, validate=validate.Range(1, 200))
    overlap_ms = fields.Integer(strict=True, load_default=7 * DAY_MS, validate=validate.Range(0, 7 * DAY_MS))
    account = fields.String(validate=validate.Regexp(r"^[0-9]{1,20}\Z", error="Must be the number of an application."))
    base_url = fields.Url(schemes={"http", "https"}, require_tld=False, load_default=STRAVA)


CREDENTIALS = {"oauth2": GrantCredentials, "bearer": BearerCredentials}


def token_url(config: Mapping[str, Any]) -> str:
    return str(config["base_url"]).rstrip("/") + "/oauth/token"


def authorize_url(config: Mapping[str, Any]) -> str:
    return str(config["base_url"]).rstrip("/") + "/oauth/authorize"


def scopes(_config: Mapping[str, Any]) -> list[str]:
    """Also activities that only the athlete sees: what is left out would look like deleted."""
    return ["read", "activity:read_all"]


def check_strava(config: Mapping[str, Any], allow_private: bool) -> Iterator[Problem]:
    yield from only_for_development(config["base_url"], STRAVA, allow_private)


class Strava(AskedSource):
    """An open connection to an athlete's account."""

    def __init__(self, opening: Opening) -> None:
        self.config = opening.config
        base_url = str(self.config["base_url"]).rstrip("/")
        check_url(base_url, allow_private=opening.allow_private)
        self.api = f"{base_url}/api/v3"
        client = opening.client(pause=pause_of, rest=rest_of)
        self.asker = Asker(client, judge=judge, patient=opening.patient)
        self.listing = HttpJson.over(self.asker, self._as_http_json(base_url))

    def streams(self) -> Sequence[str]:
        return (ACTIVITIES,)

    def fetch(self, stream: str, cursor: str | None) -> Page:
        page = self.listing.fetch(stream, cursor)
        if not self.config["stream_keys"]:
            return page
        return dataclasses.replace(page, records=[self._with_streams(record) for record in page.records])

    def activity(self, activity_id: int | str) -> dict[str, Any]:
        """One activity. Raises :class:`SourceAnswerError` with the status 404 when it was deleted or is private."""
        found = self.asker.get(f"{self.api}/activities/{_number(activity_id)}", {}).json()
        if not isinstance(found, dict) or "id" not in found:
            raise SourceError("the answer is no activity")
        return found

    def activity_streams(
        self, activity_id: int | str, keys: Sequence[str] = ("time", "latlng", "altitude")
    ) -> dict[str, Any]:
        """Its streams by their names; empty where there are none, as for one that was entered by hand."""
        url = f"{self.api}/activities/{_number(activity_id)}/streams"
        try:
            found = self.asker.get(url, {"keys": ",".join(keys), "key_by_type": "true"}).json()
        except SourceAnswerError as error:
            if error.status != 404:
                raise
            return {}
        return found if isinstance(found, dict) else {}

    # --------------------------------------------------------------------------------------------

    def _as_http_json(self, base_url: str) -> dict[str, Any]:
        return {
            "baseUrl": base_url,
            "pagination": "page",
            "pageSize": self.config["page_size"],
            "limitParameter": "per_page",
            "endsWhen": "empty",
            "itemsField": "",
            "streams": {ACTIVITIES: {"path": "/api/v3/athlete/activities"}},
            "incremental": {
                "field": "start_date",
                "parameter": "after",
                "parameterFormat": "epoch",
                "overlapMs": self.config["overlap_ms"],
                # Without it the newest come first, and what is added meanwhile moves the pages.
                "start": "0",
            },
        }

    def _with_streams(self, record: SourceRecord) -> SourceRecord:
        streams = self.activity_streams(record.external_id, self.config["stream_keys"])
        return dataclasses.replace(record, data={**record.data, "streams": streams})


def pause_of(answer: Answer) -> float:
    """How long an answer of 429 has everybody wait: to the end of the window that is used up."""
    return _rest(answer, spare=0) or _to_the_end_of(answer, QUARTER_HOUR_MS)


def rest_of(answer: Answer) -> float:
    """The same before it comes to that: when there is next to nothing left of a window."""
    return _rest(answer, spare=SPARE)


def judge(answer: Answer) -> None:
    """What an answer of Strava's means, in its own words."""
    if answer.status == 200:
        return
    words = f"Strava answered HTTP {answer.status}"
    try:
        body = answer.json()
    except SourceError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        words += f": {body['message'][:200]}"
        errors = [one for one in body.get("errors") or [] if isinstance(one, dict)]
        told = [f"{one.get('resource')} {one.get('field')} {one.get('code')}" for one in errors[:3]]
        words += f" ({', '.join(told)})" if told else ""
    if says_too_often(answer):
        raise SourceBusyError(words, pause_of(answer))
    if answer.status >= 500:
        raise SourceUnreachableError(words)
    raise SourceAnswerError(words, answer.status)


def _rest(answer: Answer, *, spare: int) -> float:
    rest = 0.0
    for limit_name, usage_name in WINDOWS:
        limits, usages = _numbers(answer, limit_name), _numbers(answer, usage_name)
        for limit, usage, window in zip(limits, usages, (QUARTER_HOUR_MS, DAY_MS), strict=False):
            # Of a small limit not everything can be spare.
            if usage >= limit - min(spare, limit // 10):
                rest = max(rest, _to_the_end_of(answer, window))
    return rest


def _to_the_end_of(answer: Answer, window: int) -> float:
    """By Strava's own clock; a whole window when it does not tell the time. A second more, for its whole seconds."""
    now = date_of(answer)
    left = window if now is None else window - now % window
    return left / 1000 + 1


def _numbers(answer: Answer, header: str) -> list[int]:
    try:
        return [int(part) for part in answer.headers.get(header, "").split(",")]
    except ValueError:
        return []


def _number(activity_id: int | str) -> int:
    """It becomes part of a path."""
    try:
        return int(activity_id)
    except ValueError:
        raise SourceError(f"{activity_id!r} is not the id of an activity") from None
