"""The ways in which sources hand out pages and say what has changed, over HTTP and from page to page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from examples.stand_in import Answer, Asked, StandIn
from jobplatform.connectors.http_json import HttpJson, HttpJsonConfig
from jobplatform.connectors.opening import Opening
from jobplatform.connectors.outside import Answer as SaidBySource
from jobplatform.connectors.paging import Place, next_link
from jobplatform.connectors.since import Since, from_milliseconds, to_milliseconds
from jobplatform.errors import SourceError

ALL = [str(number) for number in range(7)]


class Numbers(StandIn):
    """A source of numbered records, whose answers are the test's."""

    reply: Callable[[Asked], Answer]

    def answer(self, asked: Asked) -> Answer:
        return self.reply(asked)


@pytest.fixture
def numbers() -> Iterator[Numbers]:
    with Numbers() as server:
        yield server


def open_source(url: str, **config: Any) -> HttpJson:
    stream = config.pop("stream", {})
    said = {"baseUrl": url, "pageSize": 3, "streams": {"numbers": {"path": "/numbers", **stream}}, **config}
    return HttpJson(Opening.of(HttpJsonConfig, said, allow_private=True))


def read_all(connector: HttpJson, cursor: str | None = None) -> tuple[list[str], str | None]:
    """Every id, page by page, and the state at the end."""
    found, state = [], None
    with connector:
        for _ in range(20):
            page = connector.fetch("numbers", cursor)
            found += [record.external_id for record in page.records]
            state = page.state or state
            if page.next_cursor is None:
                return found, state
            cursor = page.next_cursor
    raise AssertionError("it never ends")


def page_of(start: int, size: int = 3) -> list[dict[str, Any]]:
    return [{"id": number} for number in ALL[start : start + size]]


def by_cursor(asked: Asked) -> Answer:
    start = int(asked.query.get("from", 0))
    more = {"more": str(start + 3)} if start + 3 < len(ALL) else {}
    return Answer(200, {"data": {"rows": page_of(start)}, "meta": more})


def by_offset(asked: Asked) -> Answer:
    return Answer(200, {"results": page_of(int(asked.query["skip"])), "total": len(ALL)})


def by_page(asked: Asked) -> Answer:
    return Answer(200, page_of((int(asked.query["p"]) - 1) * 3))


def by_link(asked: Asked) -> Answer:
    start = int(asked.query.get("start", 0))
    link = f'</numbers?start={start + 3}&limit=3>; title="a, b"; rel="next"' if start + 3 < len(ALL) else ""
    return Answer(200, page_of(start), {"Link": f'</numbers?start=0>; rel="first", {link}'})


def by_url(asked: Asked) -> Answer:
    start = int(asked.query.get("start", 0))
    following = f"http://{asked.headers['host']}/numbers?start={start + 3}" if start + 3 < len(ALL) else None
    return Answer(200, {"results": page_of(start), "next": following})


def all_at_once(asked: Asked) -> Answer:
    assert asked.query == {"view": "all"}
    return Answer(200, page_of(0, 100))


@pytest.mark.parametrize(
    ("reply", "config"),
    [
        (by_cursor, {"cursorParameter": "from", "itemsField": "data.rows", "cursorField": "meta.more"}),
        (by_offset, {"pagination": "offset", "offsetParameter": "skip"}),
        (by_page, {"pagination": "page", "pageParameter": "p", "itemsField": ""}),
        (by_page, {"pagination": "page", "pageParameter": "p", "itemsField": "", "endsWhen": "empty"}),
        (by_link, {"pagination": "link", "itemsField": ""}),
        (by_url, {"pagination": "url", "cursorField": "next"}),
        (all_at_once, {"pagination": "none", "itemsField": "", "params": {"view": "all"}}),
    ],
)
def test_every_page_is_read_however_a_source_hands_them_out(
    numbers: Numbers, reply: Callable[[Asked], Answer], config: dict[str, Any]
) -> None:
    numbers.reply = reply

    assert read_all(open_source(numbers.url, **config))[0] == ALL


