"""Feeds, as they are found."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.connectors import Opening, Page, change_connection, run_sync
from jobplatform.connectors.keeping import Credentials, NobodyElse
from jobplatform.connectors.rss import Rss, RssConfig
from jobplatform.errors import AddressRefusedError, SourceBusyError, SourceError, SourceGoneError, SyncFailedError
from jobplatform.models import Connection, Record
from jobplatform.queue import Skip
from tests.connectors.conftest import Jobs
from tests.connectors.site import Asked, Said, Site

RSS = """<?xml version="1.0" encoding="utf-8"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel>
<title>Weather</title><link>https://weather.example/</link>
<item><guid isPermaLink="false">w-1</guid><title>Rain</title><link>https://weather.example/1</link><category>wet</category>
<pubDate>Mon, 05 Jan 2026 10:00:00 +0100</pubDate>
<enclosure url="https://weather.example/1.png" type="image/png"/>
<description>&lt;p onclick="a()"&gt;Bring &lt;script&gt;a()&lt;/script&gt;an umbrella&lt;/p&gt;</description></item>
<item><title>Sun</title><link>https://weather.example/2</link></item>
</channel></rss>"""
ATOM = """<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Notes</title>
<entry><id>urn:note:1</id><title>One</title><updated>2026-01-05T09:00:00Z</updated>
<content type="html">&lt;b&gt;bold&lt;/b&gt;</content></entry></feed>"""


def feed(text: str, **headers: str) -> Said:
    return Said(200, text.encode(), {"Content-Type": "application/xml", **headers})


def opened(site: Site, path: str = "/feed", **config: Any) -> Rss:
    return Rss(Opening.of(RssConfig, {"url": site.url(path), **config}, allow_private=True))


def fetch(site: Site, cursor: str | None = None, path: str = "/feed") -> Page:
    with opened(site, path) as connector:
        return connector.fetch("entries", cursor)


def test_entries_of_rss_and_atom_come_in_one_form_without_anything_that_runs(site: Site) -> None:
    site.pages |= {"/feed": feed(RSS), "/atom": feed(ATOM)}

    rain, sun = fetch(site).records
    (note,) = fetch(site, path="/atom").records

    assert rain.external_id == "w-1"
    assert rain.data["published"] == "2026-01-05T09:00:00Z"
    assert rain.data["tags"] == ["wet"]
    assert rain.data["enclosures"] == [{"href": "https://weather.example/1.png", "type": "image/png", "length": None}]
    assert rain.data["summary"] == "<p>Bring an umbrella</p>"
    # Without an id its link tells it apart.
    assert (sun.external_id, sun.data["title"]) == ("https://weather.example/2", "Sun")
    assert (note.external_id, note.data["updated"]) == ("urn:note:1", "2026-01-05T09:00:00Z")
    assert note.data["content"] == [{"type": "text/html", "value": "<b>bold</b>"}]


def test_a_feed_is_asked_for_only_if_it_has_changed(site: Site) -> None:
    def answer(asked: Asked) -> Said:
        if asked.headers.get("if-none-match") == '"v1"':
            return Said(304)
        return feed(RSS, **{"ETag": '"v1"', "Last-Modified": "Mon, 05 Jan 2026 09:00:00 GMT"})

    site.pages["/feed"] = answer
    first = fetch(site)

    again = fetch(site, first.state)

    assert (len(first.records), len(again.records)) == (2, 0)
    assert again.state == first.state
    assert site.asked[1].headers["if-modified-since"] == "Mon, 05 Jan 2026 09:00:00 GMT"


@pytest.mark.parametrize("tag", ['"v\xe9"', "x" * 5_000])
def test_a_version_that_no_header_of_ours_can_say_is_not_asked_for(site: Site, tag: str) -> None:
    site.pages["/feed"] = feed(RSS, ETag=tag)

    state = fetch(site).state
    kept_before = json.dumps({"etag": tag})

    assert state is None
    assert [len(fetch(site, cursor).records) for cursor in (state, kept_before)] == [2, 2]
    assert [asked.headers.get("if-none-match") for asked in site.asked] == [None] * 3


def test_what_is_odd_about_a_feed_is_told_and_its_entries_count(site: Site) -> None:
    broken = RSS.replace("</channel></rss>", "<item><description>neither id nor link</description></item>")
    site.pages["/feed"] = feed(broken)

    page = fetch(site)

    assert {record.external_id for record in page.records} == {"w-1", "https://weather.example/2"}
    assert page.skipped == 1
    assert any("not well-formed" in warning for warning in page.warnings)
    assert "1 entry has neither an id nor a link" in page.warnings


@pytest.mark.parametrize("text", ["", "<html><body>Sign in</body></html>", "{}", "\x00\x01"])
def test_what_is_no_feed_is_said_to_be_none(site: Site, text: str) -> None:
    site.pages["/feed"] = feed(text)

    with pytest.raises(SourceError, match="is not a feed"):
        fetch(site)


def test_a_feed_reads_no_file_and_unfolds_no_bomb(site: Site, tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha" * 10}">' for n in range(12))
    doctype = f'<!DOCTYPE rss [<!ENTITY file SYSTEM "file://{secret}">{entities}]>'
    hostile = RSS.replace("<rss", f"{doctype}<rss").replace("Rain", "&file;").replace("Sun", "&e11;")
    site.pages["/feed"] = feed(hostile)

    page = fetch(site)

    assert "hunter2" not in repr(page.records)
    assert len(repr(page.records)) < 100_000


def test_a_feed_that_is_gone_for_good_needs_somebody_s_attention(site: Site) -> None:
    site.pages["/feed"] = Said(410)
    told: list[str] = []

    class Keeper(NobodyElse):
        def needs_attention(self, reason: str, seen: Credentials | None) -> None:
            told.append(reason)

    config = RssConfig().load({"url": site.url("/feed")})
    opening = Opening(uuid.uuid4(), uuid.uuid4(), "News", config, "rss", allow_private=True, keeper=Keeper())

    with Rss(opening) as connector, pytest.raises(SourceGoneError, match="gone for good") as gone:
        connector.fetch("entries", None)

    assert told == [str(gone.value)]
    assert not gone.value.should_retry
    assert len(site.asked) == 1


def test_a_busy_feed_is_left_alone_for_as_long_as_it_says(site: Site) -> None:
    site.pages["/feed"] = Said(429, headers={"Retry-After": "3600"})

    with pytest.raises(SourceBusyError) as busy:
        fetch(site)

    assert busy.value.retry_after == 3600


def test_a_feed_that_has_moved_is_followed_and_the_move_is_told(site: Site) -> None:
    site.pages |= {
        "/feed": Said(301, headers={"Location": "/new"}),
        "/new": Said(302, headers={"Location": "/today"}),
        "/today": feed(RSS),
        "/round": Said(302, headers={"Location": "/round"}),
    }

    page = fetch(site)

    assert len(page.records) == 2
    assert page.warnings == [f"{site.url('/feed')} has moved to {site.url('/new')} for good; change the connection"]
    with pytest.raises(SourceError, match="redirects more than"):
        fetch(site, path="/round")


def test_a_redirect_to_what_must_not_be_asked_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first hop is allowed here, as a public one would be; each of the others is judged for itself."""
    site.pages["/feed"] = Said(302, headers={"Location": "file:///etc/passwd"})

    with pytest.raises(AddressRefusedError):
        fetch(site)


