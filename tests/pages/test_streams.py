"""The streams of pages, on a server that lets its connections go: they keep no request either."""

from __future__ import annotations

import uuid

import pytest
from flask import Flask
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api.streams import carrying
from jobplatform.api.streams.hub import StreamLimits
from jobplatform.queue import NewJob, enqueue_job
from jobplatform.testing import wait_until
from tests.api.conftest import hub_of
from tests.api.streams import ask_as_gunicorn_does
from tests.pages.conftest import Visitor


@pytest.fixture
def job(sessions: sessionmaker[Session], acme: uuid.UUID) -> str:
    with sessions.begin() as session:
        return str(enqueue_job(session, NewJob(workspace_id=acme, task="echo", payload="{}")).job_id)


STREAMS = (
    ("operator", "/console/changes?of=jobs"),
    ("operator", "/console/jobs/{acme}/{job}/events"),
    ("member", "/w/{acme}/events"),
    ("member", "/w/{acme}/jobs/{job}/events"),
)


@pytest.mark.parametrize(("who", "path"), STREAMS)
def test_the_stream_of_a_page_goes_on_when_its_request_has_ended(
    who: str,
    path: str,
    request: pytest.FixtureRequest,
    app: Flask,
    acme: uuid.UUID,
    job: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    visitor: Visitor = request.getfixturevalue(who)
    cookies = visitor.get("/").request.headers["Cookie"]
    monkeypatch.setattr(carrying, "has_greenlets", lambda: True)
    hub_of(app).limits = StreamLimits(process=500, workspace=500, token=500)

    theirs = ask_as_gunicorn_does(app, path.format(acme=acme, job=job), {"Cookie": cookies})

    with theirs:
        head = theirs.recv(1 << 16)
        assert head.startswith(b"HTTP/1.1 200"), head
        assert head.lower().count(b"x-request-id") == 1
        assert (hub_of(app).following_now, len(hub_of(app)._carrier)) == (1, 1)
        hub_of(app).close()
        data = b""
        while found := theirs.recv(1 << 16):
            data += found
    assert data.endswith(b"0\r\n\r\n")
    wait_until(lambda: hub_of(app).following_now == 0, what="its place to be free")
