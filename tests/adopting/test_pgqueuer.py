"""Jobs of PGQueuer become ours."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

import psycopg
import pytest
from pgqueuer.models import TracebackRecord
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.adopting import Adoption, Counted, Pgqueuer, Rule, TheirSchedule
from jobplatform.models import Job
from tests.adopting.conftest import MAIL, Adopt, make_tasks
from tests.adopting.tables import SCHEMA, ask, ask_pgqueuer, make_pgqueuer


@pytest.fixture
def theirs(direct_url: str) -> str:
    make_pgqueuer(direct_url)
    return direct_url


def enqueue(url: str, *payloads: bytes | None, entrypoint: str = "send-email", **options: Any) -> list[int]:
    found = [
        ask_pgqueuer(url, lambda queries, payload=payload: queries.enqueue(entrypoint, payload, **options))  # type: ignore[misc]
        for payload in payloads
    ]
    return [job_id for (job_id,) in found]


def mail(number: Any) -> bytes:
    return json.dumps({"number": number}).encode()


def jobs(session: Session) -> list[Job]:
    session.expire_all()
    return list(session.scalars(select(Job).order_by(Job.id)))


def test_what_waits_becomes_ours_and_is_canceled_in_their_log(
    theirs: str, session: Session, acme: uuid.UUID, adopt: Adopt
) -> None:
    first, second = enqueue(theirs, mail(1), mail(2), priority=3)
    enqueue(theirs, mail(3), execute_after=datetime.timedelta(days=900), dedupe_key="once")
    ask(theirs, f"update {SCHEMA}.pgqueuer set attempts = 9 where id = %s", second)

    found = adopt(Pgqueuer(SCHEMA))["send-email"]

    here = jobs(session)
    assert (found.taken, found.left) == (3, {})
    assert [job.payload["number"] for job in here] == [1, 2, 3]
    assert [job.priority for job in here] == [3, 3, 0]
    assert [job.max_attempts for job in here] == [4, 1, 4]
    assert [job.unique_key for job in here] == [None, None, "email.send:once"]
    assert here[2].run_after > here[2].created_at + datetime.timedelta(days=899)
    assert list(here[0].tags) == ["mail", f"pgqueuer:{first}"]
    assert ask_pgqueuer(theirs, lambda queries: queries.queue_size()) == []
    line = f"select status::text, traceback from {SCHEMA}.pgqueuer_log where job_id = %s order by id desc limit 1"
    ((status, record),) = ask(theirs, line, first)
    assert status == "canceled"
    said = TracebackRecord.model_validate(record)
    assert said.exception_message == f"moved to jobplatform, where it is the job {here[0].id}"


def test_what_runs_there_or_is_in_somebodys_hand_or_is_no_json_is_left(
    theirs: str, session: Session, acme: uuid.UUID
) -> None:
    picked, held, *_ = enqueue(theirs, mail(1), mail(2), mail(3), b"\xff", b"{", b"[1]", None)
    ask(theirs, f"update {SCHEMA}.pgqueuer set status = 'picked' where id = %s", picked)
    adoption = Adoption(session, Pgqueuer(SCHEMA), make_tasks(), MAIL, actor="ada")
    with psycopg.connect(theirs) as worker:
        worker.execute(f"select from {SCHEMA}.pgqueuer where id = %s for update", (held,))

        (portion,) = adoption.move()

    assert portion.taken == 1
    assert sorted(left.reason for left in portion.left) == [
        "/number: Missing data for required field.",
        "its payload is no JSON object",
        "its payload is not JSON",
        "its payload is not JSON",
    ]
    assert adoption.count() == [Counted("send-email", "running", 1), Counted("send-email", "waiting", 5)]


@pytest.mark.parametrize("name", ["A\0", "\ud800"])
def test_a_payload_that_names_what_no_workspace_can_be_called_is_left_and_the_others_are_not(
    theirs: str, session: Session, acme: uuid.UUID, adopt: Adopt, name: str
) -> None:
    enqueue(theirs, json.dumps({"number": 1, "of": name}).encode(), json.dumps({"number": 2, "of": "Acme"}).encode())

    found = adopt(Pgqueuer(SCHEMA), {"send-email": Rule("refresh", workspace_from="of")})["send-email"]

    assert (found.taken, dict(found.left)) == (1, {f"there is no workspace {name!r}": 1})


def test_tables_with_a_prefix_are_found(theirs: str, session: Session, acme: uuid.UUID, adopt: Adopt) -> None:
    enqueue(theirs, mail(1))
    for table in ("pgqueuer", "pgqueuer_log"):
        ask(theirs, f"alter table {SCHEMA}.{table} rename to my_{table}")
    ask(theirs, f"drop trigger tg_pgqueuer_changed on {SCHEMA}.my_pgqueuer")

    assert adopt(Pgqueuer(SCHEMA, "my_"))["send-email"].taken == 1


def test_what_repeats_there_is_listed(theirs: str, session: Session) -> None:
    ask(theirs, f"insert into {SCHEMA}.pgqueuer_schedules (expression, entrypoint) values ('0 3 * * *', 'refresh')")

    found = Adoption(session, Pgqueuer(SCHEMA), make_tasks(), {}, actor="ada").schedules()

    assert found == [TheirSchedule("refresh", "", "0 3 * * *")]


def test_rules_may_share_a_task(theirs: str, session: Session, acme: uuid.UUID, adopt: Adopt) -> None:
    enqueue(theirs, mail(1))
    enqueue(theirs, mail(2), entrypoint="other")
    rules = {name: Rule("email.send", workspace=str(acme)) for name in ("send-email", "other")}

    found = adopt(Pgqueuer(SCHEMA), rules)

    assert {name: tally.taken for name, tally in found.items()} == {"send-email": 1, "other": 1}
