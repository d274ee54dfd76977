"""The Sessions of a child's handlers."""

from __future__ import annotations

import threading
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from jobplatform.models import make_engine
from jobplatform.worker import handler_session
from jobplatform.worker.handler_session import HandlerSessions


def test_handlers_whose_threads_ask_at_the_same_time_share_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    both_are_making_one = threading.Barrier(2)

    def make_and_meet(*arguments: Any, **options: Any) -> Any:
        with suppress(threading.BrokenBarrierError):
            both_are_making_one.wait(0.5)
        return make_engine(*arguments, **options)

    monkeypatch.setattr(handler_session, "make_engine", make_and_meet)
    sessions = HandlerSessions("postgresql://", threads=2)

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(sessions.open, [str(uuid.uuid4())] * 2)

    assert first.get_bind() is second.get_bind()


def test_a_handler_without_a_right_is_told_who_it_is_and_what_to_grant(engine: Engine, database_url: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("create table letters (id int)"))
        connection.execute(text("revoke all on letters from jobplatform_handler"))
    sessions = HandlerSessions(database_url, threads=1)

    with sessions.open(str(uuid.uuid4())) as session, pytest.raises(ProgrammingError) as refused:
        session.execute(text("select id from letters"))

    session.get_bind().engine.dispose()
    told = "".join(traceback.format_exception(refused.value))
    assert "permission denied for table letters" in told
    assert "grant select, insert, update, delete on all tables in schema public to jobplatform_handler" in told
