"""A stand-in for HubSpot's CRM API: lists, searches, associations, tokens and limits, as its description says.

    python examples/crm_sync/fake_hubspot.py

prints its URL and serves a made-up account until Ctrl-C.
"""

import sys
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import contextlib

from examples.stand_in import Answer, Asked, StandIn

CHANGED = {"contacts": "lastmodifieddate", "companies": "hs_lastmodifieddate", "deals": "hs_lastmodifieddate"}
DEFAULTS = {
    "contacts": ("firstname", "lastname", "email"),
    "companies": ("name", "domain"),
    "deals": ("dealname", "amount", "dealstage"),
}


class FakeHubSpot(StandIn):
    """An account. ``per_10_seconds`` and ``searches_per_second`` are its limits, ``search_window`` is how far a search
    can be paged. ``late`` objects are not found by a search yet."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.objects: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in CHANGED}
        self.associated: dict[tuple[str, str], dict[str, list[str]]] = {}
        self.late: set[str] = set()
        self.scopes = set(CHANGED)
        self.per_10_seconds = 190
        self.searches_per_second = 5
        self.search_window = 10_000
        self.asked_at: list[float] = []
        self.searched_at: list[float] = []
        self.last_id = 100

    # -- what happens in the account

    def put(self, kind: str, at: int | None = None, **properties: str) -> str:
        """A new object; ``at`` is when it was changed last, in milliseconds."""
        with self.lock:
            self.last_id += 1
            identifier = str(self.last_id)
            moment = _iso(at if at is not None else self.milliseconds())
            self.objects[kind][identifier] = {
                "id": identifier,
                "properties": {**properties, "hs_object_id": identifier, "createdate": moment, CHANGED[kind]: moment},
                "createdAt": moment,
                "updatedAt": moment,
                "archived": False,
            }
            return identifier

    def change(self, kind: str, identifier: str, at: int | None = None, **properties: str) -> None:
        with self.lock:
            found = self.objects[kind][identifier]
            moment = _iso(at if at is not None else self.milliseconds())
            found["properties"].update({**properties, CHANGED[kind]: moment})
            found["updatedAt"] = moment

    def archive(self, kind: str, identifier: str) -> None:
        with self.lock:
            found = self.objects[kind][identifier]
            found.update(archived=True, archivedAt=_iso(self.milliseconds()))

    def associate(self, kind: str, identifier: str, other: str, others: list[str]) -> None:
        with self.lock:
            self.associated.setdefault((kind, other), {})[identifier] = others

    def milliseconds(self) -> int:
        return int(self.now() * 1000)

    # -- what is answered

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/oauth/authorize":
            return self.consent(asked)
        if asked.path == "/oauth/v1/token":
            return self._token(asked)
        if not self.is_known(asked):
            message = "The OAuth token used to make this call expired or was revoked."
            return _error(401, "EXPIRED_AUTHENTICATION", message)
        if refused := self._limited(asked.path.endswith("/search")):
            return refused
        match asked.method, asked.path.strip("/").split("/"):
            case "GET", ["crm", "v3", "objects", kind] if kind in CHANGED:
                return self._allowed(kind) or self._list(kind, asked)._replace(headers=self._told())
            case "POST", ["crm", "v3", "objects", kind, "search"] if kind in CHANGED:
                return self._allowed(kind) or self._search(kind, asked.json())
            case "POST", ["crm", "v4", "associations", kind, other, "batch", "read"]:
                return self._associations(kind, other, asked.json())
        return _error(404, "OBJECT_NOT_FOUND", "resource not found")

    def _token(self, asked: Asked) -> Answer:
        form = asked.form()
        if not self.knows_client(form):
            status = "BAD_CLIENT_SECRET" if form.get("client_id") == self.client_id else "BAD_CLIENT_ID"
            message = "missing or unknown client id or secret"
            return Answer(400, {"status": status, "message": message, "correlationId": str(uuid.uuid4())})
        by_code = form.get("grant_type") == "authorization_code"
        found = self.tokens_for_code(form) if by_code else self.new_tokens(form, rotates=False)
        if found is None and by_code:
            message = "missing or unknown auth code"
            return Answer(400, {"status": "BAD_AUTH_CODE", "message": message, "correlationId": str(uuid.uuid4())})
        if found is None:
            message = "missing or invalid refresh token"
            return Answer(400, {"status": "BAD_REFRESH_TOKEN", "message": message, "correlationId": str(uuid.uuid4())})
        return Answer(200, {**found, "expires_in": 1800})

    def _limited(self, searches: bool) -> Answer | None:
        now = time.monotonic()
        self.asked_at = [at for at in self.asked_at if now - at < 10] + [now]
        if searches:
            self.searched_at = [at for at in self.searched_at if now - at < 1] + [now]
        if len(self.asked_at) > self.per_10_seconds:
            return self._too_often("TEN_SECONDLY_ROLLING")
        if len(self.searched_at) > self.searches_per_second:
            return self._too_often("SECONDLY")
        return None

    def _told(self) -> dict[str, str]:
        """Of searches nothing is told."""
        return {
            "X-HubSpot-RateLimit-Max": str(self.per_10_seconds),
            "X-HubSpot-RateLimit-Remaining": str(max(0, self.per_10_seconds - len(self.asked_at))),
            "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
        }

    def _too_often(self, policy: str) -> Answer:
        self.too_often += 1
        message = f"You have reached your {policy.lower()} limit."
        return Answer(
            429,
            {
                "status": "error",
                "message": message,
                "category": "RATE_LIMITS",
                "policyName": policy,
                "correlationId": str(uuid.uuid4()),
            },
        )

    def _allowed(self, kind: str) -> Answer | None:
        if kind in self.scopes:
            return None
        message = f"This app hasn't been granted all required scopes: crm.objects.{kind}.read"
        return _error(403, "MISSING_SCOPES", message)

    def _list(self, kind: str, asked: Asked) -> Answer:
        limit = int(asked.query.get("limit", "10"))
        if not 1 <= limit <= 100:
            return _error(400, "VALIDATION_ERROR", "limit must be at most 100")
        wants_archived = asked.query.get("archived", "false") == "true"
        after = int(asked.query.get("after", "0"))
        found = [one for one in self.objects[kind].values() if one["archived"] == wants_archived]
        page = [one for one in sorted(found, key=lambda one: int(one["id"])) if int(one["id"]) > after][: limit + 1]
        properties = asked.query.get("properties", "").split(",")
        others = [name for name in asked.query.get("associations", "").split(",") if name]
        results = [self._shown(kind, one, properties, others) for one in page[:limit]]
        body: dict[str, Any] = {"results": results}
        if len(page) > limit:
            last = page[limit - 1]["id"]
            body["paging"] = {"next": {"after": last, "link": f"{self.url}{asked.path}?after={last}"}}
        return Answer(200, body)

    def _search(self, kind: str, body: Any) -> Answer:
        limit, after = body.get("limit", 10), int(body.get("after") or 0)
        if not 1 <= limit <= 200:
            return _error(400, "VALIDATION_ERROR", "limit must be at most 200")
        if after + limit > self.search_window:
            return _error(400, "VALIDATION_ERROR", "Paging through results past 10,000 is not supported")
        sorts = body.get("sorts", [])
        if len(sorts) > 1:
            return _error(400, "VALIDATION_ERROR", "Only one sort is supported")
        found = [
            one
            for one in self.objects[kind].values()
            if not one["archived"] and one["id"] not in self.late and _matches(one, body.get("filterGroups", []))
        ]
        if sorts:
            name = sorts[0]["propertyName"]
            found.sort(key=lambda one: _comparable(one, name), reverse=sorts[0].get("direction") == "DESCENDING")
        page = found[after : after + limit]
        answer: dict[str, Any] = {
            "total": len(found),
            "results": [self._shown(kind, one, body.get("properties", []), []) for one in page],
        }
        if after + limit < len(found):
            answer["paging"] = {"next": {"after": str(after + limit)}}
        return Answer(200, answer)

    def _associations(self, kind: str, other: str, body: Any) -> Answer:
        there = self.associated.get((kind, other), {})
        results = [
            {
                "from": {"id": one["id"]},
                "to": [
                    {
                        "toObjectId": int(identifier),
                        "associationTypes": [{"category": "HUBSPOT_DEFINED", "typeId": 1, "label": None}],
                    }
                    for identifier in there[one["id"]]
                ],
            }
            for one in body["inputs"]
            if one["id"] in there
        ]
        return Answer(200 if len(results) == len(body["inputs"]) else 207, {"status": "COMPLETE", "results": results})

    def _shown(self, kind: str, one: dict[str, Any], properties: Iterable[str], others: list[str]) -> dict[str, Any]:
        wanted = {*properties, "hs_object_id", "createdate", CHANGED[kind]}
        wanted |= set() if any(properties) else set(DEFAULTS[kind])
        shown = {**one, "properties": {name: one["properties"].get(name) for name in sorted(wanted) if name}}
        for other in others:
            if found := self.associated.get((kind, other), {}).get(one["id"]):
                results = [{"id": identifier, "type": f"{kind}_to_{other}"} for identifier in found]
                shown.setdefault("associations", {})[other] = {"results": results}
        return shown


def _matches(one: dict[str, Any], groups: list[Any]) -> bool:
    return not groups or any(all(_fits(one, rule) for rule in group["filters"]) for group in groups)


def _fits(one: dict[str, Any], rule: dict[str, str]) -> bool:
    here, there = _comparable(one, rule["propertyName"]), int(rule["value"])
    match rule["operator"]:
        case "GTE":
            return here >= there
        case "GT":
            return here > there
        case "EQ":
            return here == there
    raise ValueError(rule["operator"])


def _comparable(one: dict[str, Any], name: str) -> int:
    value = one["properties"].get(name) or "0"
    return int(value) if value.isdigit() else _milliseconds(value)


def _iso(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03d}Z"


def _milliseconds(text: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _error(status: int, category: str, message: str) -> Answer:
    body = {"status": "error", "message": message, "category": category, "correlationId": str(uuid.uuid4())}
    return Answer(status, body)


if __name__ == "__main__":
    with FakeHubSpot(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as hubspot:
        for number in range(250):
            hubspot.put("contacts", firstname=f"Ada {number}", email=f"ada{number}@example.com")
            hubspot.put("companies", name=f"Company {number}", domain=f"c{number}.example.com")
            hubspot.put("deals", dealname=f"Deal {number}", amount=str(number * 100), dealstage="appointmentscheduled")
        print(hubspot.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            hubspot._thread.join()
