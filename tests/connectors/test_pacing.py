"""The pace of an account is kept by all who ask it together, and by nobody's memory."""

from __future__ import annotations

import threading
import uuid

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from examples.crm_sync.fake_hubspot import FakeHubSpot
from jobplatform.connectors import Rate, create_connection, open_connector
from jobplatform.connectors.pacing import close_resource, take_turn
from jobplatform.key_ring import generate_key
from jobplatform.models import Role, confine
from jobplatform.testing import Clock

RATE = Rate(10, 10.0)


def turns(engine: Engine, workspace_id: uuid.UUID, count: int, rate: Rate | None = RATE) -> list[float]:
    found = []
    for _ in range(count):
        with confine(Session(engine), Role.HANDLER, workspace_id) as session, session.begin():
            found.append(take_turn(session, workspace_id, "crm:1", rate))
    return found


def test_a_rate_gives_so_many_turns_and_says_when_there_is_another(engine: Engine, workspace_id: uuid.UUID) -> None:
    found = turns(engine, workspace_id, 12)

    assert found[:10] == [0.0] * 10
    assert 0 < found[10] <= 1.0
    assert 0 < found[11] <= 1.0, "who did not get a turn has not moved the next one"


def test_those_who_ask_at_the_same_time_do_not_get_the_same_turn(engine: Engine, workspace_id: uuid.UUID) -> None:
    """A rate so slow that nothing comes back while they ask."""
    found: list[float] = []

    def ask() -> None:
        found.extend(turns(engine, workspace_id, 5, Rate(10, 100_000.0)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(found) == 20
    assert found.count(0.0) == 10


def test_an_account_that_asked_for_a_break_gets_it_from_everybody_with_and_without_a_rate(
    engine: Engine, session: Session, workspace_id: uuid.UUID
) -> None:
    close_resource(session, workspace_id, "crm:1", 30)
    close_resource(session, workspace_id, "crm:1", 5)
    session.commit()

    for rate in (RATE, None):
        (wait,) = turns(engine, workspace_id, 1, rate)
        assert 25 < wait <= 30, "the longer break counts"
    assert turns(engine, uuid.uuid4(), 1) == [0.0], "another workspace knows nothing of it"


def test_a_break_and_a_rate_end_by_the_database_s_clock(
    engine: Engine, session: Session, workspace_id: uuid.UUID
) -> None:
    turns(engine, workspace_id, 10)
    close_resource(session, workspace_id, "crm:1", 5)
    session.commit()

    Clock(engine).travel(seconds=11)

    assert turns(engine, workspace_id, 10) == [0.0] * 10


@pytest.mark.parametrize("requests", [20])
def test_an_account_s_limit_is_not_hit_by_workers_that_ask_at_once(
    engine: Engine, session: Session, workspace_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    """As many as it may be asked in ten seconds, by four at once: none of them is told that it is too often."""
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    with FakeHubSpot() as hubspot:
        hubspot.per_10_seconds = requests
        made = create_connection(
            session,
            workspace_id,
            connector_type="hubspot",
            name="CRM",
            config={"baseUrl": hubspot.url, "account": "4711", "requestsPer10Seconds": requests},
            credentials={"scheme": "bearer", "token": "access-token-0"},
            allow_private=True,
        )
        session.expunge(made)
        session.commit()

        def ask() -> None:
            own = confine(Session(engine), Role.HANDLER, workspace_id)
            with own, open_connector(own, made, True) as connector:
                for _ in range(requests // 4):
                    connector.fetch("contacts", None)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert len(hubspot.requests) == requests
        assert hubspot.too_often == 0