def test_an_initial_sync_of_a_feed_does_not_take_older_entries_for_deleted(
    site: Site, jobs: Jobs, connect: Callable[..., uuid.UUID], session: Session
) -> None:
    connect(connector="rss", config={"url": site.url("/feed")})
    site.pages["/feed"] = feed(RSS)
    run_sync(jobs.start(), mode="initial", allow_private=True)
    site.pages["/feed"] = feed(RSS.replace("w-1", "w-3"))

    result: Any = run_sync(jobs.start(), mode="initial", allow_private=True)

    assert result["results"][0]["deleted"] == 0
    found = session.execute(select(Record.external_id, Record.deleted_at)).all()
    assert {(name, gone) for name, gone in found} == {
        ("w-1", None),
        ("w-3", None),
        ("https://weather.example/2", None),
    }


def test_an_installation_without_feedparser_says_what_to_install(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "feedparser", None)

    with pytest.raises(SourceError, match=r"jobplatform\[rss\]"):
        opened(site)


def test_an_id_that_is_too_long_for_a_key_is_stored_by_its_digest(site: Site) -> None:
    site.pages["/feed"] = feed(RSS.replace("w-1", "x" * 5000))

    record = fetch(site).records[0]

    assert record.external_id.startswith("sha256:")
    assert record.data["id"] == "x" * 5000
    json.dumps(record.data)


def test_a_feed_that_is_gone_is_not_asked_again_until_its_connection_is_changed(
    site: Site, jobs: Jobs, connect: Callable[..., uuid.UUID], session: Session, workspace_id: uuid.UUID
) -> None:
    connection_id = connect(connector="rss", name="News", config={"url": site.url("/feed")})
    site.pages["/feed"] = Said(410)
    with pytest.raises(SyncFailedError, match="gone for good") as failed:
        run_sync(jobs.start(), allow_private=True)
    assert not failed.value.should_retry

    again = run_sync(jobs.start(), allow_private=True)

    assert isinstance(again, Skip)
    assert "News: " in again.reason
    assert len(site.asked) == 1
    site.pages["/new"] = feed(RSS)
    connection = session.get_one(Connection, (workspace_id, connection_id), populate_existing=True)
    assert connection.attention is not None
    change_connection(session, connection, config={"url": site.url("/new")}, allow_private=True)
    session.commit()
    result: Any = run_sync(jobs.start(), allow_private=True)
    assert result["totalRecords"] == 2
