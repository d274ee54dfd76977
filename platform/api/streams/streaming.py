"""Requests that are held open: server-sent events, and answers that wait for a change.

Both put a follower into the hub and hold nothing else: no Session, no connection, no request's context. Where the
server lets go of its connection, a stream does not even hold its request: see :mod:`jobplatform.api.streams.carrying`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flask import Response, current_app, request

from jobplatform.api.access.guard import current_principal
from jobplatform.api.answers import LIVE, show
from jobplatform.api.mounted import Reach, mounted
from jobplatform.api.problems import unavailable
from jobplatform.api.reading import reader_sees_sealed
from jobplatform.api.schemas.fields import camel
from jobplatform.api.streams.carrying import UNREAD, Answering, Beat, lets_go, next_beat, take_over
from jobplatform.api.streams.following import Follower, Reader, Waiter
from jobplatform.api.streams.hub import Hub, NoPlaceError, Transaction
from jobplatform.models import Job, Role
from jobplatform.queue import Change

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

EVENT_STREAM = "text/event-stream"
#: Seconds after which a stream ends, and its client comes back with its position.
LONGEST_STREAM = 900.0
#: Milliseconds after which a client comes back.
RETRY_MS = 1_000
#: Seconds after which it makes sense to ask again for a place.
NO_PLACE_RETRY_AFTER = 10


def reader_of_request(workspace_id: UUID) -> Reader:
    """On whose behalf this request follows something."""
    principal = current_principal()
    age = LONGEST_STREAM if principal.expires_in is None else min(LONGEST_STREAM, principal.expires_in)
    return Reader(str(workspace_id), principal.token_id, reader_sees_sealed(), time.monotonic() + age)


class StreamResponse(Response):
    """The answer that tells what a follower is fed: for as long as that is, or until somebody else goes on with it."""

    def __init__(self, hub: Hub, follower: Follower, beat: Beat) -> None:
        super().__init__(_tell(follower, beat), content_type=EVENT_STREAM)
        self._hub, self._follower, self._beat = hub, follower, beat
        self._is_carried = False
        # Not at the end of the iteration: one that never begins never ends.
        self.call_on_close(self._leave)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if answering := lets_go(start_response):
            self.response = self._greet_and_hand_over(answering)
        return super().__call__(environ, start_response)

    def _greet_and_hand_over(self, answering: Answering) -> Iterator[str]:
        # Said in the head, which goes with the greeting: nobody sends another request after the stream's end.
        answering.force_close()
        yield _greet(self._beat)
        self._hub.carry(take_over(answering, self._follower, self._beat))
        self._is_carried = True

    def _leave(self) -> None:
        if not self._is_carried:
            self._hub.leave(self._follower)


def stream(follower: Follower, beat: Beat = lambda: ": \n\n") -> Response:
    """The answer that tells what ``follower`` is fed. ``beat`` is said at the beginning and when nothing else is."""
    hub = mounted().hub
    answer = StreamResponse(hub, follower, beat)
    # Or a proxy keeps events until it has a few kilobytes of them.
    answer.headers["X-Accel-Buffering"] = "no"
    if request.method == "HEAD":
        return answer
    try:
        hub.join(follower, _transaction())
    except NoPlaceError as error:
        raise unavailable(f"{error} Poll instead, or try again.", NO_PLACE_RETRY_AFTER) from None
    _limit_patience(request.environ)
    # The server keeps the environment for as long as the stream lasts, and this would keep all of the request.
    request.environ.pop("werkzeug.request", None)
    return answer


def show_after(seconds: int, read: Callable[[], Job]) -> Response:
    """The job as soon as it is another than the client knows or, without a tag from the client, than it is now.

    As it is when the time is over, when it has ended, or when nobody else may wait.
    """
    job = read()
    answer = show(job)
    is_news = bool(request.if_none_match) and answer.status_code == 200
    if not seconds or is_news or job.status not in LIVE:
        return answer
    follower = Waiter(reader_of_request(job.workspace_id), str(job.id))
    with _followed(mounted().hub, follower):
        return _wait(follower, answer, read, time.monotonic() + seconds)


def render_event(change: Change, position: str) -> str:
    """A change as an event of a stream."""
    data = {camel(name): value for name, value in change.about.items()}
    return write_event(f"job.{change.kind}", position, data)


def write_event(name: str | None, position: str, data: Any) -> str:
    """One event. JSON has no line breaks of its own, so its text is one line.

    Three further characters are line breaks to some clients, and to no specification.
    """
    named = f"event: {name}\n" if name else ""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).translate(_BREAKS)
    return f"{named}id: {position}\ndata: {text}\n\n"


_BREAKS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}


def _greet(beat: Beat) -> str:
    return f"retry: {RETRY_MS}\n{beat()}"


def _tell(follower: Follower, beat: Beat) -> Iterator[str]:
    yield _greet(beat)
    while True:
        text = follower.take(next_beat())
        if text:
            yield text
        elif not follower.ended:
            yield beat()
        if follower.ended and not follower.waiting:
            return


def _wait(follower: Waiter, answer: Response, read: Callable[[], Job], until: float) -> Response:
    """Read again whenever something has changed: it may be something that is not shown."""
    tag = answer.get_etag()
    while follower.take(max(0.0, until - time.monotonic())):
        answer = show(read())
        if answer.get_etag() != tag:
            break
    return answer


@contextlib.contextmanager
def _followed(hub: Hub, follower: Follower) -> Iterator[None]:
    """With no place left nothing is waited for: the answer comes at once."""
    try:
        hub.join(follower, _transaction())
    except NoPlaceError:
        follower.end()
    try:
        yield
    finally:
        hub.leave(follower)


def _transaction() -> Transaction:
    """For the hub's thread, which serves all workspaces and no request."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # Flask's way to hand it to a thread
    api = mounted()

    @contextlib.contextmanager
    def transaction() -> Iterator[Any]:
        with app.app_context(), api.transaction(Reach(Role.OPERATOR)) as session:
            yield session

    return transaction


def _limit_patience(environ: dict[str, Any]) -> None:
    """Where the server shows its socket: writing to a client that does not read fails after a while."""
    for name in ("gunicorn.socket", "werkzeug.socket"):
        if name in environ:
            environ[name].settimeout(UNREAD)
