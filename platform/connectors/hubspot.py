"""HubSpot: contacts, companies and deals (CRM objects, version 3).

The first time everything is listed, which is a configuration of ``http_json``. After that it is searched for what has
changed since, oldest change first. A search ends after 10,000 results, whatever there is; so it is begun anew from the
last change seen, and if 10,000 objects were changed in the same millisecond (an import does that), from the last of
those by their ids. A search is late in knowing of changes: each begins a little before the last one's end, and what
comes twice is written once.

Requests are counted by account, and searches once more. HubSpot says how much is left, and when it is too much, which
of its limits it was: that is how long the account is left alone, by everybody.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from marshmallow import fields, validate

from jobplatform.connectors.addresses import check_url
from jobplatform.connectors.asking import says_too_often
from jobplatform.connectors.http_json import HttpJson
from jobplatform.connectors.keeping import Rate
from jobplatform.connectors.opening import Opening
from jobplatform.connectors.outside import Answer
from jobplatform.connectors.patience import AskedSource, Asker
from jobplatform.connectors.schemas import ConfigSchema
from jobplatform.connectors.schemes import BearerCredentials, GrantCredentials
from jobplatform.connectors.since import date_of, to_milliseconds
from jobplatform.connectors.source import Page, SourceRecord
from jobplatform.errors import (
    AddressRefusedError,
    Problem,
    SourceAnswerError,
    SourceBusyError,
    SourceError,
    SourceUnreachableError,
)
from jobplatform.queue.run.retry_after import header_seconds
from jobplatform.redaction import redact_text

HUBSPOT = "https://api.hubapi.com"
HUBSPOT_APP = "https://app.hubspot.com"
OBJECTS = ("contacts", "companies", "deals")
#: By which property an object says when it was last changed.
CHANGED = {"contacts": "lastmodifieddate", "companies": "hs_lastmodifieddate", "deals": "hs_lastmodifieddate"}
#: Without a list of properties HubSpot answers only a few; these are the ones that most people look for.
PROPERTIES: Mapping[str, Sequence[str]] = {
    "contacts": ("firstname", "lastname", "email", "phone", "company", "lifecyclestage", "createdate"),
    "companies": ("name", "domain", "industry", "phone", "city", "country", "createdate"),
    "deals": ("dealname", "amount", "dealstage", "pipeline", "closedate", "createdate"),
}
MOST_LISTED = 100
MOST_SEARCHED = 200
#: A search answers no more than this, however it is paged.
SEARCH_WINDOW = 10_000
SEARCHES = Rate(4, 1.0)
#: Of a hundred, which is what the smallest accounts have: some are left to those on their way, and to other apps.
DEFAULT_REQUESTS = 90
#: How long each of HubSpot's limits lasts.
PAUSES = {"SECONDLY": 1.0, "TEN_SECONDLY_ROLLING": 10.0, "DAILY": 3600.0}
DEFAULT_PAUSE = 10.0


# They become part of a path, and of a list with commas in it.
_NAME = validate.Regexp(r"^[A-Za-z0-9_-]{1,200}\Z", error="Must be a name of letters, digits and _-.")


class HubSpotConfig(ConfigSchema):
    """What a connection may say; nothing has to be said.

    ``account`` is the portal's id: connections of a workspace that name the same share its rate. ``archived`` also
    reads what was deleted, as deleted records. ``baseUrl`` is for a stand-in on a machine for development.
    """

    objects = fields.List(
        fields.String(validate=validate.OneOf(OBJECTS)), load_default=list(OBJECTS), validate=validate.Length(min=1)
    )
    properties = fields.Dict(
        keys=fields.String(validate=validate.OneOf(OBJECTS)),
        values=fields.List(
            fields.String(validate=validate.Regexp(r"^[A-Za-z0-9_]{1,200}\Z")), validate=validate.Length(1, 250)
        ),
        load_default=dict,
    )
    associations = fields.Dict(
        keys=fields.String(validate=validate.OneOf(OBJECTS)),
        values=fields.List(
            fields.String(validate=validate.Regexp(r"^[A-Za-z0-9_-]{1,100}\Z")), validate=validate.Length(1, 10)
        ),
        load_default=dict,
    )
    archived = fields.Boolean(load_default=False, truthy={True}, falsy={False})
    account = fields.String(validate=validate.Regexp(r"^[0-9]{1,20}\Z", error="Must be the number of a portal."))
    requests_per10_seconds = fields.Integer(strict=True, load_default=DEFAULT_REQUESTS, validate=validate.Range(1, 190))
    overlap_ms = fields.Integer(strict=True, load_default=60_000, validate=validate.Range(0, 86_400_000))
    base_url = fields.Url(schemes={"http", "https"}, require_tld=False, load_default=HUBSPOT)


CREDENTIALS = {"bearer": BearerCredentials, "oauth2": GrantCredentials}


def token_url(config: Mapping[str, Any]) -> str:
    return str(config["base_url"]).rstrip("/") + "/oauth/v1/token"


def authorize_url(config: Mapping[str, Any]) -> str:
    """People consent at the application, which is another host than the API's."""
    base_url = str(config["base_url"]).rstrip("/")
    return (HUBSPOT_APP if base_url == HUBSPOT else base_url) + "/oauth/authorize"


