"""HubSpot against a stand-in that answers as its description says, over HTTP."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from examples.crm_sync.fake_hubspot import FakeHubSpot
from examples.stand_in import Answer
from jobplatform.connectors import Opening, create_connection, run_sync
from jobplatform.connectors import hubspot as module
from jobplatform.connectors.hubspot import HubSpot, HubSpotConfig, pause_of
from jobplatform.connectors.outside import Answer as OutsideAnswer
from jobplatform.errors import InvalidConnectionError, SourceAnswerError, SourceBusyError
from jobplatform.key_ring import generate_key
from jobplatform.models import Record
from jobplatform.queue import Skip
from tests.connectors.conftest import Jobs

T0 = 1_700_000_000_000


def state_at(moment: int) -> str:
    """Where a sync ended that had seen changes up to then."""
    return json.dumps({"state": moment})


@pytest.fixture
def hubspot() -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        server.searches_per_second = 1000
        server.per_10_seconds = 10_000
        yield server


def open_hubspot(server: FakeHubSpot, *, patient: bool = True, **config: Any) -> HubSpot:
    said = {"baseUrl": server.url, "objects": ["contacts"], **config}
    token = {"scheme": "bearer", "token": next(iter(server.access))}
    opening = Opening.of(HubSpotConfig, said, credentials=token, allow_private=True)
    return HubSpot(dataclasses.replace(opening, patient=patient))


def read_all(connector: HubSpot, cursor: str | None = None, stream: str = "contacts") -> tuple[list[Any], str]:
    records: list[Any] = []
    state = ""
    with connector:
        for _ in range(200):
            page = connector.fetch(stream, cursor)
            records += page.records
            state = page.state or state
            if page.next_cursor is None:
                return records, state
            cursor = page.next_cursor
    raise AssertionError("it never ends")


def ids(records: list[Any]) -> list[str]:
    return [record.external_id for record in records]


def test_everything_is_listed_with_the_properties_that_are_wanted(hubspot: FakeHubSpot) -> None:
    made = [hubspot.put("contacts", firstname=f"Ada {number}", favourite="blue") for number in range(230)]

    records, _ = read_all(open_hubspot(hubspot, properties={"contacts": ["firstname", "favourite"]}))

    assert ids(records) == made
    assert records[0].data["properties"]["firstname"] == "Ada 0"
    assert records[0].data["properties"]["favourite"] == "blue"
    assert "email" not in records[0].data["properties"]
    assert len(hubspot.requests) == 3, "a hundred at a time"


def test_an_incremental_sync_finds_what_has_changed_since_the_last_one_began(hubspot: FakeHubSpot) -> None:
    made = [hubspot.put("contacts", at=hubspot.milliseconds() - 10_000_000) for _ in range(5)]
    _, state = read_all(open_hubspot(hubspot, overlapMs=0))
    hubspot.change("contacts", made[3], at=hubspot.milliseconds() + 1000, firstname="Grace")
    new = hubspot.put("contacts", at=hubspot.milliseconds() + 2000)

    records, later = read_all(open_hubspot(hubspot, overlapMs=0), state)

    assert ids(records) == [made[3], new]
    assert ids(read_all(open_hubspot(hubspot, overlapMs=0), later)[0]) == [new], "the newest once more, and no other"


def test_a_change_that_a_search_is_late_to_know_of_is_found_by_the_next_one(hubspot: FakeHubSpot) -> None:
    hubspot.put("contacts", at=T0)
    state = state_at(T0)
    slow = hubspot.put("contacts", at=T0 + 10_000)
    quick = hubspot.put("contacts", at=T0 + 20_000)
    hubspot.late = {slow}

    records, state = read_all(open_hubspot(hubspot), state)
    assert slow not in ids(records)
    assert quick in ids(records)
    hubspot.late = set()

    assert slow in ids(read_all(open_hubspot(hubspot), state)[0])


@pytest.fixture
def small_window(hubspot: FakeHubSpot, monkeypatch: pytest.MonkeyPatch) -> None:
    hubspot.search_window = 20
    monkeypatch.setattr(module, "SEARCH_WINDOW", 20)
    monkeypatch.setattr(module, "MOST_SEARCHED", 5)


def test_a_search_that_ends_too_early_is_begun_anew_where_it_was(hubspot: FakeHubSpot, small_window: None) -> None:
    made = [hubspot.put("contacts", at=T0 + number // 3) for number in range(100)]

    records, state = read_all(open_hubspot(hubspot), state_at(T0))

    assert list(dict.fromkeys(ids(records))) == made
    assert state == state_at(T0 + 33)


def test_more_objects_than_a_search_answers_may_have_the_same_moment(hubspot: FakeHubSpot, small_window: None) -> None:
    before = [hubspot.put("contacts", at=T0 - 1) for _ in range(3)]
    same = [hubspot.put("contacts", at=T0) for _ in range(70)]
    after = [hubspot.put("contacts", at=T0 + 1) for _ in range(30)]

    records, _ = read_all(open_hubspot(hubspot), state_at(T0 - 1))

    assert set(ids(records)) == {*before, *same, *after}


@pytest.mark.parametrize("before", [[-1] * 40, range(-30, 0)], ids=["of one moment", "one after the other"])
def test_a_search_that_comes_to_where_the_last_sync_ended_goes_on_and_not_back(
    hubspot: FakeHubSpot, small_window: None, before: Sequence[int]
) -> None:
    """Only the first search of a sync begins a little before: in that little there may be more than one answers."""
    made = {hubspot.put("contacts", at=T0 + moment) for moment in (*before, *[0] * 30, *[1] * 30)}

    records, state = read_all(open_hubspot(hubspot), state_at(T0))

    assert set(ids(records)) == made
    assert state == state_at(T0 + 1)


def test_a_search_goes_on_from_any_page(hubspot: FakeHubSpot, small_window: None) -> None:
    """A sync that was killed begins again at the cursor of the page that it had not stored."""
    made = {hubspot.put("contacts", at=T0) for _ in range(50)} | {hubspot.put("contacts", at=T0 + 9) for _ in range(20)}
    found: set[str] = set()
    cursor: str | None = state_at(T0)

    while cursor is not None:
        with open_hubspot(hubspot) as connector:
            page = connector.fetch("contacts", cursor)
        found |= {record.external_id for record in page.records}
        cursor = page.next_cursor

    assert found == made


def test_associations_are_the_same_however_they_were_found(hubspot: FakeHubSpot) -> None:
    contact = hubspot.put("contacts", at=T0)
    hubspot.put("contacts", at=T0)
    hubspot.associate("contacts", contact, "companies", ["9", "7"])
    wanted = {"associations": {"contacts": ["companies"]}}

    listed, _ = read_all(open_hubspot(hubspot, **wanted))
    searched, _ = read_all(open_hubspot(hubspot, **wanted), state_at(T0))

    assert listed[0].data["associations"] == {"companies": ["7", "9"]}
    assert [record.data for record in listed] == [record.data for record in searched]


def test_what_was_archived_is_told_as_deleted(hubspot: FakeHubSpot) -> None:
    kept, old, gone = (hubspot.put("contacts") for _ in range(3))
    hubspot.archive("contacts", old)
    listed, state = read_all(open_hubspot(hubspot, archived=True, overlapMs=0))
    assert [(record.external_id, record.deleted) for record in listed] == [(kept, False), (gone, False), (old, True)]
    hubspot.objects["contacts"][old]["archivedAt"] = "2020-01-01T00:00:00Z"
    hubspot.archive("contacts", gone)

    later, _ = read_all(open_hubspot(hubspot, archived=True, overlapMs=0), state)

    assert (gone, True) in [(record.external_id, record.deleted) for record in later]
    assert old not in ids(later)


@pytest.mark.parametrize(
    ("policy", "seconds"), [("SECONDLY", 1.0), ("TEN_SECONDLY_ROLLING", 10.0), ("DAILY", 3600.0), ("NEW", 10.0)]
)
def test_a_limit_is_waited_for_as_long_as_it_lasts(policy: str, seconds: float) -> None:
    import httpx

    answer = OutsideAnswer("u", 429, httpx.Headers(), b'{"policyName": "%s"}' % policy.encode())

    assert pause_of(answer) == seconds


def test_a_daily_limit_has_the_job_wait(hubspot: FakeHubSpot) -> None:
    hubspot.next_answers.append(Answer(429, {"category": "RATE_LIMITS", "policyName": "DAILY", "message": "Enough."}))

    with open_hubspot(hubspot) as connector:
        with pytest.raises(SourceBusyError, match="Enough") as caught:
            connector.fetch("contacts", None)
        with pytest.raises(SourceBusyError, match="as often as it may"):
            connector.fetch("contacts", None)

    assert caught.value.retry_after == 3600
    assert len(hubspot.requests) == 1


def test_an_account_with_nothing_left_is_left_alone_before_it_says_so(hubspot: FakeHubSpot) -> None:
    """Another application has used what there was. Somebody waits for this answer, so it is not waited for here."""
    hubspot.per_10_seconds = 1

    with open_hubspot(hubspot, patient=False) as connector:
        connector.fetch("contacts", None)
        with pytest.raises(SourceBusyError) as caught:
            connector.fetch("contacts", None)

    assert 0 < caught.value.retry_after <= 10
    assert hubspot.too_often == 0


def test_a_missing_scope_is_told_in_hubspot_s_words_and_not_tried_again(hubspot: FakeHubSpot) -> None:
    hubspot.scopes = {"deals"}

    with open_hubspot(hubspot) as connector, pytest.raises(SourceAnswerError) as caught:
        connector.fetch("contacts", None)

    assert caught.value.status == 403
    assert "MISSING_SCOPES" in str(caught.value)
    assert "crm.objects.contacts.read" in str(caught.value)
    assert len(hubspot.requests) == 1


def test_a_failure_for_a_moment_is_tried_again(hubspot: FakeHubSpot) -> None:
    made = hubspot.put("contacts")
    hubspot.next_answers.append(Answer(502, {"status": "error", "message": "bad gateway"}))

    assert ids(read_all(open_hubspot(hubspot))[0]) == [made]


def test_another_address_is_for_development(session: Session, workspace_id: uuid.UUID) -> None:
    with pytest.raises(InvalidConnectionError, match="baseUrl") as caught:
        create_connection(
            session,
            workspace_id,
            connector_type="hubspot",
            name="CRM",
            config={"baseUrl": "https://api.hubapi.com.evil.example"},
        )

    assert [problem.path for problem in caught.value.problems] == ["/config/baseUrl"]


@pytest.fixture
def connected(
    session: Session, workspace_id: uuid.UUID, hubspot: FakeHubSpot, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))

    def connected(**config: Any) -> None:
        create_connection(
            session,
            workspace_id,
            connector_type="hubspot",
            name="CRM",
            config={"baseUrl": hubspot.url, **config},
            credentials={
                "scheme": "oauth2",
                "clientId": hubspot.client_id,
                "clientSecret": hubspot.client_secret,
                "refreshToken": "refresh-token-0",
            },
            allow_private=True,
        )
        session.commit()

    return connected


def test_a_sync_copies_an_account_and_then_its_changes(
    session: Session, hubspot: FakeHubSpot, connected: Callable[..., None], jobs: Jobs
) -> None:
    """Without an access token at first: one is got with the refresh token."""
    company = hubspot.put("companies", name="Acme", at=hubspot.milliseconds() - 600_000)
    hubspot.put("deals", dealname="Big", at=hubspot.milliseconds() - 600_000)
    contacts = [hubspot.put("contacts", at=hubspot.milliseconds() - 600_000) for _ in range(120)]
    connected(overlapMs=0)

    first = run_sync(jobs.start(), allow_private=True)
    assert not isinstance(first, Skip)
    assert (first["totalRecords"], first["errors"], hubspot.refreshed) == (122, [], 1)

    hubspot.change("companies", company, at=hubspot.milliseconds() + 5000, name="Acme & Sons")
    second = run_sync(jobs.start(), allow_private=True)

    assert not isinstance(second, Skip)
    assert (second["totalRecords"], second["results"][0]["written"]) == (1, 1)
    stored = select(Record.data).where(Record.external_id == company)
    assert session.scalars(stored).one()["properties"]["name"] == "Acme & Sons"
    assert len(contacts) == len(session.scalars(select(Record).where(Record.stream == "contacts")).all())
