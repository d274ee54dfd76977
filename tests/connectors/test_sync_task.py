"""The task ``sync`` as it is declared: what is the same sync, and which may be beside it."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from jobplatform.connectors import SyncPayload, create_connection, sync, tasks
from jobplatform.errors import InvalidPayloadError, Problem
from jobplatform.models import Connection, JobRecord, Role, ScheduleTick, confine, make_engine
from jobplatform.queue import (
    Every,
    NewJob,
    RunningJob,
    TaskDefaults,
    Tasks,
    change_schedule,
    create_schedule,
    find_unconnected,
    fire_schedules,
    settle_schedules,
)
from jobplatform.queue.schedules import Declared
from jobplatform.testing import Clock

ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)
NOT_THERE = Problem("/connectionId", "this workspace has no such connection")


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


def connect(session: Session, workspace_id: uuid.UUID, name: str = "news") -> uuid.UUID:
    config = {"url": "https://news.example.com/feed"}
    return create_connection(session, workspace_id, connector_type="rss", name=name, config=config).id


def test_a_schedule_of_a_connection_that_is_not_there_is_refused_when_it_is_made_or_given_it(
    session: Session, workspace_id: uuid.UUID
) -> None:
    hourly = Every(datetime.timedelta(hours=1))
    there, elsewhere = connect(session, workspace_id), connect(session, uuid.uuid4())

    for missing in (ONE, elsewhere):
        for payload in ({"connectionId": str(missing)}, SyncPayload(connection_id=missing)):
            with pytest.raises(InvalidPayloadError) as refused:
                create_schedule(session, sync, hourly, workspace_id=workspace_id, payload=payload)
            assert refused.value.problems == (NOT_THERE,)
    made = create_schedule(session, sync, hourly, workspace_id=workspace_id, payload={"connectionId": str(there)})
    with pytest.raises(InvalidPayloadError):
        change_schedule(session, made, sync, payload={"connectionId": str(elsewhere)})
    session.execute(text("delete from jobplatform.connections"))

    # It may name one that is gone by now, and the rest of it is changed all the same.
    assert change_schedule(session, made, sync, priority=5).priority == 5


def test_a_schedule_in_code_of_a_connection_that_is_not_there_is_written_down_and_named(
    session: Session, workspace_id: uuid.UUID
) -> None:
    there, elsewhere = connect(session, workspace_id), connect(session, uuid.uuid4())
    declaring = Tasks()

    @declaring.task("pull")
    def pull(_job: RunningJob, _payload: SyncPayload) -> None: ...

    @declaring.task("own")
    def own(_job: RunningJob, _payload: dict[str, Any]) -> None: ...

    hour = datetime.timedelta(hours=1)
    for name, connection_id in (("good", there), ("missing", ONE), ("elsewhere", elsewhere)):
        payload = SyncPayload(connection_id=connection_id)
        declaring.every(hour, name=name, workspace_id=workspace_id, payload=payload)(pull)
    # What another task calls so is its own affair.
    declaring.every(hour, name="own", workspace_id=workspace_id, payload={"connectionId": str(ONE)})(own)
    declared = [Declared.from_dict(json.loads(json.dumps(one.as_dict()))) for one in declaring.schedules]

    settled = settle_schedules(session, "a test", declared, starting=True)

    assert sorted(settled.made) == ["elsewhere", "good", "missing", "own"]
    assert find_unconnected(session, declared) == ["elsewhere", "missing"]
    assert session.scalar(text("select current_user = session_user"))
    session.execute(text("delete from jobplatform.connections where id = :id"), {"id": there})
    assert find_unconnected(session, declared) == ["elsewhere", "good", "missing"]


def test_two_schedules_for_two_connections_are_both_enqueued_at_one_moment(
    session: Session, engine: Engine, workspace_id: uuid.UUID
) -> None:
    one, two = connect(session, workspace_id, "one"), connect(session, workspace_id, "two")
    for connection_id in (one, two):
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
    assert {payload["connectionId"] for payload in payloads} == {str(one), str(two)}


def test_a_schedule_that_has_the_key_of_an_earlier_build_gets_its_own_when_it_is_changed(
    session: Session, workspace_id: uuid.UUID
) -> None:
    connection_id = connect(session, workspace_id)
    payload = {"connectionId": str(connection_id)}
    rule = Every(datetime.timedelta(hours=1))
    made = create_schedule(session, sync, rule, workspace_id=workspace_id, payload=payload, unique_key="sync")

    change_schedule(session, made, sync, payload=payload)

    assert made.unique_key == f"sync:{connection_id}"


# What is asked for has to be there


@pytest.fixture
def connected(session: Session, workspace_id: uuid.UUID) -> uuid.UUID:
    """A connection of the workspace."""
    connection_id = connect(session, workspace_id)
    session.commit()
    return connection_id


def requests_of(session: Session) -> int:
    """How many jobs were asked for; whatever was refused has left the transaction as it was."""
    return session.scalar(select(func.count()).select_from(JobRecord)) or 0


def test_a_sync_of_a_connection_that_is_not_there_is_refused_when_it_is_enqueued(
    session: Session, workspace_id: uuid.UUID, connected: uuid.UUID
) -> None:
    with pytest.raises(InvalidPayloadError) as missing:
        sync.enqueue(session, SyncPayload(connection_id=ONE), workspace_id=workspace_id)
    with pytest.raises(InvalidPayloadError) as theirs:
        sync.enqueue(session, {"connectionId": str(connected)}, workspace_id=uuid.uuid4())

    assert missing.value.problems == theirs.value.problems == (NOT_THERE,)
    assert requests_of(session) == 0
    assert sync.enqueue(session, SyncPayload(connection_id=connected), workspace_id=workspace_id).created


def test_of_many_syncs_each_that_names_no_connection_of_its_workspace_is_named(
    session: Session, workspace_id: uuid.UUID, connected: uuid.UUID
) -> None:
    payloads = [{}, {"connectionId": str(ONE)}, {"connectionId": str(connected)}, {"connectionId": str(TWO)}]

    with pytest.raises(InvalidPayloadError) as refused:
        sync.enqueue_many(session, payloads, workspace_id=workspace_id)

    assert [problem.path for problem in refused.value.problems] == ["/1/connectionId", "/3/connectionId"]
    assert requests_of(session) == 0


def test_syncs_of_several_workspaces_among_other_jobs_are_told_by_their_jobs(
    session: Session, workspace_id: uuid.UUID, connected: uuid.UUID
) -> None:
    mine, theirs = (
        sync.new_job({"connectionId": str(connected)}, workspace_id=whose) for whose in (workspace_id, uuid.uuid4())
    )
    other = NewJob(workspace_id=workspace_id, task="export", payload={"connectionId": str(ONE)})

    with pytest.raises(InvalidPayloadError) as refused:
        tasks.enqueue_many(session, [other, mine, theirs])

    assert (refused.value.problems, refused.value.job_ids) == ((NOT_THERE,), (theirs.id,))
    assert [answer.created for answer in tasks.enqueue_many(session, [other, mine])] == [True, True]


def test_a_sync_of_a_type_that_there_is_not_is_refused_with_the_nearest(
    session: Session, workspace_id: uuid.UUID, connected: uuid.UUID
) -> None:
    with pytest.raises(InvalidPayloadError) as refused:
        sync.enqueue(session, {"connectorType": "hubspoot"}, workspace_id=workspace_id)

    words = "there is no connector type 'hubspoot'; did you mean 'hubspot'?"
    assert refused.value.problems == (Problem("/connectorType", words),)
    # One of which there are connections is known to another process, such as the worker.
    session.get_one(Connection, (workspace_id, connected)).connector_type = "hubspoot"
    assert sync.enqueue(session, {"connectorType": "hubspoot"}, workspace_id=workspace_id).created


def test_a_sync_that_an_application_declares_itself_is_looked_at_like_ours(
    session: Session, workspace_id: uuid.UUID
) -> None:
    own = Tasks()

    @own.task("pull")
    def pull(job: RunningJob, payload: SyncPayload) -> None: ...

    with pytest.raises(InvalidPayloadError, match="no such connection"):
        pull.enqueue(session, SyncPayload(connection_id=ONE), workspace_id=workspace_id)


@pytest.mark.parametrize("role", [Role.API, Role.HANDLER])
def test_a_connection_is_found_with_the_rights_of_whoever_enqueues(
    login_url: Callable[..., str], workspace_id: uuid.UUID, connected: uuid.UUID, role: Role
) -> None:
    engine = make_engine(login_url(role))
    with confine(Session(engine), role, workspace_id) as confined:
        assert sync.enqueue(confined, SyncPayload(connection_id=connected), workspace_id=workspace_id).created
    engine.dispose()