@pytest.mark.parametrize("total", [-1, 10**400], ids=["less than nothing", "too large"])
@pytest.mark.parametrize("pagination", ["offset", "page"])
def test_a_total_that_can_be_none_ends_nothing_and_is_not_told(numbers: Numbers, pagination: str, total: int) -> None:
    """Some say -1 for what they do not know."""

    def reply(asked: Asked) -> Answer:
        start = int(asked.query["offset"]) if pagination == "offset" else (int(asked.query["page"]) - 1) * 3
        return Answer(200, {"results": page_of(start), "total": total})

    numbers.reply = reply

    assert read_all(open_source(numbers.url, pagination=pagination))[0] == ALL
    with open_source(numbers.url, pagination=pagination) as connector:
        assert connector.fetch("numbers", None).total is None


@pytest.mark.parametrize("pagination", ["offset", "page"])
def test_a_source_that_does_not_heed_which_page_it_is_asked_for_is_given_up(numbers: Numbers, pagination: str) -> None:
    numbers.reply = lambda _asked: Answer(200, {"results": page_of(0)})

    with pytest.raises(SourceError, match=f"the very same page again .* by {pagination}"):
        read_all(open_source(numbers.url, pagination=pagination))


def test_a_stream_says_for_itself_what_is_different_about_it(numbers: Numbers) -> None:
    numbers.reply = by_offset
    own = {"pagination": "offset", "offsetParameter": "skip", "params": {"view": "short"}}

    ids, _ = read_all(open_source(numbers.url, pagination="none", params={"lang": "de"}, stream=own))

    assert ids == ALL
    assert numbers.requests[0].query == {"view": "short", "lang": "de", "limit": "3", "skip": "0"}


@pytest.mark.parametrize("following", ["http://elsewhere.example/x", "//elsewhere.example/x", "https://127.0.0.1/x"])
def test_a_next_page_at_another_address_is_not_asked_for(numbers: Numbers, following: str) -> None:
    """It would be shown the credentials, or be a way into a network."""
    numbers.reply = lambda _: Answer(200, {"results": page_of(0), "next": following})

    with open_source(numbers.url, pagination="url", cursorField="next") as connector:
        with pytest.raises(SourceError, match="not its own address"):
            connector.fetch("numbers", None)
        with pytest.raises(SourceError, match="not its own address"):
            connector.fetch("numbers", following)


# -- what has changed --------------------------------------------------------------------------------


class Changing:
    """Records with a moment each; those since the parameter are answered, one to a page."""

    def __init__(self, **moments: str) -> None:
        self.moments = moments
        self.asked: list[str | None] = []

    def __call__(self, asked: Asked) -> Answer:
        since = asked.query.get("since")
        self.asked.append(since)
        at = int(asked.query.get("after", 0))
        found = [
            {"id": name, "changed": moment}
            for name, moment in self.moments.items()
            if since is None or datetime.fromisoformat(moment) >= datetime.fromisoformat(since)
        ]
        more = {"paging": {"next": {"after": at + 1}}} if at + 1 < len(found) else {}
        return Answer(200, {"results": found[at : at + 1], **more})


INCREMENTAL = {"field": "changed", "parameter": "since"}


def test_an_incremental_sync_begins_at_the_newest_that_the_last_one_saw(numbers: Numbers) -> None:
    numbers.reply = source = Changing(a="2026-05-03T00:00:00Z", b="2026-05-01T12:00:00+02:00", c="2026-05-02T00:00:00Z")

    ids, state = read_all(open_source(numbers.url, incremental=INCREMENTAL))
    source.moments["d"] = "2026-05-04T00:00:00Z"
    again, _ = read_all(open_source(numbers.url, incremental=INCREMENTAL), state)

    assert ids == ["a", "b", "c"]
    assert again == ["a", "d"]
    assert source.asked == [None] * 3 + ["2026-05-03T00:00:00.000Z"] * 2


def test_a_sync_that_goes_on_from_a_page_ends_in_the_same_state(numbers: Numbers) -> None:
    numbers.reply = Changing(a="2026-05-03T00:00:00Z", b="2026-05-01T00:00:00Z", c="2026-05-02T00:00:00Z")
    with open_source(numbers.url, incremental=INCREMENTAL) as connector:
        first = connector.fetch("numbers", None)

    ids, state = read_all(open_source(numbers.url, incremental=INCREMENTAL), first.next_cursor)

    assert ids == ["b", "c"]
    assert state == read_all(open_source(numbers.url, incremental=INCREMENTAL))[1]


