"""Jobs of Procrastinate become ours, beside its own workers."""

from __future__ import annotations

import asyncio
import datetime
import threading
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import procrastinate
import psycopg
import pytest
from procrastinate.jobs import Status
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.adopting import Adoption, Counted, Procrastinate, Rule, TheirSchedule
from jobplatform.errors import AdoptionError
from jobplatform.models import Job
from jobplatform.queue import set_resource_limit
from jobplatform.testing import wait_until
from tests.adopting.conftest import Adopt, make_tasks
from tests.adopting.tables import SCHEMA, ask, make_procrastinate, procrastinate_app, seeing

RULES = {"mail": Rule("email.send", workspace="Acme")}
LATER = datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC)

T = TypeVar("T")


@pytest.fixture
def theirs(direct_url: str) -> str:
    make_procrastinate(direct_url)
    return direct_url


def with_app(url: str, ask: Callable[[procrastinate.App], Awaitable[T]]) -> T:
    """What their own application answers."""

    async def run() -> T:
        async with procrastinate_app(url).open_async() as app:
            return await ask(app)

    return asyncio.run(run())


def defer(url: str, *numbers: Any, **options: Any) -> list[int]:
    async def defer(app: procrastinate.App) -> list[int]:
        deferrer = app.configure_task("mail", **options)
        return [await deferrer.defer_async(number=number) for number in numbers]

    return with_app(url, defer)


def status_of(url: str, job_id: int) -> Status:
    return with_app(url, lambda app: app.job_manager.get_job_status_async(job_id))


def jobs(session: Session) -> list[Job]:
    session.expire_all()
    return list(session.scalars(select(Job).order_by(Job.id)))


def test_what_waits_becomes_ours_and_is_cancelled_there(
    theirs: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    (first, second) = defer(theirs, 1, 2, priority=7)
    (late,) = defer(theirs, 3, schedule_at=LATER, queueing_lock="once")
    ask(theirs, f"update {SCHEMA}.procrastinate_jobs set attempts = 2 where id = %s", second)

    found = adopt(Procrastinate(SCHEMA), RULES)["mail"]

    here = jobs(session)
    assert (found.taken, found.left) == (3, {})
    assert [job.payload["number"] for job in here] == [1, 2, 3]
    assert [job.priority for job in here] == [7, 7, 0]
    assert [job.max_attempts for job in here] == [4, 2, 4]
    assert [job.unique_key for job in here] == [None, None, "email.send:once"]
    assert here[2].run_after == LATER
    assert list(here[0].tags) == ["mail", f"procrastinate:{first}"]
    assert [status_of(theirs, id) for id in (first, second, late)] == [Status.CANCELLED] * 3
    events = f"select type::text from {SCHEMA}.procrastinate_events where job_id = %s order by id"
    assert ask(theirs, events, first) == [("deferred",), ("cancelled",)]


def test_a_lock_that_one_of_them_runs_with_keeps_its_others_there(
    theirs: str, session: Session, acme: uuid.UUID
) -> None:
    running, _behind = defer(theirs, 1, 2, lock="a")
    defer(theirs, 3, lock="b")
    # Their triggers name their types without a schema.
    ask(seeing(theirs, SCHEMA), "update procrastinate_jobs set status = 'doing' where id = %s", running)
    adoption = Adoption(session, Procrastinate(SCHEMA), make_tasks(), RULES, actor="ada")

    taken = sum(portion.taken for portion in adoption.move())

    assert taken == 1
    assert [job.payload["number"] for job in jobs(session)] == [3]
    assert adoption.count() == [Counted("mail", "one of its lock runs there", 1), Counted("mail", "running", 1)]


def test_a_lock_of_theirs_is_a_resource_that_one_job_uses_at_a_time_once_it_is_limited(
    theirs: str, session: Session, acme: uuid.UUID
) -> None:
    defer(theirs, 1, 2, lock="a")
    adoption = Adoption(session, Procrastinate(SCHEMA), make_tasks(), RULES, actor="ada")

    before = adoption.needs_limit()
    list(adoption.move())
    unlimited = adoption.needs_limit()
    set_resource_limit(session, "lock:*", 1)

    assert [job.resource for job in jobs(session)] == ["lock:a", "lock:a"]
    assert (before, unlimited, adoption.needs_limit()) == (False, True, False)


def test_what_somebody_has_in_hand_is_left_to_them(
    theirs: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    held, _free = defer(theirs, 1, 2)
    with psycopg.connect(theirs) as worker:
        worker.execute(f"select from {SCHEMA}.procrastinate_jobs where id = %s for update", (held,))

        found = adopt(Procrastinate(SCHEMA), RULES)["mail"]

    assert found.taken == 1
    assert status_of(theirs, held) is Status.TODO


def test_tables_in_which_nothing_can_be_cancelled_are_too_old(theirs: str, session: Session) -> None:
    ask(theirs, f"alter type {SCHEMA}.procrastinate_job_status rename value 'cancelled' to 'gone'")

    with pytest.raises(AdoptionError, match=r"can be cancelled: this procrastinate is too old; upgrade it to 2\.6"):
        Adoption(session, Procrastinate(SCHEMA), make_tasks(), RULES, actor="ada")


def test_what_repeats_there_is_named_as_far_as_their_tables_know(theirs: str, session: Session) -> None:
    ask(theirs, f"insert into {SCHEMA}.procrastinate_periodic_defers (task_name, defer_timestamp) values ('mail', 1)")

    (found,) = Adoption(session, Procrastinate(SCHEMA), make_tasks(), {}, actor="ada").schedules()

    assert found == TheirSchedule("mail", "", None, note="its line stands in their code, at @app.periodic(cron=…)")


class TheirWorker:
    """Their real worker, in a thread: it runs what it finds, and stops with the first ``many`` until it is let go."""

    def __init__(self, url: str, stops_at: int) -> None:
        self.done: list[int] = []
        self.stands = threading.Event()
        self.goes_on = threading.Event()
        self._url = url
        self._stops_at = stops_at
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()))

    def __enter__(self) -> TheirWorker:
        self._thread.start()
        wait_until(self.stands.is_set, what="their worker to have begun")
        return self

    def __exit__(self, *_: object) -> None:
        self.goes_on.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    async def _work(self) -> None:
        app = procrastinate_app(self._url)

        @app.task(name="mail")
        async def mail(number: int) -> None:
            if number >= self._stops_at and not self.goes_on.is_set():
                self.stands.set()
                await asyncio.to_thread(self.goes_on.wait, 60)
            self.done.append(number)

        async with app.open_async():
            await app.run_worker_async(
                wait=False, concurrency=2, install_signal_handlers=False, listen_notify=False, delete_jobs="never"
            )


def test_beside_their_worker_each_job_is_run_there_or_is_here_and_none_is_both(
    theirs: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    defer(theirs, *range(300))

    with TheirWorker(theirs, stops_at=10) as worker:
        # From the second portion on both are at work.
        found = adopt(Procrastinate(SCHEMA), RULES, size=20, meanwhile=worker.goes_on.set)["mail"]
    again = adopt(Procrastinate(SCHEMA), RULES).get("mail")

    here = [job.payload["number"] for job in jobs(session)]
    assert again is None
    assert len(worker.done) >= 12
    assert found.taken == len(here) >= 20
    assert sorted([*worker.done, *here]) == list(range(300))
