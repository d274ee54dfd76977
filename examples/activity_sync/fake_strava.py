"""A stand-in for Strava's API: activities, streams, tokens that rotate, and limits, as its description says.

    python examples/activity_sync/fake_strava.py

prints its URL and serves a made-up athlete until Ctrl-C.
"""

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import contextlib

from examples.stand_in import Answer, Asked, StandIn


class FakeStrava(StandIn):
    """An athlete, and the limits of an application: of each quarter hour, and of each day."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.athlete_id = 4711
        self.activities: dict[int, dict[str, Any]] = {}
        self.streams: dict[int, dict[str, Any]] = {}
        self.private: set[int] = set()
        self.limits = (200, 2000)
        self.used = [0, 0]
        self.offset = 0.0
        self.expires_in = 21_600

    def now(self) -> float:
        return time.time() + self.offset

    def add(self, identifier: int, start: str, *, name: str = "Run", points: int = 0) -> None:
        """An activity; one that was recorded has points, one that was entered by hand has none."""
        with self.lock:
            self.activities[identifier] = {
                "id": identifier,
                "name": name,
                "type": "Run",
                "sport_type": "Run",
                "start_date": start,
                "distance": float(points * 10),
                "moving_time": points * 4,
                "manual": points == 0,
                "athlete": {"id": self.athlete_id},
            }
            if points:
                self.streams[identifier] = {
                    "time": [at * 4 for at in range(points)],
                    "latlng": [[52.5 + at * 0.0001, 13.4] for at in range(points)],
                    "altitude": [30.0 + at % 7 for at in range(points)],
                }

    def delete(self, identifier: int) -> None:
        with self.lock:
            del self.activities[identifier]

    # -- what is answered

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/oauth/authorize":
            return self.consent(asked, separator=",")
        if asked.path == "/oauth/token":
            return self._token(asked)
        if not self.is_known(asked):
            return _fault(401, "Authorization Error", "Athlete", "access_token", "invalid")
        self.used = [used + 1 for used in self.used]
        told = self._told()
        if self.used[0] > self.limits[0] or self.used[1] > self.limits[1]:
            self.too_often += 1
            return _fault(429, "Rate Limit Exceeded", "Application", "rate limit", "exceeded", told)
        match asked.path.removeprefix("/api/v3/").split("/"):
            case ["athlete", "activities"]:
                return self._list(asked, told)
            case ["activities", identifier] if self._seen(identifier):
                return Answer(200, self.activities[int(identifier)], told)
            case ["activities", identifier, "streams"] if self._seen(identifier) and int(identifier) in self.streams:
                return Answer(200, self._streams(int(identifier), asked.query.get("keys", "")), told)
        return _fault(404, "Record Not Found", "Activity", "id", "invalid", told)

    def _token(self, asked: Asked) -> Answer:
        form = asked.form()
        if form.get("client_id") != self.client_id:
            return _fault(400, "Bad Request", "Application", "client_id", "invalid")
        if not self.knows_client(form):
            return _fault(401, "Authorization Error", "Application", "", "invalid")
        by_code = form.get("grant_type") == "authorization_code"
        found = self.tokens_for_code(form) if by_code else self.new_tokens(form, rotates=True)
        if found is None and by_code:
            return _fault(400, "Bad Request", "RequestToken", "code", "invalid")
        if found is None:
            return _fault(400, "Bad Request", "RefreshToken", "refresh_token", "invalid")
        if by_code:
            found["athlete"] = {"id": self.athlete_id, "username": "ada"}
        return Answer(200, {**found, "expires_in": self.expires_in, "expires_at": int(self.now()) + self.expires_in})

    def _told(self) -> dict[str, str]:
        limits, used = ",".join(map(str, self.limits)), ",".join(map(str, self.used))
        return {
            "X-RateLimit-Limit": limits,
            "X-RateLimit-Usage": used,
            "X-ReadRateLimit-Limit": limits,
            "X-ReadRateLimit-Usage": used,
        }

    def _seen(self, identifier: str) -> bool:
        return int(identifier) in self.activities and int(identifier) not in self.private

    def _list(self, asked: Asked, told: dict[str, str]) -> Answer:
        page, size = int(asked.query.get("page", "1")), int(asked.query.get("per_page", "30"))
        if size > 200:
            return _fault(400, "Bad Request", "Application", "per page", "limit exceeded", told)
        found = sorted(self.activities.values(), key=_started)
        if "after" in asked.query:
            found = [one for one in found if _started(one) > int(asked.query["after"])]
        else:
            found.reverse()
        return Answer(200, found[(page - 1) * size : page * size], told)

    def _streams(self, identifier: int, keys: str) -> dict[str, Any]:
        there = self.streams[identifier]
        return {
            key: {
                "data": there[key],
                "series_type": "distance",
                "original_size": len(there[key]),
                "resolution": "high",
            }
            for key in keys.split(",")
            if key in there
        }


def _started(activity: dict[str, Any]) -> float:
    from datetime import datetime

    return datetime.fromisoformat(activity["start_date"]).timestamp()


def _fault(
    status: int, message: str, resource: str, field: str, code: str, headers: dict[str, str] | None = None
) -> Answer:
    errors = [{"resource": resource, "field": field, "code": code}]
    return Answer(status, {"message": message, "errors": errors}, headers or {})


if __name__ == "__main__":
    with FakeStrava(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as strava:
        for number in range(1, 21):
            strava.add(number, f"2026-05-{number:02d}T06:00:00Z", name=f"Morning run {number}", points=number * 20)
        print(strava.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            strava._thread.join()
