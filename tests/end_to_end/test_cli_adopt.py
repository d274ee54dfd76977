"""``jobplatform adopt``, as somebody uses it who goes over from another queue."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobplatform.models import Job
from jobplatform.testing import wait_until
from tests.adopting.tables import ask, make_pg_boss, make_pgqueuer, make_procrastinate
from tests.end_to_end.conftest import Cli, Running, as_json

TASKS = {"JOBPLATFORM_TASKS": "tests.api.example_tasks:tasks"}
ADD = ("--map", "send-email=add", "-w", "Acme")


def send(url: str, *payloads: object, name: str = "send-email", **columns: Any) -> None:
    names, values = ", ".join(["name", "data", *columns]), ", ".join(["%s"] * (2 + len(columns)))
    for payload in payloads:
        ask(url, f"insert into pgboss.job ({names}) values ({values})", name, json.dumps(payload), *columns.values())


def addition(left: int) -> dict[str, int]:
    return {"left": left, "right": 1}


@pytest.fixture
def boss(direct_url: str, acme: uuid.UUID) -> str:
    make_pg_boss(direct_url)
    send(direct_url, addition(1), addition(2), {"left": 1})
    send(direct_url, {}, name="report")
    send(direct_url, addition(3), state="active")
    return direct_url


def count_here(session: Session) -> int:
    session.rollback()
    return session.scalar(select(func.count()).select_from(Job)) or 0


def test_what_is_there_is_listed_until_somebody_says_what_it_is_here(cli: Cli, boss: str, session: Session) -> None:
    answer = cli("adopt", "pg-boss", **TASKS)

    assert answer.exit_code == 1
    assert "there is no --map for it" in answer.stdout
    assert answer.stdout.endswith("0 jobs are taken over, 4 are left there, 1 is running there; run this again\n")
    assert count_here(session) == 0


def test_a_dry_run_says_what_would_be_and_does_nothing(cli: Cli, boss: str, session: Session) -> None:
    answer = cli("adopt", "pg-boss", *ADD, "--dry-run", "--leave", "report", **TASKS)

    assert answer.exit_code == 1
    assert "/right: Missing data for required field." in answer.stdout
    assert "2 jobs would be taken over, 2 are left there" in answer.stdout
    assert count_here(session) == 0


def test_what_is_taken_and_what_is_left_add_up(cli: Cli, boss: str, session: Session) -> None:
    answer = cli("adopt", "pg-boss", *ADD, "--leave", "report", "--json", **TASKS)

    assert answer.exit_code == 1
    names = {one["name"]: one for one in json.loads(answer.stdout)["names"]}
    mail = names["send-email"]
    assert (mail["task"], mail["taken"], mail["left"], mail["runningThere"]) == ("add", 2, 1, 1)
    assert [(one["why"], one["count"]) for one in mail["reasons"]] == [("/right: Missing data for required field.", 1)]
    assert len(mail["reasons"][0]["examples"]) == 1
    assert (names["report"]["left"], names["report"]["reasons"][0]["why"]) == (1, "stays there, as --leave says")
    assert count_here(session) == 2


def test_the_exit_code_is_0_when_nothing_is_left_but_what_may_stay(cli: Cli, boss: str, session: Session) -> None:
    ask(boss, "delete from pgboss.job where state = 'active' or data = '{\"left\": 1}'")

    first = as_json(cli("adopt", "pg-boss", *ADD, "--leave", "report", "--json", **TASKS))
    second = as_json(cli("adopt", "pg-boss", *ADD, "--leave", "report", "--json", **TASKS))

    taken = [{one["name"]: one["taken"] for one in answer["names"]} for answer in (first, second)]
    assert taken == [{"report": 0, "send-email": 2}, {"report": 0, "send-email": 0}]
    assert count_here(session) == 2
    (theirs,) = ask(boss, "select id::text from pgboss.job where data = %s", json.dumps(addition(2)))
    assert "add" in cli("jobs", "find", f"tag:pg-boss:{theirs[0]}", **TASKS).stdout


def test_a_file_says_what_becomes_of_many(cli: Cli, boss: str, session: Session, tmp_path: Path) -> None:
    file = tmp_path / "moving.toml"
    file.write_text('report = "nothing"\n[send-email]\ntask = "add"\n')

    unknown = cli("adopt", "pg-boss", "--map-file", str(file), "-w", "Acme", **TASKS)
    file.write_text('[send-email]\ntask = "add"\nworkspace = "Acme"\n')
    taken = cli("adopt", "pg-boss", "--map-file", str(file), **TASKS)

    assert (unknown.exit_code, taken.exit_code) == (1, 1)
    assert "'nothing'" in unknown.stderr
    assert count_here(session) == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--map", "send-email"), "is not of the form THEIRS=OURS"),
        (("--map", "send-email=add"), "whose are the jobs of 'send-email'?"),
        ((*ADD, "--dry-run", "--follow"), "--dry-run looks once"),
        ((*ADD[:2], "-w", "Acne"), "there is no workspace 'Acne'"),
        ((*ADD, "--schema", "elsewhere"), "there is no table elsewhere.job here"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    cli: Cli, boss: str, session: Session, arguments: tuple[str, ...], problem: str
) -> None:
    answer = cli("adopt", "pg-boss", *arguments, **TASKS)

    assert answer.exit_code in (1, 2)
    assert problem in answer.stderr
    assert count_here(session) == 0


def test_what_repeats_there_is_told_as_commands_for_here(cli: Cli, boss: str, session: Session) -> None:
    ask(
        boss,
        "insert into pgboss.schedule (name, cron, timezone, data) "
        """values ('send-email', '*/5 * * * *', 'Europe/Berlin', '{"left": 1, "right": 2}')""",
    )

    answer = cli("adopt", "pg-boss", *ADD, "--schedules", **TASKS)

    command = answer.stdout.splitlines()[1]
    assert command == (
        "jobplatform schedules create add --cron '*/5 * * * *' -w Acme --name send-email --timezone Europe/Berlin "
        """--payload '{"left": 1, "right": 2}'"""
    )
    assert answer.exit_code == 0


def test_jobs_come_from_another_database_too(cli: Cli, empty_url: str, acme: uuid.UUID, session: Session) -> None:
    make_pg_boss(empty_url)
    send(empty_url, addition(1), addition(2))

    answer = cli("adopt", "pg-boss", *ADD, "--from", empty_url, **TASKS)

    assert (answer.exit_code, count_here(session)) == (0, 2)
    assert "2 jobs are taken over, 0 are left there" in answer.stdout


def test_the_usual_places_of_the_others_are_known(cli: Cli, empty_url: str, acme: uuid.UUID, session: Session) -> None:
    make_procrastinate(empty_url, "public")
    make_pgqueuer(empty_url, "public")
    ask(
        empty_url,
        "insert into procrastinate_jobs (queue_name, task_name, args, lock) values ('q', 'send-email', %s, 'a')",
        json.dumps(addition(1)),
    )
    ask(
        empty_url,
        "insert into pgqueuer (priority, status, entrypoint, payload) values (0, 'queued', 'send-email', %s)",
        json.dumps(addition(2)).encode(),
    )

    answers = [cli("adopt", one, *ADD, "--from", empty_url, **TASKS) for one in ("procrastinate", "pgqueuer")]

    assert [answer.exit_code for answer in answers] == [0, 0]
    assert ["limit 'lock:*' 1" in answer.stderr for answer in answers] == [True, False]
    assert count_here(session) == 2


def test_whoever_follows_takes_what_still_comes_until_told_to_stop(
    start: Callable[..., Running], boss: str, session: Session, database_url: str
) -> None:
    running = start("adopt", "pg-boss", *ADD, "--follow", DATABASE_URL=database_url, **TASKS)
    wait_until(lambda: count_here(session) == 2, what="what waits to be here")

    send(boss, addition(4))
    wait_until(lambda: count_here(session) == 3, what="what came later to be here")
    code = running.end(signal.SIGINT)

    assert code == 1
    assert "3 jobs are taken over, 2 are left there, 1 is running there" in running.output
