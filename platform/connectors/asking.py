"""The client of a connection: the guarded client, with the connection's credentials and what it shares with others.

1. It waits for the account's turn: a break that the source has asked for, or a rate, is everybody's.
2. It puts the credentials on the request, if that goes to the place that they were given for.
3. Told that they are not accepted (401) it has them renewed, once, and asks again.
4. Told "too often" (429, or 503 with Retry-After) it has everybody leave the account alone, for as long as it said.
"""

from __future__ import annotations

import base64
import dataclasses
import time
from collections.abc import Callable, Mapping

import httpx

from jobplatform.connectors.keeping import Credentials, Keeper, Rate
from jobplatform.connectors.outside import Answer, Asking, OutsideClient, Sink
from jobplatform.errors import NeedsAttentionError, SourceBusyError
from jobplatform.queue.run.retry_after import header_seconds

DEFAULT_PAUSE = 1.0
#: A turn that comes later than this is not waited for here: it would hold a slot of the worker.
LONGEST_WAIT = 10.0

Pause = Callable[[Answer], float]


def pause_of(answer: Answer) -> float:
    """How long an answer that says "too often" asks to wait: seconds or a date, as HTTP allows; a second when that is
    missing or makes no sense."""
    said = header_seconds(answer.headers.get("retry-after"), answer.headers.get("date"))
    return DEFAULT_PAUSE if said is None else max(0.0, said)


def says_too_often(answer: Answer) -> bool:
    """Whether an answer means that the source was asked too often."""
    return answer.status == 429 or (answer.status == 503 and "retry-after" in answer.headers)


class SourceClient(Asking):
    """Asks a connection's source. For one thread at a time; close it, or use it with ``with``."""

    def __init__(
        self,
        outside: OutsideClient,
        *,
        keeper: Keeper,
        resource: str,
        rate: Rate | None = None,
        credentials: Credentials | None = None,
        origin: str | None = None,
        pause: Pause = pause_of,
        rest: Pause | None = None,
        longest_wait: float = LONGEST_WAIT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._outside = outside
        self._keeper = keeper
        self._resource = resource
        self._rate = rate
        self._credentials = credentials
        self._origin = None if origin is None else origin_of(origin)
        self._pause = pause
        self._rest = rest
        self._longest_wait = longest_wait
        self._sleep = sleep

    def close(self) -> None:
        self._outside.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        into: Sink | None = None,
        resource: str | None = None,
        rate: Rate | None = None,
    ) -> Answer:
        """Ask, and read all of the answer, whatever its status; ``into`` a file, if there is one. ``resource`` and
        ``rate`` are of a part of the account that has a rate of its own, besides the account's.

        Raises what :class:`OutsideClient` does; :class:`SourceBusyError` while the account is to be left alone; and
        :class:`NeedsAttentionError` when the credentials are not accepted, which is noted for all.
        """
        if resource is not None:
            self._wait_for_turn(resource, rate)
        self._wait_for_turn(self._resource, self._rate)
        credentials = self._fresh() if self._trusts(url) else None
        answer = self._ask(method, url, params, headers, content, credentials, into)
        while answer.status == 401 and credentials is not None:
            # Those that somebody else has renewed may have run out by now, too; new ones cannot have.
            credentials = self._renewed(credentials, answer)
            self._wait_for_turn(self._resource, self._rate)
            answer = self._ask(method, url, params, headers, content, credentials, into)
        if says_too_often(answer):
            self._leave_alone_after(self._pause(answer), resource, rate)
        elif self._rest is not None:
            self.leave_alone(self._rest(answer))
        return answer

    def leave_alone(self, seconds: float, resource: str | None = None) -> None:
        """Have nobody ask the account (or the part of it) for so long."""
        if seconds > 0:
            self._keeper.close(resource or self._resource, seconds)

    # --------------------------------------------------------------------------------------------

    def _wait_for_turn(self, resource: str, rate: Rate | None) -> None:
        waited = 0.0
        while (wait := self._keeper.turn(resource, rate)) > 0:
            waited += wait
            if waited > self._longest_wait:
                raise SourceBusyError(f"{resource} has been asked as often as it may be for now", wait)
            self._sleep(wait)

    def _leave_alone_after(self, pause: float, resource: str | None, rate: Rate | None) -> None:
        """The part that was asked for; and the account, if it is for longer than the part's own rate lasts."""
        if resource is not None:
            self.leave_alone(pause, resource)
        if resource is None or rate is None or pause > rate.seconds:
            self.leave_alone(pause)

    def _trusts(self, url: str) -> bool:
        return self._origin is None or origin_of(url) == self._origin

    def _fresh(self) -> Credentials | None:
        if self._credentials is not None and self._credentials.are_stale:
            self._credentials = dataclasses.replace(self._keeper.renew(self._credentials), is_new=False)
        return self._credentials

    def _renewed(self, refused: Credentials, answer: Answer) -> Credentials:
        if refused.is_new:
            raise self._refused(refused, answer)
        renewed = self._keeper.renew(refused)
        self._credentials = dataclasses.replace(renewed, is_new=False)
        return renewed

    def _refused(self, refused: Credentials, answer: Answer) -> NeedsAttentionError:
        reason = f"{answer.url} does not accept the connection's credentials, new as they are; give it others"
        self._keeper.needs_attention(reason, refused)
        return NeedsAttentionError(reason)

    def _ask(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        content: bytes | None,
        credentials: Credentials | None,
        into: Sink | None = None,
    ) -> Answer:
        shown_headers, shown_params = shown(credentials)
        return self._outside.request(
            method,
            url,
            params={**(params or {}), **shown_params},
            headers={**(headers or {}), **shown_headers},
            content=content,
            into=into,
        )


def shown(credentials: Credentials | None) -> tuple[dict[str, str], dict[str, str]]:
    """The headers and the parameters by which a source knows us."""
    if credentials is None:
        return {}, {}
    values = credentials.values
    match credentials.scheme:
        case "bearer":
            return {"Authorization": f"Bearer {values['token']}"}, {}
        case "oauth2":
            return {"Authorization": f"Bearer {values.get('access_token', '')}"}, {}
        case "basic":
            pair = base64.b64encode(f"{values['username']}:{values['password']}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}, {}
        case "header":
            return {values["name"]: values["value"]}, {}
        case "query":
            return {}, {values["name"]: values["value"]}
        case _:
            return {}, {}  # Of a connector that is no HTTP source.


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, in one form."""
    parsed = httpx.URL(url)
    port = parsed.port or {"https": 443, "http": 80}.get(parsed.scheme)
    return f"{parsed.scheme}://{parsed.host}:{port}"
