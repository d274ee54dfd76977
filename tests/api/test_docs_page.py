"""The page that shows the document: only where it is wanted, and with nothing from elsewhere."""

from __future__ import annotations

import pytest
from flask import Flask
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import create_blueprint, docs_page
from jobplatform.errors import SettingsError
from jobplatform.queue import Tasks
from tests.api.conftest import Client

PATHS = {
    "/docs": "text/html",
    "/docs/start.js": "text/javascript",
    "/docs/swagger-ui-bundle.js": "text/javascript",
    "/docs/swagger-ui.css": "text/css",
}


@pytest.fixture
def reader(sessions: sessionmaker[Session], tasks: Tasks) -> Client:
    """Somebody without a token, at an API that has the page."""
    host = Flask(__name__)
    host.register_blueprint(create_blueprint(sessions, tasks, trust_login=True, docs=True), url_prefix="/jobs-api")
    return Client(host.test_client(), None)


def test_the_page_and_its_files_come_from_here_under_a_strict_policy(reader: Client) -> None:
    for path, kind in PATHS.items():
        answer = reader.get(f"/jobs-api{path}")

        assert (answer.status_code, answer.mimetype) == (200, kind)
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    page = reader.get("/jobs-api/docs").text
    assert "://" not in page
    assert "<script>" not in page
    assert "style=" not in page


def test_a_browser_that_has_a_file_is_not_sent_it_again(reader: Client) -> None:
    tag = reader.get("/jobs-api/docs/swagger-ui.css").headers["ETag"]

    again = reader.get("/jobs-api/docs/swagger-ui.css", headers={"If-None-Match": tag})

    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("path", ["docs/start.js", "client/v1/jobplatform.js"])
def test_a_file_is_shown_whatever_state_its_reader_expects_it_in(reader: Client, path: str) -> None:
    assert reader.get(f"/jobs-api/{path}", headers={"If-Match": '"another"'}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_where_nobody_wants_it_there_is_nothing(nobody: Client, path: str) -> None:
    assert nobody.get(path).status_code == 404


def test_without_its_package_an_api_that_wants_it_does_not_start(
    sessions: sessionmaker[Session], tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docs_page, "PACKAGE", "a_package_that_nobody_has")

    with pytest.raises(SettingsError, match=r"pip install 'jobplatform\[docs\]'"):
        create_blueprint(sessions, tasks, docs=True)
