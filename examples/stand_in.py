"""What the stand-ins of providers have in common: a small HTTP server on loopback, with tokens that can be refreshed.

A stand-in answers as a provider's published description says, errors included, so that an example can be run, and
tested, without an account. It holds nobody's data.
"""

import base64
import email.utils
import hashlib
import http.server
import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlencode, urlsplit


class Answer(NamedTuple):
    """What is answered to a request."""

    status: int
    body: Any
    headers: Mapping[str, str] = {}


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


class StandIn(http.server.ThreadingHTTPServer):
    """The server. Subclasses say what is answered (:meth:`answer`).

    ``access`` are the access tokens that are good, ``refresh`` the refresh tokens. ``next_answers`` are given before
    anything else, one to each request. ``requests`` is what was asked. Whoever is sent to the page of consent says yes,
    to all or to what is in ``granted``, or no if ``denies``.
    """

    daemon_threads = True
    client_id, client_secret = "12345", "client-secret-of-the-application"

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.lock = threading.RLock()
        self.access = {"access-token-0"}
        self.refresh = {"refresh-token-0"}
        self.refreshed = 0
        self.denies = False
        self.granted: set[str] | None = None
        self.codes: dict[str, dict[str, str]] = {}
        self.too_often = 0
        self.requests: list[Asked] = []
        self.next_answers: deque[Answer] = deque()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def now(self) -> float:
        """The provider's own clock."""
        return time.time()

    def answer(self, asked: Asked) -> Answer:
        raise NotImplementedError

    def is_known(self, asked: Asked) -> bool:
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        return scheme == "Bearer" and token in self.access

    def expire(self) -> None:
        """Every access token is too old now."""
        with self.lock:
            self.access.clear()

    def revoke(self) -> None:
        """The user has taken the access back."""
        with self.lock:
            self.access.clear()
            self.refresh.clear()

    def consent(self, asked: Asked, separator: str = " ") -> Answer:
        """The page of consent, of somebody who has made up their mind: they are sent back at once."""
        query = asked.query
        if query.get("client_id") != self.client_id or query.get("response_type") != "code":
            return Answer(400, {"message": "unknown application"})
        wanted = query.get("scope", "").split(separator)
        granted = [scope for scope in wanted if self.granted is None or scope in self.granted]
        said = {"state": query["state"], "code": f"code-{len(self.codes)}", "scope": separator.join(granted)}
        if self.denies:
            said = {"state": query["state"], "error": "access_denied", "error_description": "The user said no"}
        else:
            self.codes[said["code"]] = dict(query)
        return Answer(302, {}, {"Location": f"{query['redirect_uri']}?{urlencode(said)}"})

    def knows_client(self, form: Mapping[str, str]) -> bool:
        """Whether a form names our application, and its secret."""
        return (form.get("client_id"), form.get("client_secret")) == (self.client_id, self.client_secret)

    def tokens_for_code(self, form: Mapping[str, str]) -> dict[str, Any] | None:
        """What a code is changed into, once, for whoever asked for it; None where that cannot be."""
        begun = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if begun is None or not self.knows_client(form) or challenge != begun["code_challenge"]:
            return None
        if form.get("redirect_uri") != begun["redirect_uri"]:
            return None
        return self._next_tokens(rotates=True)

    def new_tokens(self, form: Mapping[str, str], *, rotates: bool) -> dict[str, Any] | None:
        """What a refresh token is changed into; None where that cannot be. The old access token is of no use then."""
        if form.get("grant_type") != "refresh_token" or not self.knows_client(form):
            return None
        if form.get("refresh_token") not in self.refresh:
            return None
        return self._next_tokens(rotates=rotates)

    def _next_tokens(self, *, rotates: bool) -> dict[str, Any]:
        self.refreshed += 1
        self.access = {f"access-token-{self.refreshed}"}
        if rotates or not self.refresh:
            self.refresh = {f"refresh-token-{self.refreshed}"}
        (access,), (refresh,) = self.access, self.refresh
        return {"access_token": access, "refresh_token": refresh, "token_type": "Bearer"}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"
    # Head and body in two packets would wait for each other.
    wbufsize = -1

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        asked = Asked(self.command, parts.path, query, headers, body)
        with self.server.lock:
            self.server.requests.append(asked)
            found = self.server.next_answers.popleft() if self.server.next_answers else self.server.answer(asked)
        content = json.dumps(found.body).encode()
        self.send_response(found.status)
        for name, value in {"Content-Type": "application/json", **found.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return email.utils.formatdate(self.server.now() if timestamp is None else timestamp, usegmt=True)

    def log_message(self, *_: Any) -> None:
        """Nobody reads along."""
