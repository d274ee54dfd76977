"""The pace of an account is kept by all who ask it together, and by nobody's memory."""

from __future__ import annotations

import datetime
import threading
import time
import uuid

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.connectors import Rate, create_connection, open_connector
from jobplatform.connectors.pacing import close_resource, take_turn
from jobplatform.models import Role, confine
from jobplatform.testing import Clock
from tests.connectors.site import Asked, Said, running

RATE = Rate(10, 10.0, burst=10)


def turns(engine: Engine, workspace_id: uuid.UUID, count: int, rate: Rate | None = RATE) -> list[float]:
    found = []
    for _ in range(count):
        with confine(Session(engine), Role.HANDLER, workspace_id) as session, session.begin():
            found.append(take_turn(session, workspace_id, "crm:1", rate))
    return found


def test_a_rate_gives_so_many_turns_and_says_when_there_is_another(engine: Engine, workspace_id: uuid.UUID) -> None:
    Clock(engine).freeze()

    found = turns(engine, workspace_id, 12)

    assert found[:10] == [0.0] * 10
    assert found[10:] == [pytest.approx(10, abs=0.01)] * 2, "who did not get a turn has not moved the next one"


def test_those_who_ask_at_the_same_time_do_not_get_the_same_turn(engine: Engine, workspace_id: uuid.UUID) -> None:
    """A rate so slow that nothing comes back while they ask."""
    found: list[float] = []

    def ask() -> None:
        found.extend(turns(engine, workspace_id, 5, Rate(10, 100_000.0, burst=10)))

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
    Clock(engine).freeze()
    close_resource(session, workspace_id, "crm:1", 30)
    close_resource(session, workspace_id, "crm:1", 5)
    session.commit()

    for rate in (RATE, None):
        assert turns(engine, workspace_id, 1, rate) == [30.0], "the longer break counts"
    assert turns(engine, uuid.uuid4(), 1) == [0.0], "another workspace knows nothing of it"


def test_a_break_and_a_rate_end_by_the_database_s_clock(
    engine: Engine, session: Session, workspace_id: uuid.UUID
) -> None:
    turns(engine, workspace_id, 10)
    close_resource(session, workspace_id, "crm:1", 5)
    session.commit()

    Clock(engine).travel(seconds=101)

    assert turns(engine, workspace_id, 10) == [0.0] * 10


@pytest.mark.parametrize("rate", [Rate(20, 10.0), Rate(7, 10.0, burst=4)])
def test_in_no_period_whenever_it_begins_are_there_more_turns_than_the_rate(
    engine: Engine, workspace_id: uuid.UUID, rate: Rate
) -> None:
    """Everybody asks all the time. All at once and then at this rate would be nearly twice as many in the first one."""
    clock, taken = Clock(engine), []
    now = clock.freeze()
    for _ in range(50):
        now = clock.freeze(now + datetime.timedelta(seconds=0.5))
        with confine(Session(engine), Role.HANDLER, workspace_id) as session, session.begin():
            while take_turn(session, workspace_id, "crm:1", rate) == 0.0:
                taken.append(now)
    clock.reset()

    period = datetime.timedelta(seconds=rate.seconds)
    assert max(sum(begin <= at < begin + period for at in taken) for begin in taken) <= rate.requests
    assert len(taken) >= 25 / rate.share


def test_an_account_s_limit_is_not_hit_by_workers_that_ask_at_once(
    engine: Engine, session: Session, workspace_id: uuid.UUID
) -> None:
    """Four of them, without a pause. Each may have one request on its way that had its turn before the period began."""
    workers, limit, period = 4, 20, 0.4
    asked: list[float] = []

    def answer(_asked: Asked) -> Said:
        asked.append(time.monotonic())
        return Said(200, b'{"results": []}')

    with running() as site:
        site.pages["/notes?limit=100"] = answer
        config = {
            "baseUrl": site.url("").rstrip("/"),
            "streams": {"notes": {"path": "/notes"}},
            "rateLimit": {"requests": limit, "periodMs": int(period * 1000)},
        }
        made = create_connection(
            session, workspace_id, connector_type="http_json", name="CRM", config=config, allow_private=True
        )
        session.flush()
        session.expunge(made)
        session.commit()

        def ask() -> None:
            own = confine(Session(engine), Role.HANDLER, workspace_id)
            with own, open_connector(own, made, True) as connector:
                for _ in range(10):
                    connector.fetch("notes", None)

        threads = [threading.Thread(target=ask) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert len(asked) == workers * 10
    assert max(sum(begin <= at < begin + period for at in asked) for begin in asked) <= limit + workers
