"""Jobs of pg-boss become ours."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.adopting import Adoption, Counted, PgBoss, Rule, TheirSchedule
from jobplatform.errors import AdoptionError, UnknownTaskError
from jobplatform.models import AuditEntry, Job, Role, make_engine
from jobplatform.queue import NewJob, enqueue_job, set_workspace_limits
from tests.adopting.conftest import MAIL, Adopt, make_tasks
from tests.adopting.tables import ask, make_pg_boss

LATER = datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def boss(direct_url: str) -> str:
    make_pg_boss(direct_url)
    return direct_url


def send(url: str, name: str = "send-email", data: Any = None, **columns: Any) -> str:
    values = {"name": name, "data": json.dumps({"number": 1} if data is None else data), **columns}
    marks = ", ".join(["%s"] * len(values))
    sql = f"insert into pgboss.job ({', '.join(values)}) values ({marks}) returning id::text"
    return str(ask(url, sql, *values.values())[0][0])


def states(url: str) -> dict[str, str]:
    return dict(ask(url, "select id::text, state::text from pgboss.job"))


def jobs(session: Session) -> list[Job]:
    session.expire_all()
    return list(session.scalars(select(Job).order_by(Job.id)))


def test_what_waits_becomes_ours_with_what_it_was_asked_with(
    boss: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    now = send(boss, data={"number": 1}, priority=5)
    late = send(boss, data={"number": 2}, priority=-5000, start_after=LATER, retry_limit=0)
    retried = send(
        boss, data={"number": 3}, state="retry", retry_limit=4, retry_count=1, started_on=LATER, start_after=LATER
    )

    found = adopt(PgBoss())

    here = {job.payload["number"]: job for job in jobs(session)}
    assert (found["send-email"].taken, found["send-email"].left) == (3, {})
    assert states(boss) == dict.fromkeys((now, late, retried), "cancelled")
    assert [job.workspace_id for job in here.values()] == [acme] * 3
    assert {number: job.priority for number, job in here.items()} == {1: 5, 2: -1000, 3: 0}
    assert (here[2].run_after, here[3].run_after) == (LATER, LATER)
    assert here[1].run_after != LATER
    # Of five attempts two are made.
    assert {number: job.max_attempts for number, job in here.items()} == {1: 3, 2: 1, 3: 3}
    assert list(here[1].tags) == ["mail", f"pg-boss:{now}"]


def test_a_job_that_is_never_to_begin_is_left_there_and_the_others_are_not(
    boss: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    never = send(boss, start_after="infinity")
    send(boss, data={"number": 2})

    found = adopt(PgBoss())["send-email"]

    assert (found.taken, list(found.examples.values())) == (1, [[never]])


def test_their_history_says_where_a_job_went_and_ours_who_took_it(
    boss: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    theirs = send(boss)

    adopt(PgBoss())

    (job,) = jobs(session)
    ((output, completed_on),) = ask(boss, "select output, completed_on from pgboss.job where id = %s", theirs)
    line = session.scalars(select(AuditEntry)).one()
    assert output == {"movedTo": {"system": "jobplatform", "workspaceId": str(acme), "jobId": str(job.id)}}
    assert completed_on is not None
    assert (line.actor, line.action, line.target, line.workspace_id) == (
        "ada",
        "jobs.adopt",
        "pg-boss:send-email",
        acme,
    )
    assert line.details == {"task": "email.send", "jobs": 1}


def test_what_runs_there_and_what_somebody_has_in_hand_is_left_to_them(
    boss: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    running, held, free = send(boss, state="active"), send(boss), send(boss)
    with psycopg.connect(boss) as worker:
        worker.execute("select from pgboss.job where id = %s for update skip locked", (held,))

        found = adopt(PgBoss())

    assert found["send-email"].taken == 1
    assert states(boss) == {running: "active", held: "created", free: "cancelled"}


def test_what_does_not_stand_alone_there_is_left_to_them(boss: str, session: Session, acme: uuid.UUID) -> None:
    send(boss, blocked=True)
    send(boss, blocking=True)
    send(boss, policy="key_strict_fifo", singleton_key="a", state="failed")
    send(boss, policy="key_strict_fifo", singleton_key="a")
    free = send(boss, policy="key_strict_fifo", singleton_key="b")
    send(boss, name="__pgboss__send-it")
    adoption = Adoption(session, PgBoss(), make_tasks(), MAIL, actor="ada")

    taken = sum(portion.taken for portion in adoption.move())

    assert taken == 1
    assert states(boss)[free] == "cancelled"
    assert [job.resource for job in jobs(session)] == ["lock:send-email/b"]
    assert adoption.count() == [
        Counted("send-email", "its turn comes after one of its key that runs there, or failed", 1),
        Counted("send-email", "other jobs there wait for it", 1),
        Counted("send-email", "waits for other jobs there", 1),
    ]


def test_a_job_that_our_task_does_not_take_is_left_there_with_the_reason(
    boss: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    good = send(boss, data={"tenant": "Acme", "number": 1})
    for data in ({"tenant": "Acme", "number": "x"}, {"tenant": "Nobody", "number": 2}, {"number": 3}, [4]):
        send(boss, data=data)
    rules = {"send-email": Rule("email.send", workspace_from="tenant", without=("tenant",))}

    found = adopt(PgBoss(), rules)["send-email"]

    assert found.taken == 1
    assert found.left == {
        "/number: Not a valid integer.": 1,
        "there is no workspace 'Nobody'": 1,
        "nothing stands at tenant in its payload": 1,
        "its payload is no JSON object": 1,
    }
    assert [id for id, state in states(boss).items() if state == "cancelled"] == [good]


def test_a_job_for_which_the_applications_own_code_fails_is_left_alone(
    boss: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    for data in ({}, {"of": 7}, {"of": "Ada"}):
        send(boss, data=data)

    found = adopt(PgBoss(), {"send-email": Rule("email.of", workspace="Acme")})["send-email"]

    assert (found.taken, [job.unique_key for job in jobs(session)]) == (1, ["email.of:ada"])
    assert sorted(found.left) == [
        "the code of task email.of fails for it: AttributeError: 'int' object has no attribute 'lower'",
        "the code of task email.of fails for it: KeyError: 'of'",
    ]


def test_more_than_a_portion_is_taken_whatever_is_left_on_the_way(
    boss: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    for number in range(23):
        send(boss, data={"number": number if number % 3 else "x"}, priority=number % 4)

    found = adopt(PgBoss(), size=4)["send-email"]

    assert (found.taken, found.left.total()) == (15, 8)
    assert sorted(job.payload["number"] for job in jobs(session)) == [n for n in range(23) if n % 3]


def test_a_queue_of_exclusive_jobs_keeps_its_keys(boss: str, session: Session, acme: uuid.UUID, adopt: Adopt) -> None:
    send(boss, "refresh", policy="exclusive", singleton_key="a")
    held = send(boss, "refresh", policy="exclusive", singleton_key="b")
    send(boss, "report", singleton_key="b")
    enqueue_job(session, NewJob(workspace_id=acme, task="refresh", unique_key="refresh:b"))
    session.commit()
    rules = {name: Rule("refresh", workspace="Acme") for name in ("refresh", "report")}

    found = adopt(PgBoss(), rules)

    assert found["refresh"].left == {"an unfinished job here has its key": 1}
    assert found["refresh"].examples == {"an unfinished job here has its key": [held]}
    assert sorted(job.unique_key or "" for job in jobs(session)) == ["", "refresh:a", "refresh:b"]


def test_a_full_quota_leaves_the_rest_there(boss: str, session: Session, acme: uuid.UUID, adopt: Adopt) -> None:
    for number in range(5):
        send(boss, data={"number": number})
    set_workspace_limits(session, acme, {"max_pending": 2})
    session.commit()

    found = adopt(PgBoss())["send-email"]

    assert found.taken == 2
    assert found.left == {f"the quota of workspace {acme} is full: 2 may wait": 3}
    assert len(jobs(session)) == 2


class Breaking(PgBoss):
    """Dies where it hurts most."""

    def take_out(self, connection: Any, name: str, moved: Any) -> int:
        raise RuntimeError("killed")


def test_in_one_database_a_portion_is_there_or_here(boss: str, session: Session, acme: uuid.UUID, adopt: Adopt) -> None:
    theirs = send(boss)

    with pytest.raises(RuntimeError):
        adopt(Breaking())
    session.rollback()

    assert (states(boss), jobs(session)) == ({theirs: "created"}, [])


def test_between_two_databases_whoever_is_killed_and_begins_again_makes_no_second(
    empty_url: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    make_pg_boss(empty_url)
    theirs = [send(empty_url, data={"number": number}) for number in range(3)]
    engine = make_engine(empty_url)
    with engine.connect() as connection:
        with pytest.raises(RuntimeError):
            adopt(Breaking(), theirs=connection)
        connection.rollback()
        between = (set(states(empty_url).values()), len(jobs(session)))
        new = send(empty_url, data={"number": 3})

        again = adopt(PgBoss(), theirs=connection)["send-email"]
    engine.dispose()

    assert between == ({"created"}, 3)
    assert (again.taken, again.known) == (1, 3)
    assert states(empty_url) == dict.fromkeys([*theirs, new], "cancelled")
    assert sorted(job.payload["number"] for job in jobs(session)) == [0, 1, 2, 3]


def test_between_two_databases_theirs_stay_locked_until_ours_are_there(
    empty_url: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    make_pg_boss(empty_url)
    send(empty_url)
    free: list[Any] = []

    class Asking(PgBoss):
        def take_out(self, connection: Any, name: str, moved: Any) -> int:
            free.extend(ask(empty_url, "select id from pgboss.job for update skip locked"))
            return super().take_out(connection, name, moved)

    engine = make_engine(empty_url)
    with engine.connect() as connection:
        adopt(Asking(), theirs=connection)
    engine.dispose()

    assert (free, len(jobs(session))) == ([], 1)


def test_a_login_of_the_platforms_that_owns_their_tables_is_enough(
    boss: str, session: Session, acme: uuid.UUID, login_url: Any, adopt: Adopt
) -> None:
    send(boss, data={"tenant": "Acme", "number": 1})
    url = login_url(Role.API, Role.OPERATOR)
    login = ask(url, "select session_user::text")[0][0]
    ask(boss, f"grant usage on schema pgboss to {login}")
    ask(boss, f"grant select, update on all tables in schema pgboss to {login}")
    rules = {"send-email": Rule("email.send", workspace_from="tenant", without=("tenant",))}
    engine = make_engine(url)

    with Session(engine) as mine:
        moved = list(Adoption(mine, PgBoss(), make_tasks(), rules, actor="ada").move())
    engine.dispose()

    assert [portion.taken for portion in moved] == [1]
    assert len(jobs(session)) == 1


def test_older_tables_of_theirs_are_understood_and_too_old_ones_refused(
    boss: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    ask(boss, "alter table pgboss.job drop column blocked, drop column blocking, drop column trace_context")
    send(boss)

    assert adopt(PgBoss())["send-email"].taken == 1

    ask(boss, "alter table pgboss.job rename column retry_limit to retrylimit")
    with pytest.raises(AdoptionError, match="no column retry_limit: this pg-boss is too old; upgrade it to 10"):
        adopt(PgBoss())
    with pytest.raises(AdoptionError, match=r"there is no table other\.job here"):
        adopt(PgBoss("other"))


def test_what_nobody_has_is_refused_before_anything_moves(boss: str, session: Session, acme: uuid.UUID) -> None:
    with pytest.raises(UnknownTaskError, match=r"email\.send"):
        Adoption(session, PgBoss(), make_tasks(), {"a": Rule("email.sent", workspace="Acme")}, actor="ada")
    with pytest.raises(AdoptionError, match="there is no workspace 'Acne'"):
        Adoption(session, PgBoss(), make_tasks(), {"a": Rule("email.send", workspace="Acne")}, actor="ada")


def test_a_rehearsal_says_what_would_be_and_changes_nothing(boss: str, session: Session, acme: uuid.UUID) -> None:
    theirs, wrong = send(boss), send(boss, data={"number": "x"})
    adoption = Adoption(session, PgBoss(), make_tasks(), MAIL, actor="ada")

    (portion,) = adoption.rehearse()

    assert (portion.taken, [left.their_id for left in portion.left]) == (1, [wrong])
    assert (states(boss), jobs(session)) == ({theirs: "created", wrong: "created"}, [])


def test_what_repeats_there_is_listed(boss: str, session: Session) -> None:
    ask(
        boss,
        """insert into pgboss.schedule (name, key, kind, cron, timezone, data) values
        ('report', '', 'cron', '*/5 * * * *', 'Europe/Berlin', '{"day": 1}'),
        ('report', 'weekly', 'rrule', 'FREQ=WEEKLY', 'UTC', null)""",
    )

    found = Adoption(session, PgBoss(), make_tasks(), {}, actor="ada").schedules()

    assert found == [
        TheirSchedule("report", "", "*/5 * * * *", "Europe/Berlin", {"day": 1}),
        TheirSchedule("report", "weekly", None, note="a recurrence rule: FREQ=WEEKLY"),
    ]