def test_the_next_sync_begins_no_later_than_this_one_did(numbers: Numbers) -> None:
    """What was read first may have changed while the rest was read, and the last one read be newer still."""
    numbers.reply = source = Changing(a="2001-01-01T00:00:00Z", b="2099-01-01T00:00:00Z")

    _, state = read_all(open_source(numbers.url, incremental=INCREMENTAL))
    read_all(open_source(numbers.url, incremental=INCREMENTAL), state)

    assert source.asked[-1] is not None
    assert abs(datetime.fromisoformat(source.asked[-1]) - datetime.now(UTC)).total_seconds() < 3600


@pytest.mark.parametrize(
    ("date", "began"),
    [
        ("Tue, 05 May 2026 12:30:00 GMT", "2026-05-05T12:30:00.000Z"),
        (None, "2026-05-05T12:00:00.000Z"),
        ("no moment", "2026-05-05T12:00:00.000Z"),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "2026-05-05T12:00:00.000Z"),
        ("Thu, 01 Jan 1970 00:00:00 GMT", "2026-05-05T12:00:00.000Z"),
    ],
)
def test_a_record_of_the_far_future_keeps_no_later_change_from_being_asked_for(date: str | None, began: str) -> None:
    """Whatever the source says of the time: here it is noon."""
    config = {"field": "changed", "parameter": "since", "field_format": "moment", "parameter_format": None}
    given = {**config, "overlap_ms": 0, "start": None}
    answer = SaidBySource("https://x.example", 200, httpx.Headers({} if date is None else {"Date": date}), b"")
    since = Since(given, Place())

    since.see([{"changed": "2999-01-01T00:00:00Z"}], "numbers")
    since.note_begin(answer, to_milliseconds("2026-05-05T12:00Z", "moment"))

    assert Since(given, Place.read(since.state())).parameters() == {"since": began}


def test_an_incremental_sync_can_go_back_a_little_and_write_moments_otherwise(numbers: Numbers) -> None:
    asked = []

    def reply(request: Asked) -> Answer:
        asked.append(request.query["since"])
        return Answer(200, {"results": [{"id": "a", "changed": 1_700_000_000}]})

    numbers.reply = reply
    incremental = {
        **INCREMENTAL, "fieldFormat": "epoch", "parameterFormat": "epochMs", "overlapMs": 5000, "start": "0"
    }  # fmt: skip

    _, state = read_all(open_source(numbers.url, incremental=incremental))
    read_all(open_source(numbers.url, incremental=incremental), state)

    assert asked == ["0", "1699999995000"]


def test_a_sync_that_saw_nothing_keeps_its_place(numbers: Numbers) -> None:
    numbers.reply = lambda _: Answer(200, {"results": []})

    assert read_all(open_source(numbers.url, incremental=INCREMENTAL)) == ([], None)
    state = '{"since": "1700000000000"}'
    assert read_all(open_source(numbers.url, incremental=INCREMENTAL), state) == ([], state)


def test_a_moment_that_is_none_is_named(numbers: Numbers) -> None:
    numbers.reply = lambda _: Answer(200, {"results": [{"id": "a", "changed": "yesterday"}]})

    with pytest.raises(SourceError, match="'yesterday' at 'changed' is no moment; fieldFormat says how"):
        read_all(open_source(numbers.url, incremental=INCREMENTAL))


@pytest.mark.parametrize("cursor", ["nonsense", "[1]", "3"])
def test_a_cursor_of_another_kind_asks_for_an_initial_sync(numbers: Numbers, cursor: str) -> None:
    with pytest.raises(SourceError, match="sync it initially"):
        read_all(open_source(numbers.url, incremental=INCREMENTAL), cursor)


@pytest.mark.parametrize("form", ["moment", "epoch", "epochMs"])
def test_a_moment_is_read_as_it_is_written(form: str) -> None:
    written = from_milliseconds(1_700_000_123_000, form)

    assert to_milliseconds(written if form == "moment" else int(written), form) == 1_700_000_123_000


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ('<https://a/?p=2>; rel="next"', "https://a/?p=2"),
        ("<https://a/?p=2>; rel=next", "https://a/?p=2"),
        ('<https://a/?p=1>; rel="prev", <https://a/?p=3>; rel="next"', "https://a/?p=3"),
        ('<https://a/?q=a,b;c>; title="x"; rel="last next"', "https://a/?q=a,b;c"),
        ('<https://a/?p=1>; rel="nextish"', None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_the_next_page_is_found_in_a_link_header(header: str, address: str | None) -> None:
    assert next_link(header) == address
