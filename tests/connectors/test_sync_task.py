"""The task ``sync`` as it is declared: what is the same sync, and which may be beside it."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from jobplatform.connectors import SyncPayload, sync
from jobplatform.models import JobRecord, ScheduleTick
from jobplatform.queue import Every, TaskDefaults, change_schedule, create_schedule, fire_schedules
from jobplatform.testing import Clock

ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (None, "sync"),
        ({"mode": "initial", "syncLogId": "mine"}, "sync"),
        ({"connectorType": "rss"}, "sync:rss"),
        ({"connectionId": str(ONE)}, f"sync:{ONE}"),
        ({"connectionId": str(ONE).upper(), "connectorType": "rss", "mode": "initial"}, f"sync:{ONE}"),
        (SyncPayload(connection_id=TWO), f"sync:{TWO}"),
    ],
)
def test_syncs_are_the_same_if_they_are_about_the_same(payload: Any, key: str, workspace_id: uuid.UUID) -> None:
    assert sync.new_job(payload, workspace_id=workspace_id).unique_key == key


def test_two_schedules_for_two_connections_are_both_enqueued_at_one_moment(
    session: Session, engine: Engine, workspace_id: uuid.UUID
) -> None:
    for connection_id in (ONE, TWO):
        options = {"name": str(connection_id), "payload": {"connectionId": str(connection_id)}}
        create_schedule(session, sync, Every(datetime.timedelta(minutes=1)), workspace_id=workspace_id, **options)
    session.commit()
    clock = Clock(engine)
    clock.travel(seconds=61)

    fire_schedules(session, {"sync": TaskDefaults(queue="sync")})

    session.commit()
    clock.reset()
    assert session.scalars(select(ScheduleTick.outcome)).all() == ["enqueued", "enqueued"]
    payloads = session.scalars(select(JobRecord.payload))
    assert {payload["connectionId"] for payload in payloads} == {str(ONE), str(TWO)}


def test_a_schedule_that_has_the_key_of_an_earlier_build_gets_its_own_when_it_is_changed(
    session: Session, workspace_id: uuid.UUID
) -> None:
    payload = {"connectionId": str(ONE)}
    rule = Every(datetime.timedelta(hours=1))
    made = create_schedule(session, sync, rule, workspace_id=workspace_id, payload=payload, unique_key="sync")

    change_schedule(session, made, sync, payload=payload)

    assert made.unique_key == f"sync:{ONE}"