def scopes(config: Mapping[str, Any]) -> list[str]:
    return ["oauth", *(f"crm.objects.{name}.read" for name in sorted(config["objects"]))]


def check_hubspot(config: Mapping[str, Any], allow_private: bool) -> Iterator[Problem]:
    """An address of its own is for development, where it is allowed explicitly: elsewhere it would be a way to have a
    customer's token sent to somebody else."""
    yield from only_for_development(config["base_url"], HUBSPOT, allow_private)


def only_for_development(url: str, usual: str, allow_private: bool) -> Iterable[Problem]:
    if url.rstrip("/") == usual:
        return
    if not allow_private:
        yield Problem(
            "/baseUrl",
            f"Leave it out: it is {usual}. Another is for development, with JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES=true.",
        )
        return
    try:
        check_url(url, allow_private=True)
    except AddressRefusedError as error:
        yield Problem("/baseUrl", str(error))


@dataclass(frozen=True)
class HubSpotPlace:
    """Where in a stream a page is.

    ``phase``: ``list`` everything, ``search`` what has changed, what has the ``same`` moment of change, or what is
    ``archived``. ``since`` is what this sync began with, ``start`` where the running search does; ``changed`` and
    ``last_id`` are the newest change seen and whose it was. ``began``: when the first page was answered. ``onward``: a
    search came before the running one, which is where that one was.
    """

    phase: str = "list"
    after: str | None = None
    since: int | None = None
    start: int | None = None
    changed: int | None = None
    last_id: str | None = None
    began: int | None = None
    onward: bool | None = None

    @classmethod
    def read(cls, text: str | None) -> Self:
        if text is None:
            return cls()
        try:
            found = json.loads(text)
            if "state" in found:
                return cls("search", since=int(found["state"]), start=int(found["state"]), changed=int(found["state"]))
            return cls(**found)
        except (ValueError, TypeError) as error:
            raise SourceError(f"{text[:100]!r} is no place in this stream: sync it initially") from error

    def write(self) -> str:
        return json.dumps({name: value for name, value in dataclasses.asdict(self).items() if value is not None})

    def then(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)

    @property
    def is_first_search(self) -> bool:
        """Whether it is the sync's first. A later one may come to the very moment with which that one began."""
        return self.start == self.since and not self.onward

    def state(self) -> str | None:
        """Where the next sync begins. What was listed may have changed while the rest was, so not after the begin."""
        at = self.began if self.since is None else self.changed
        return None if at is None else json.dumps({"state": at})


