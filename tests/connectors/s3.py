"""A store that speaks S3: moto's server behind a guard that believes no request whose signature is not right.

moto takes any signature. The guard reckons it out for itself, as the description of Signature Version 4 has it: of
requests with a header, bodies included, and of links, which are over when they say so.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from werkzeug.serving import make_server

KEY_ID, SECRET, REGION = "AKIDTEST", "a-secret/of+the=store", "eu-central-1"
ALGORITHM = "AWS4-HMAC-SHA256"

Environ = dict[str, Any]
Start = Callable[..., Any]


class Guarded:
    """moto's application, and who may use it. ``refuses`` is asked of each request that is right, with its query: what
    it answers is said instead. ``offset`` moves the guard's clock, in seconds."""

    def __init__(self, application: Callable[[Environ, Start], Iterable[bytes]]) -> None:
        self._application = application
        self.url = ""
        self.offset = 0.0
        self.turned_away: list[str] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.refuses: Callable[[str, dict[str, str]], str | None] = lambda _method, _query: None

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        path, _, text = environ["REQUEST_URI"].partition("?")
        query = dict(parse_qsl(text, keep_blank_values=True))
        if wrong := self._wrong_with(environ, path, query, body):
            self.turned_away.append(wrong)
            return refusal(start, "403 Forbidden", wrong)
        self.seen.append((environ["REQUEST_METHOD"], query))
        if said := self.refuses(environ["REQUEST_METHOD"], query):
            return refusal(start, "403 Forbidden", said)
        return self._application(environ, start)

    def _wrong_with(self, environ: Environ, path: str, query: dict[str, str], body: bytes) -> str | None:
        if "X-Amz-Signature" in query:
            return self._wrong_with_link(environ, path, query)
        header = environ.get("HTTP_AUTHORIZATION", "")
        if not header.startswith(f"{ALGORITHM} "):
            return "AccessDenied"
        said = dict(part.strip().split("=", 1) for part in header.removeprefix(ALGORITHM).split(","))
        digest = environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")
        if digest != hashlib.sha256(body).hexdigest():
            return "XAmzContentSHA256Mismatch"
        moment = environ["HTTP_X_AMZ_DATE"]
        if abs(self._age(moment)) > 900:
            return "RequestTimeTooSkewed"
        facts = {"query": query, "digest": digest, "moment": moment}
        return verdict(environ, path, said["Credential"], said["SignedHeaders"], said["Signature"], **facts)

    def _wrong_with_link(self, environ: Environ, path: str, query: dict[str, str]) -> str | None:
        if self._age(query["X-Amz-Date"]) > int(query["X-Amz-Expires"]):
            return "AccessDenied"
        signed = {name: value for name, value in query.items() if name != "X-Amz-Signature"}
        facts = {"query": signed, "digest": "UNSIGNED-PAYLOAD", "moment": query["X-Amz-Date"]}
        credential, names = query["X-Amz-Credential"], query["X-Amz-SignedHeaders"]
        return verdict(environ, path, credential, names, query["X-Amz-Signature"], **facts)

    def _age(self, moment: str) -> float:
        then = datetime.datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        return (datetime.datetime.now(datetime.UTC) - then).total_seconds() + self.offset


def verdict(
    environ: Environ,
    path: str,
    credential: str,
    names: str,
    signature: str,
    *,
    query: dict[str, str],
    digest: str,
    moment: str,
) -> str | None:
    """What is wrong with a signature, in the store's words."""
    key_id, day, region, service, end = credential.split("/")
    if (key_id, region, service, end) != (KEY_ID, REGION, "s3", "aws4_request"):
        return "InvalidAccessKeyId"
    # Each pair as it is written, and in the order of how it is.
    pairs = "&".join(f"{name}={value}" for name, value in sorted((written(n), written(v)) for n, v in query.items()))
    headers = [f"{name}:{' '.join(value_of(environ, name).split())}\n" for name in names.split(";")]
    request = "\n".join(
        [environ["REQUEST_METHOD"], quote(unquote(path), safe="/~"), pairs, "".join(headers), names, digest]
    )
    scope = f"{day}/{region}/{service}/{end}"
    to_sign = "\n".join([ALGORITHM, moment, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    right = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return None if hmac.compare_digest(right, signature) else "SignatureDoesNotMatch"


def written(text: str) -> str:
    return quote(text, safe="-_.~")


def value_of(environ: Environ, header: str) -> str:
    name = header.upper().replace("-", "_")
    return str(environ.get(name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}", ""))


def refusal(start: Start, status: str, code: str) -> list[bytes]:
    start(status, [("Content-Type", "application/xml")])
    return [f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()]


@contextmanager
def serving_s3() -> Iterator[Guarded]:
    """Such a store, in threads of this process; everything that is asked of it goes over HTTP."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    guarded = Guarded(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, guarded, threaded=True)
    guarded.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield guarded
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
