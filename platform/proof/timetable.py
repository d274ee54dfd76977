"""Schedules of every second that run through a storm: made before it, and stopped when all is to come to rest."""

from __future__ import annotations

import contextlib
import datetime
import random
import time
import uuid

import psycopg
from sqlalchemy.orm import Session

from jobplatform.models import Role, confine, make_engine
from jobplatform.proof.onlooker import as_role, connect
from jobplatform.proof.workload import tasks
from jobplatform.queue import Every, create_schedule, silence

SECOND = datetime.timedelta(seconds=1)

BEHIND = "select exists (select from jobplatform.schedules where next_run_at < now())"
# What it waits for is kept: the last tick that was done must be the one before.
STOP = "update jobplatform.schedules set next_run_at = null"


def make_schedules(url: str, draw: random.Random, count: int) -> None:
    """So many of them, each in a workspace of its own that has no limits; none of their ticks may be missed."""
    engine = make_engine(url, pool_size=1)
    silence(engine)
    try:
        with confine(Session(engine), Role.OPERATOR) as session, session.begin():
            for number in range(count):
                create_schedule(
                    session,
                    tasks["noop"],
                    Every(SECOND),
                    workspace_id=uuid.UUID(int=draw.getrandbits(128), version=4),
                    name=f"every second {number}",
                    catch_up="all",
                )
    finally:
        engine.dispose()


def stop_schedules(url: str, seconds: float) -> None:
    """Let the workers catch up with what was due in the storm, and have no more ticks done."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError), connect(url) as connection, as_role(connection):
            # Nobody does a tick between the look and the end.
            connection.execute("lock table jobplatform.schedules in share row exclusive mode")
            row = connection.execute(BEHIND).fetchone()
            if row and not row[0]:
                connection.execute(STOP)
                return
        time.sleep(0.1)
    with connect(url) as connection, as_role(connection):
        connection.execute(STOP)