class HubSpot(AskedSource):
    """An open connection to an account."""

    def __init__(self, opening: Opening) -> None:
        self.config = opening.config
        self.base_url = str(self.config["base_url"]).rstrip("/")
        check_url(self.base_url, allow_private=opening.allow_private)
        self.searches = f"{opening.account}:search"
        client = opening.client(rate=Rate(self.config["requests_per10_seconds"], 10.0), pause=pause_of, rest=rest_of)
        self.asker = Asker(client, judge=judge, patient=opening.patient)
        self.listing = HttpJson.over(self.asker, self._as_http_json())

    def streams(self) -> Sequence[str]:
        return tuple(self.config["objects"])

    def fetch(self, stream: str, cursor: str | None) -> Page:
        place = HubSpotPlace.read(cursor)
        match place.phase:
            case "list":
                return self._list(stream, place)
            case "archived":
                return self._list_archived(stream, place)
            case _:
                return self._search(stream, place)

    # -- listing -------------------------------------------------------------------------------------

    def _as_http_json(self) -> dict[str, Any]:
        """Both kinds of lists, as streams of a source that answers JSON: it is nothing more than that."""
        streams: dict[str, Any] = {}
        for name in self.config["objects"]:
            params = {"properties": ",".join(self._properties(name))}
            if wanted := self.config["associations"].get(name):
                params["associations"] = ",".join(wanted)
            path = f"/crm/v3/objects/{name}"
            streams[name] = {"path": path, "params": {**params, "archived": "false"}}
            streams[f"archived {name}"] = {"path": path, "params": {**params, "archived": "true"}}
        return {"baseUrl": self.base_url, "pageSize": MOST_LISTED, "streams": streams}

    def _list(self, stream: str, place: HubSpotPlace) -> Page:
        page = self.listing.fetch(stream, place.after)
        began = place.began if place.began is not None else self._date()
        place = place.then(after=page.next_cursor, began=began)
        return self._page(stream, page.records, place, is_last=page.next_cursor is None)

    def _list_archived(self, stream: str, place: HubSpotPlace) -> Page:
        page = self.listing.fetch(f"archived {stream}", place.after)
        earliest = None if place.since is None else place.since - self.config["overlap_ms"]
        gone = [
            dataclasses.replace(record, deleted=True)
            for record in page.records
            if earliest is None
            or record.data.get("archivedAt") is None
            or _moment(record.data["archivedAt"], stream) >= earliest
        ]
        following = None if page.next_cursor is None else place.then(after=page.next_cursor).write()
        return Page(self._with_associations(gone), following, state=place.state())

    def _date(self) -> int | None:
        answer = self.asker.last
        return None if answer is None else date_of(answer)

    # -- searching -----------------------------------------------------------------------------------

    def _search(self, stream: str, place: HubSpotPlace) -> Page:
        body = {
            "filterGroups": [{"filters": self._filters(stream, place)}],
            "sorts": [{"propertyName": self._sorted_by(stream, place), "direction": "ASCENDING"}],
            "properties": list(self._properties(stream)),
            "limit": MOST_SEARCHED,
            **({} if place.after is None else {"after": place.after}),
        }
        url = f"{self.base_url}/crm/v3/objects/{stream}/search"
        found = self.asker.post(url, body, resource=self.searches, rate=SEARCHES).json()
        results = found.get("results") if isinstance(found, dict) else None
        if not isinstance(results, list):
            raise SourceError(f"{stream}: the answer has no list at 'results'")
        records = [_as_record(stream, one) for one in results]
        after = ((found.get("paging") or {}).get("next") or {}).get("after")
        total = found.get("total") if place.after is None and place.is_first_search else None
        place, is_last = self._onward(stream, place, records, None if after is None else str(after))
        page = self._page(stream, self._with_found_associations(stream, records), place, is_last=is_last)
        return page if not isinstance(total, int) else Page(page.records, page.next_cursor, total, page.state)

    def _filters(self, stream: str, place: HubSpotPlace) -> list[dict[str, str]]:
        start = place.start or 0
        if place.phase == "same":
            same = [{"propertyName": CHANGED[stream], "operator": "EQ", "value": str(start)}]
            return [*same, {"propertyName": "hs_object_id", "operator": "GT", "value": place.last_id or "0"}]
        # Only the first search of a sync goes back a little: the others begin where the one before was.
        at = start - self.config["overlap_ms"] if place.is_first_search else start
        return [{"propertyName": CHANGED[stream], "operator": "GTE", "value": str(max(0, at))}]

    def _sorted_by(self, stream: str, place: HubSpotPlace) -> str:
        return "hs_object_id" if place.phase == "same" else CHANGED[stream]

    def _onward(
        self, stream: str, place: HubSpotPlace, records: Sequence[SourceRecord], after: str | None
    ) -> tuple[HubSpotPlace, bool]:
        """The place after this page, and whether it was the last of what has changed."""
        changed, last_id = place.changed, place.last_id
        if records:
            newest = _moment(records[-1].data["properties"].get(CHANGED[stream]), stream)
            changed, last_id = max(newest, changed or 0), records[-1].external_id
        place = place.then(changed=changed, last_id=last_id, after=after)
        if place.phase == "same":
            # Each page of these is a search of its own, for greater ids.
            over = place.then(phase="search", start=(place.start or 0) + 1, last_id=None)
            return (over if after is None else place.then(after=None)), False
        if after is None:
            return place, True
        if _offset(after, stream) + MOST_SEARCHED <= SEARCH_WINDOW:
            return place, False
        return self._anew(place, records, stream), False

    def _anew(self, place: HubSpotPlace, records: Sequence[SourceRecord], stream: str) -> HubSpotPlace:
        """Where the next search begins, when this one will not answer more."""
        newest = _moment(records[-1].data["properties"].get(CHANGED[stream]), stream)
        if newest == place.start:
            return place.then(phase="same", after=None, last_id=None, onward=True)
        return place.then(start=newest, after=None, onward=True)

    # --------------------------------------------------------------------------------------------

    def _page(self, stream: str, records: Sequence[SourceRecord], place: HubSpotPlace, *, is_last: bool) -> Page:
        if not is_last:
            return Page(self._with_associations(records), place.write(), state=place.state())
        following = place.then(phase="archived", after=None).write() if self.config["archived"] else None
        return Page(self._with_associations(records), following, state=place.state())

    def _properties(self, stream: str) -> Sequence[str]:
        wanted = self.config["properties"].get(stream) or PROPERTIES[stream]
        return tuple(dict.fromkeys((*wanted, CHANGED[stream])))

    def _with_associations(self, records: Sequence[SourceRecord]) -> list[SourceRecord]:
        """Lists and searches tell associations differently; a record has them in one form, so that it is written anew
        only when they are others."""
        return [dataclasses.replace(record, data=_in_one_form(record.data)) for record in records]

    def _with_found_associations(self, stream: str, records: Sequence[SourceRecord]) -> Sequence[SourceRecord]:
        """A search does not tell them: they are asked for, for a whole page at once."""
        wanted = self.config["associations"].get(stream)
        if not wanted or not records:
            return records
        found: dict[str, dict[str, Any]] = {record.external_id: {} for record in records}
        for other in wanted:
            url = f"{self.base_url}/crm/v4/associations/{stream}/{other}/batch/read"
            inputs = [{"id": record.external_id} for record in records]
            for one in self.asker.post(url, {"inputs": inputs}).json().get("results", []):
                to = [{"id": str(there["toObjectId"])} for there in one.get("to", [])]
                found.setdefault(str(one["from"]["id"]), {})[other] = {"results": to}
        return [
            dataclasses.replace(record, data={**record.data, "associations": found[record.external_id]})
            if found[record.external_id]
            else record
            for record in records
        ]


