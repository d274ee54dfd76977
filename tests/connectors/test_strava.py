"""Strava against a stand-in that answers as its description says, over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from examples.activity_sync.fake_strava import FakeStrava
from jobplatform.connectors import Opening, create_connection, open_connector
from jobplatform.connectors.credentials import keep_credentials
from jobplatform.connectors.pacing import close_resource, take_turn
from jobplatform.connectors.strava import Strava, StravaConfig
from jobplatform.errors import SourceAnswerError, SourceBusyError, SourceError
from jobplatform.key_ring import generate_key
from jobplatform.models import PLATFORM_WORKSPACE, Connection, Role, confine


@pytest.fixture
def strava() -> Iterator[FakeStrava]:
    with FakeStrava() as server:
        for day in range(1, 6):
            server.add(day, f"2026-05-0{day}T06:00:00Z", points=0 if day == 3 else day * 10)
        yield server


def open_strava(server: FakeStrava, **config: Any) -> Strava:
    token = {"scheme": "bearer", "token": next(iter(server.access))}
    said = {"baseUrl": server.url, **config}
    return Strava(Opening.of(StravaConfig, said, credentials=token, allow_private=True))


def read_all(connector: Strava, cursor: str | None = None) -> tuple[list[Any], str | None]:
    records: list[Any] = []
    state = None
    with connector:
        for _ in range(20):
            page = connector.fetch("activities", cursor)
            records += page.records
            state = page.state or state
            if page.next_cursor is None:
                return records, state
            cursor = page.next_cursor
    raise AssertionError("it never ends")


def test_activities_are_read_oldest_first_until_a_page_is_empty(strava: FakeStrava) -> None:
    records, _ = read_all(open_strava(strava, pageSize=2))

    assert [record.external_id for record in records] == ["1", "2", "3", "4", "5"]
    assert [request.query["page"] for request in strava.requests] == ["1", "2", "3", "4"]
    assert {request.query["after"] for request in strava.requests} == {"0"}


def test_an_incremental_sync_asks_for_what_began_after_the_last_one_seen(strava: FakeStrava) -> None:
    _, state = read_all(open_strava(strava, overlapMs=0))
    strava.add(6, "2026-05-06T06:00:00Z")

    records, _ = read_all(open_strava(strava, overlapMs=0), state)

    assert [record.external_id for record in records] == ["6"]


def test_an_activity_that_is_uploaded_late_is_within_the_overlap(strava: FakeStrava) -> None:
    _, state = read_all(open_strava(strava))
    strava.add(6, "2026-05-02T18:00:00Z")

    records, _ = read_all(open_strava(strava), state)

    assert "6" in [record.external_id for record in records]


def test_streams_are_read_by_name_and_one_entered_by_hand_has_none(strava: FakeStrava) -> None:
    records, _ = read_all(open_strava(strava, streamKeys=["latlng", "time"]))

    assert set(records[0].data["streams"]) == {"latlng", "time"}
    assert records[0].data["streams"]["latlng"]["data"][0] == [52.5, 13.4]
    assert records[2].data["streams"] == {}


def test_one_activity_is_read_and_one_that_is_gone_or_private_says_404(strava: FakeStrava) -> None:
    strava.private.add(2)
    strava.delete(4)

    with open_strava(strava) as connector:
        assert connector.activity(1)["name"] == "Run"
        for gone in (2, 4, 99):
            with pytest.raises(SourceAnswerError, match=r"Record Not Found \(Activity id invalid\)") as caught:
                connector.activity(gone)
            assert caught.value.status == 404
        with pytest.raises(SourceError, match="not the id of an activity"):
            connector.activity("1/../../athlete")


def test_the_account_is_left_alone_before_a_window_is_used_up(strava: FakeStrava) -> None:
    """Of the quarter hour's requests a few are left for those who are on their way: nobody is told that it is too
    much."""
    strava.limits = (20, 2000)
    strava.offset = 900 - strava.now() % 900 + 600  # Five minutes before the next quarter hour.

    with open_strava(strava) as connector:
        for _ in range(18):
            connector.activity(1)
        with pytest.raises(SourceBusyError) as caught:
            connector.activity(1)

    assert len(strava.requests) == 18
    assert strava.too_often == 0
    assert 240 < caught.value.retry_after <= 301


def test_a_day_that_is_used_up_is_waited_for_until_its_end(strava: FakeStrava) -> None:
    strava.limits = (200, 100)
    strava.used = [0, 100]
    strava.offset = 86_400 - strava.now() % 86_400 + 3600 * 20

    with open_strava(strava) as connector, pytest.raises(SourceBusyError) as caught:
        connector.activity(1)

    assert strava.too_often == 1
    assert 3600 * 4 - 60 < caught.value.retry_after <= 3600 * 4 + 1


def test_workers_on_other_hosts_know_that_a_window_is_used_up(
    session: Session, workspace_id: uuid.UUID, strava: FakeStrava, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    strava.offset = 900 - strava.now() % 900 + 300
    made = [_athlete(session, workspace_id, strava, name) for name in ("Ada", "Grace")]
    strava.used = [strava.limits[0], 0]

    for connection in made:
        with open_connector(session, connection, True) as connector, pytest.raises(SourceBusyError):
            connector.fetch("activities", None)

    assert strava.too_often == 1, "the other athlete of this application asks nothing"


def test_workspaces_that_have_consented_to_the_platform_s_application_share_its_windows(
    engine: Engine, session: Session, workspace_id: uuid.UUID, strava: FakeStrava, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strava counts by application. Each workspace has its own athlete, and sees nothing of the other's."""
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    strava.offset = 900 - strava.now() % 900 + 300
    made = [_athlete(session, of, strava, "Ada") for of in (workspace_id, uuid.uuid4())]
    values = {
        "client_id": strava.client_id,
        "client_secret": "s",
        "refresh_token": "r",
        "access_token": "access-token-0",
    }
    for connection in made:
        keep_credentials(session, connection, "oauth2", {**values, "of_platform": True})
        session.commit()
    by_hand = _athlete(session, uuid.uuid4(), strava, "Grace")
    strava.used = [strava.limits[0], 0]

    for connection in made:
        own = confine(Session(engine), Role.HANDLER, connection.workspace_id)
        with own, open_connector(own, connection, True) as connector, pytest.raises(SourceBusyError):
            connector.fetch("activities", None)

    assert strava.too_often == 1, "the other workspace asks nothing"
    with confine(Session(engine), Role.HANDLER, by_hand.workspace_id) as other:
        assert take_turn(other, by_hand.workspace_id, "strava:12345", None) == 0.0
        with pytest.raises(DBAPIError, match="row-level security"):
            close_resource(other, PLATFORM_WORKSPACE, "strava:12345", 60)


def _athlete(session: Session, workspace_id: uuid.UUID, strava: FakeStrava, name: str) -> Connection:
    made = create_connection(
        session,
        workspace_id,
        connector_type="strava",
        name=name,
        config={"baseUrl": strava.url, "account": "12345"},
        credentials={"scheme": "bearer", "token": "access-token-0"},
        allow_private=True,
    )
    session.flush()
    session.expunge(made)
    session.commit()
    return made
