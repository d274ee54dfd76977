"""How many requests a token may make, and the headers that say how many are left.

A bucket for each token, in this process's memory: nobody is asked and nothing is written, so a limit costs next to
nothing and protects the database itself. Several processes of a server count apart, so each may let through as many.
The headers are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Final, NamedTuple

from flask import Response, g

from jobplatform.api.access.principals import Principal
from jobplatform.api.problems import ProblemError
from jobplatform.wording import plural

WINDOW: Final = 60.0
#: Tokens that are remembered. Whoever asked least recently is forgotten, and so begins with a full bucket.
MOST_BUCKETS: Final = 10_000
#: All tokens for one job that were made with one token may together make as many requests as this many of them. Whoever
#: has the token can make as many as they like, each of them with a bucket of its own.
JOBS_TOGETHER: Final = 20

POLICY, STATE = "RateLimit-Policy", "RateLimit"


class Standing(NamedTuple):
    """How somebody stands after a request: may it be made, how many more may, and in how many seconds all may."""

    allowed: bool
    limit: int
    left: int
    seconds: int
    """Until the bucket is full or, for one that was refused, until the next request may be made."""

    def headers(self) -> Mapping[str, str]:
        return {
            POLICY: f'"requests";q={self.limit};w={WINDOW:.0f}',
            STATE: f'"requests";r={self.left};t={self.seconds}',
        }


class RequestRates:
    """``per_minute`` requests of each token, at most that many at once. 0 is no limit."""

    def __init__(self, per_minute: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        # What was left, and when: a bucket fills by itself.
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, who: Hashable, times: int = 1) -> Standing:
        """Count a request of somebody who may make so many ``times`` as many as others."""
        most = self.per_minute * times
        per_second = most / WINDOW
        with self._lock:
            now = self._clock()
            left = self._left(who, now, most)
            allowed = left >= 1
            left -= allowed
            self._buckets[who] = (left, now)
            self._buckets.move_to_end(who)
            if len(self._buckets) > MOST_BUCKETS:
                self._buckets.popitem(last=False)
        missing = most - left if allowed else 1 - left
        return Standing(allowed, most, int(left), max(1, math.ceil(missing / per_second)))

    def left(self, who: Hashable) -> float:
        """How many they may make now; nothing is counted."""
        with self._lock:
            return self._left(who, self._clock(), self.per_minute)

    def _left(self, who: Hashable, now: float, most: int) -> float:
        left, at = self._buckets.get(who, (float(most), now))
        return min(most, left + (now - at) * most / WINDOW)


def require_rate(rates: RequestRates, principal: Principal) -> None:
    """For the guard: let the request go on, or end it with 429. Its answer will say how many are left."""
    if not rates.per_minute:
        return
    who = principal.token_id or principal.name
    if principal.job_id is not None:
        # Before its own bucket is looked for: made-up ones shall not push out those of others.
        _require(rates.take((who, "jobs"), JOBS_TOGETHER))
    _require(rates.take((who, principal.job_id)))


def _require(standing: Standing) -> None:
    g.jobplatform_standing = standing
    if not standing.allowed:
        raise _too_many(standing)


def tell_standing(response: Response) -> Response:
    """Add the headers to an answer, unless it speaks of another quota already."""
    standing: Standing | None = g.get("jobplatform_standing")
    if standing is not None and STATE not in response.headers:
        response.headers.update(standing.headers())
    return response


def _too_many(standing: Standing) -> ProblemError:
    return ProblemError(
        429,
        f"This token may make {plural(standing.limit, 'request')} a minute, and has.",
        extra={"limit": standing.limit},
        headers={"Retry-After": str(standing.seconds)},
    )