def pause_of(answer: Answer) -> float:
    """How long an answer of 429 has the account left alone: as long as the limit lasts that it names."""
    policy = _body_of(answer).get("policyName")
    named = PAUSES.get(policy, DEFAULT_PAUSE) if isinstance(policy, str) else DEFAULT_PAUSE
    return max(named, header_seconds(answer.headers.get("retry-after"), answer.headers.get("date")) or 0.0)


def rest_of(answer: Answer) -> float:
    """The same before it comes to that: nothing is left of the running ten seconds. Searches do not say."""
    if answer.headers.get("x-hubspot-ratelimit-remaining", "").strip() != "0":
        return 0.0
    interval = answer.headers.get("x-hubspot-ratelimit-interval-milliseconds", "")
    return int(interval) / 1000 if re.fullmatch(r"[0-9]{1,7}", interval) else PAUSES["TEN_SECONDLY_ROLLING"]


def judge(answer: Answer) -> None:
    """What an answer of HubSpot's means, in its own words."""
    if answer.status in (200, 207):
        return
    said = _body_of(answer)
    words = f"HubSpot answered HTTP {answer.status}"
    if category := said.get("category"):
        words += f" {category}"
    if message := said.get("message"):
        words += f": {redact_text(str(message))[:300]}"
    if correlation := said.get("correlationId"):
        words += f" (correlation id {str(correlation)[:64]})"
    if says_too_often(answer):
        raise SourceBusyError(words, pause_of(answer))
    if answer.status >= 500:
        raise SourceUnreachableError(words)
    raise SourceAnswerError(words, answer.status)


def _body_of(answer: Answer) -> dict[str, Any]:
    try:
        body = json.loads(answer.content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _as_record(stream: str, one: Any) -> SourceRecord:
    if not isinstance(one, dict) or not isinstance(one.get("id"), str) or not isinstance(one.get("properties"), dict):
        raise SourceError(f"{stream}: a result is no object with id and properties")
    return SourceRecord(one["id"], one)


def _in_one_form(data: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in data.items() if name != "associations"}
    found = _ids(data.get("associations"))
    return {**others, "associations": found} if found else others


def _ids(associations: Any) -> dict[str, list[str]]:
    if not isinstance(associations, Mapping):
        return {}
    return {
        str(name): sorted({str(one["id"]) for one in found.get("results", [])})
        for name, found in sorted(associations.items())
        if isinstance(found, Mapping) and found.get("results")
    }


def _offset(after: str, stream: str) -> int:
    try:
        return int(after)
    except ValueError as error:
        raise SourceError(f"{stream}: a search goes on at {after[:100]!r}, which is no number") from error


def _moment(value: Any, stream: str) -> int:
    """HubSpot writes moments as ISO texts, and in some places as milliseconds."""
    try:
        return int(value) if isinstance(value, str) and value.isdigit() else to_milliseconds(value, "moment")
    except (ValueError, TypeError) as error:
        raise SourceError(f"{stream}: {value!r} is no moment") from error
