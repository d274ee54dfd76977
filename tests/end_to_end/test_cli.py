from __future__ import annotations

import datetime
import gc
import json
import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
from sqlalchemy import Engine, insert, make_url, select, text
from sqlalchemy.orm import Session

from jobplatform import migrations
from jobplatform.api import verify_token
from jobplatform.cli import main
from jobplatform.cli.amounts import Duration
from jobplatform.cli.root import COLLECT_AFTER
from jobplatform.embedded import EmbeddedServer
from jobplatform.models import ApiToken, Job, JobStep, Role, Workspace
from jobplatform.queue import (
    LISTENER,
    Failure,
    Lease,
    NewJob,
    WorkerInfo,
    claim_job,
    enqueue_job,
    fail_jobs,
    get_job,
    register_worker,
    set_plan,
)
from jobplatform.testing import Clock
from tests.end_to_end.conftest import COMMAND, Cli, as_json
from tests.pooler import run_pooler

EXAMPLES = "tests.api.example_tasks:tasks"


def test_every_problem_of_the_settings_is_told_at_once(run: Cli) -> None:
    answer = run(
        "migrate", JOBPLATFORM_PORT="x", JOBPLATFORM_LEASE_SECONDS="-1", JOBPLATFORM_PROT="1", DATABASE_URL="mysql://"
    )

    assert answer.exit_code == 2
    for name in ("JOBPLATFORM_PORT", "JOBPLATFORM_LEASE_SECONDS", "JOBPLATFORM_PROT", "DATABASE_URL"):
        assert name in answer.stderr
    assert "Traceback" not in answer.stderr


def test_migrate_prints_sql_without_a_database(run: Cli, data_dir: Path) -> None:
    answer = run("migrate", "--sql")

    assert answer.exit_code == 0
    assert "create table jobplatform.job_records" in answer.stdout.lower()
    assert answer.stdout.splitlines()[1] == "\\set ON_ERROR_STOP on"
    assert list(data_dir.iterdir()) == []


def test_migrate_prints_only_what_comes_after_a_revision(run: Cli) -> None:
    answer, nowhere = run("migrate", "--sql", "--from", "0028"), run("migrate", "--sql", "--from", "28")
    alone = run("migrate", "--from", "0028")

    assert answer.exit_code == 0
    assert "create table jobplatform.job_records" not in answer.stdout.lower()
    assert "set version_num='0038' where" in answer.stdout.lower()
    assert (nowhere.exit_code, alone.exit_code) == (2, 2)
    assert "there is no revision '28'" in nowhere.stderr
    assert "--from is for --sql" in alone.stderr


def test_migrate_makes_an_empty_database_ready_and_says_what_it_did(run: Cli) -> None:
    first, second = run("migrate"), run("migrate")
    ready = run("healthcheck")

    assert "was empty" in first.stdout
    assert "was" not in second.stdout
    assert (ready.exit_code, ready.stdout) == (0, "ok\n")


@pytest.fixture
def used_url(empty_url: str) -> str:
    """A database that is not at the newest revision."""
    migrations.upgrade(empty_url, "0027")
    return empty_url


def test_migrate_says_who_is_in_its_way(run: Cli, used_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobplatform.migrations.steps.PAUSES", (0.0,))
    with psycopg.connect(used_url) as somebody:
        somebody.execute("alter index jobplatform.job_queue_running set (fillfactor = 90)")

        answer = run("migrate", DATABASE_URL=used_url)
        as_document = run("migrate", "--json", DATABASE_URL=used_url)

        behind = f"process {somebody.info.backend_pid} ("
        somebody.rollback()
    first, last = answer.stderr.splitlines()
    assert first.startswith("a migration gave up a lock and tries again; revision: 0029; behind: ")
    assert last.startswith("Error: migration 0029 did not get its locks")
    assert behind in last
    assert behind in json.loads(as_document.stderr)["error"]
    assert (answer.exit_code, as_document.exit_code) == (1, 1)

    assert run("migrate", DATABASE_URL=used_url).stdout == f"the schema is at {migrations.head()} (was 0028)\n"


def test_migrate_goes_past_a_pooler_where_it_is_told_how(run: Cli, used_url: str, server: EmbeddedServer) -> None:
    with run_pooler(server) as pooler:
        pooled = pooler.url(used_url)

        refused = run("migrate", DATABASE_URL=pooled)
        done = run("migrate", DATABASE_URL=pooled, JOBPLATFORM_DIRECT_DATABASE_URL=used_url)
        again = run("migrate", DATABASE_URL=pooled)

    assert (refused.exit_code, done.exit_code, again.exit_code) == (1, 0, 0)
    assert "this connection leads through a pooler" in refused.stderr
    assert "(was 0027)" in done.stdout


def test_migrate_does_not_take_a_direct_address_without_a_pooler(run: Cli, used_url: str) -> None:
    """It may be of a worker's login, in an environment for all."""
    nowhere = "postgresql://127.0.0.1:1/none"

    assert run("migrate", DATABASE_URL=used_url, JOBPLATFORM_DIRECT_DATABASE_URL=nowhere).exit_code == 0


@pytest.mark.usefixtures("database_url")  # The server has our roles: one of its databases is migrated.
@pytest.mark.parametrize(
    "command", ["jobs ls", "enqueue sync -w 00000000-0000-0000-0000-000000000007", "healthcheck", "workspaces ls"]
)
def test_an_unmigrated_database_is_named_as_the_cause(run: Cli, server: Any, command: str) -> None:
    answer = run(*command.split(), DATABASE_URL=server.create_database(f"empty_{uuid.uuid4().hex}"))

    assert answer.exit_code == 1
    assert answer.stderr == "Error: the database has no schema of jobplatform yet; run `jobplatform migrate`\n"


def test_a_database_of_an_older_version_is_named_as_the_cause_where_something_is_missing(
    cli: Cli, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("update jobplatform.alembic_version set version_num = '0029'"))
        connection.execute(text("drop view jobplatform.jobs"))

    answer = cli("jobs", "ls")

    assert answer.exit_code == 1
    assert "the database is at revision 0029, and this version of jobplatform needs 00" in answer.stderr
    assert "run `jobplatform migrate`" in answer.stderr


def test_a_database_that_is_not_there_is_told_in_a_sentence(run: Cli) -> None:
    answer = run("jobs", "ls", DATABASE_URL="postgresql://127.0.0.1:1/none")

    assert answer.exit_code == 1
    assert "cannot be reached" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_who_is_in_the_way_of_a_change_is_not_taken_for_a_database_that_is_away(
    run: Cli, direct_url: str, session: Session
) -> None:
    impatient = make_url(direct_url).update_query_dict({"options": "-c lock_timeout=1"})
    set_plan(session, "gold", {"weight": 2})

    answer = run("plans", "set", "gold", "--weight", "3", DATABASE_URL=impatient.render_as_string(hide_password=False))

    assert answer.exit_code == 1
    assert "somebody else is changing the same at this moment: say it again" in answer.stderr
    assert "cannot be reached" not in answer.stderr


def test_a_workspace_and_its_token_are_made_listed_and_revoked(cli: Cli, session: Session) -> None:
    workspace_id = uuid.UUID(cli("workspaces", "create", "Acme").stdout.strip())
    token = cli("tokens", "create", "-w", "Acme", "--name", "ci").stdout.strip()
    (listed,) = as_json(cli("tokens", "ls", "-w", str(workspace_id), "--json"))

    principal = verify_token(session, token)
    session.commit()
    assert principal is not None
    assert principal.workspace_id == workspace_id
    assert listed["name"] == "ci"
    assert token.rpartition("_")[2] not in json.dumps(listed)

    assert cli("tokens", "revoke", listed["id"]).exit_code == 0
    assert cli("tokens", "revoke", listed["id"]).exit_code == 1
    assert verify_token(session, token) is None


def test_the_days_of_a_token_are_counted_by_the_databases_time(cli: Cli, engine: Engine, session: Session) -> None:
    now = Clock(engine).travel_to(datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC))

    assert cli("tokens", "create", "--operator", "--days", "2").exit_code == 0

    expires_at = session.scalars(select(ApiToken.expires_at)).one()
    assert expires_at is not None
    assert datetime.timedelta(days=2) <= expires_at - now < datetime.timedelta(days=3)


@pytest.mark.parametrize("options", [[], ["-w", "Acme", "--operator"], ["-w", "Acme", "--scope", "everything"]])
def test_a_token_that_makes_no_sense_is_refused(cli: Cli, acme: uuid.UUID, options: list[str]) -> None:
    answer = cli("tokens", "create", *options)

    assert answer.exit_code == 2


def test_a_job_is_enqueued_once_and_its_guard_is_told(cli: Cli, acme: uuid.UUID) -> None:
    first = as_json(cli("enqueue", "sync", "-w", "Acme", "--json"))
    second = as_json(cli("enqueue", "sync", "-w", str(acme), "--json"))

    assert (first["created"], second["created"]) == (True, False)
    assert first["jobId"] == second["jobId"]


def test_a_job_of_a_task_that_may_be_enqueued_again_and_again_is_given_a_key(cli: Cli, acme: uuid.UUID) -> None:
    def enqueue(*options: str) -> Any:
        return cli("enqueue", "echo", "-w", "Acme", "--json", *options, JOBPLATFORM_TASKS=EXAMPLES)

    keyless = enqueue("--unique-for", "900")
    one, same, other = [as_json(enqueue("--unique-for", "900", "--unique-key", key)) for key in ("a", "a", "b")]

    assert (keyless.exit_code, "needs a uniqueKey" in keyless.stderr) == (1, True)
    assert (one["created"], same["created"], other["created"]) == (True, False, True)
    assert same["jobId"] == one["jobId"]
    assert enqueue("--unique-key", "").exit_code == 1


def test_a_job_that_comes_too_soon_is_told_which_there_is_and_for_how_long(cli: Cli, acme: uuid.UUID) -> None:
    seldom = ("enqueue", "sync", "-w", "Acme", "--unique-for", "900")
    first = as_json(cli(*seldom, "--wait", "--json", DISABLE_QUEUE="true"))

    second = as_json(cli(*seldom, "--json"))
    said = cli(*seldom)
    refused = cli(*seldom, "--if-active", "refuse")

    assert (first["created"], second["created"], second["status"]) == (True, False, "completed")
    assert second["jobId"] == first["jobId"]
    assert datetime.datetime.fromisoformat(second["uniqueUntil"]).tzinfo is not None
    assert "there is no other for" in said.stdout
    assert refused.exit_code == 1
    assert first["jobId"] in refused.stderr


def test_a_job_that_waits_is_put_off_no_longer_than_is_said(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    quiet = ("enqueue", "sync", "-w", "Acme", "--json", "--if-active", "replace", "--delay", "60")
    first = as_json(cli(*quiet, "--longest-delay", "60"))
    created_at, run_after = _times(session, first["jobId"])

    second = as_json(cli(*quiet, "--longest-delay", "60"))

    assert (second["jobId"], second["replaced"]) == (first["jobId"], True)
    assert run_after == created_at + datetime.timedelta(minutes=1)
    assert _times(session, first["jobId"]) == (created_at, run_after)


def _times(session: Session, job_id: str) -> tuple[datetime.datetime, datetime.datetime]:
    session.rollback()
    found = session.execute(
        text("select created_at, run_after from jobplatform.jobs where id = :id"), {"id": job_id}
    ).one()
    return found[0], found[1]


def test_a_job_is_enqueued_with_its_own_moment_attempts_and_timeout(cli: Cli, acme: uuid.UUID) -> None:
    options = ("--run-after", "2030-01-01T01:00:00+01:00", "--max-attempts", "7", "--timeout", "2m")

    enqueued = as_json(cli("enqueue", "sync", "-w", "Acme", *options, "--json"))

    job = as_json(cli("jobs", "show", enqueued["jobId"], "-w", "Acme", "--json"))
    assert job["runAfter"].startswith("2030-01-01T00:00:00")
    assert (job["maxAttempts"], job["timeoutMs"]) == (7, 120_000)


def test_a_job_is_shown_with_the_moment_by_which_it_has_to_begin(cli: Cli, acme: uuid.UUID) -> None:
    enqueued = as_json(cli("enqueue", "sync", "-w", "Acme", "--delay", "60", "--start-within", "2h", "--json"))

    shown = as_json(cli("jobs", "show", enqueued["jobId"], "-w", "Acme", "--json"))
    why = cli("jobs", "why", enqueued["jobId"], "-w", "Acme")

    due, by = (datetime.datetime.fromisoformat(shown[name].replace("Z", "+00:00")) for name in ("runAfter", "startBy"))
    assert (shown["startWithinMs"], by - due) == (7_200_000, datetime.timedelta(hours=2))
    assert "it will not be started after" in why.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sync", "--start-within", "0s"], "--start-within"),
        (["snyc"], "did you mean 'sync'"),
        (["jobplatform.webhook"], "no task is named 'jobplatform.webhook'"),
        (["export.expire"], "no task is named 'export.expire'"),
        (["sync", "-p", "{"], "not JSON"),
        (["sync", "-p", "[" * 100_000], "not JSON"),
        (["sync", "-p", '{"mode": "sideways"}'], "/mode"),
        (["sync", "-p", '{"unknown": 1}'], "/unknown: Unknown field."),
        (["sync", "-p", '{"mood": "initial"}'], "/mood: Unknown field; did you mean 'mode'?"),
        (["sync", "--max-attempts", "0"], "/maxAttempts"),
        (["sync", "--timeout", "8d"], "/timeoutMs"),
        (["sync", "--run-after", "tomorrow"], "--run-after"),
        (["sync", "--run-after", "2030-01-01T00:00:00Z", "--delay", "5s"], "cannot be given together"),
        (["sync", "--priority", "99999"], "/priority"),
        (
            ["sync", "-p", f'{{"connectionId": "{uuid.uuid4()}"}}'],
            "/connectionId: this workspace has no such connection",
        ),
    ],
)
def test_a_bad_request_is_refused_with_a_sentence(cli: Cli, acme: uuid.UUID, arguments: list[str], said: str) -> None:
    answer = cli("enqueue", *arguments, "-w", "Acme")

    assert answer.exit_code != 0
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs", "retry", "-w", "Acme", "--since"],
        ["jobs", "change", str(uuid.uuid4()), "-w", "Acme", "--delay"],
        ["pause", "queue", "sync", "--reason", "x", "--for"],
        ["schedules", "preview", "--every"],
    ],
    ids=lambda arguments: arguments[-1],
)
def test_nothing_lasts_longer_than_a_hundred_years(cli: Cli, acme: uuid.UUID, arguments: list[str]) -> None:
    answer = cli(*arguments, "999999999d")

    assert answer.exit_code == 2
    assert f"Invalid value for '{arguments[-1]}': '999999999d' is longer than a hundred years" in answer.stderr


@pytest.mark.parametrize(
    ("option", "typed", "seconds"),
    [
        ("--delay", "1h", 3600),
        ("--delay", "90", 90),
        ("--start-within", "1.5", 1.5),
        ("--delay", "0", 0),
        ("--delay", "1.5h", 5400),
        ("--start-within", "90", 90),
        ("--start-within", "90s", 90),
    ],
)
def test_how_long_is_said_with_a_unit_or_in_seconds(
    cli: Cli, acme: uuid.UUID, option: str, typed: str, seconds: float
) -> None:
    answer = cli("enqueue", "sync", "-w", "Acme", option, typed, "--json")

    assert answer.exit_code == 0, answer.stderr
    job = json.loads(cli("jobs", "show", json.loads(answer.stdout)["jobId"], "-w", "Acme", "--json").stdout)
    moments = {name: datetime.datetime.fromisoformat(job[name]) for name in ("createdAt", "runAfter")}
    said = {"--delay": (moments["runAfter"] - moments["createdAt"]).total_seconds()}
    assert said.get(option, (job["startWithinMs"] or 0) / 1000) == pytest.approx(seconds, abs=0.01)


def test_every_option_that_says_how_long_is_read_in_the_same_way() -> None:
    """But that of how long jobs are kept: a number alone might be meant to be days, and would be seconds."""
    read = {
        name: [kind.convert(typed, None, None) for typed in ("90s", "1.5m", "90")]
        for name, kind in durations_of(main)
        if "running-for" not in name and "retention" not in name
    }

    assert {name.rpartition(" ")[2] for name in read} >= {
        "--delay", "--longest-delay", "--start-within", "--unique-for", "--since", "--patience", "--keep-old", "--for",
        "--every", "--spread", "--wait", "--drain-timeout",
    }  # fmt: skip
    assert {name for name, found in read.items() if set(found) != {datetime.timedelta(seconds=90)}} == set()


def durations_of(command: click.Command, before: str = "") -> Iterator[tuple[str, Duration]]:
    """Each option that takes a duration, by its command; those of looking are at most a minute."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            part = command.get_command(context, name)
            assert part is not None
            yield from durations_of(part, f"{before}{name} ")
    for option in command.params:
        if isinstance(option.type, Duration) and option.type.longest > 60:
            yield f"{before}{option.opts[0]}", option.type


@pytest.mark.parametrize("typed", ["7", "1", "0.5"])
def test_how_long_jobs_are_kept_is_said_with_its_unit(cli: Cli, acme: uuid.UUID, typed: str) -> None:
    answer = cli("retention", "set", "-w", "Acme", "--completed", typed)

    assert answer.exit_code == 2
    assert "is not a duration such as 90s, 5m, 2h or 1d" in answer.stderr


@pytest.mark.parametrize("number", ["nan", "inf", "1e300", "-1"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["enqueue", "sync", "-w", "Acme", "--delay"],
        ["enqueue", "sync", "-w", "Acme", "--if-active", "replace", "--delay", "1", "--longest-delay"],
        ["enqueue", "sync", "-w", "Acme", "--unique-for"],
        ["jobs", "ls", "--running-for"],
        ["jobs", "watch", "-w", "Acme", "--every"],
        ["workspaces", "erase", "Acme", "--yes", "--wait"],
        ["worker", "--drain-timeout"],
    ],
    ids=lambda arguments: arguments[-1],
)
def test_what_nothing_can_last_is_refused_at_its_option(
    cli: Cli, acme: uuid.UUID, arguments: list[str], number: str
) -> None:
    answer = cli(*arguments, number)

    assert answer.exit_code == 2
    assert f"Invalid value for '{arguments[-1]}'" in answer.stderr


@pytest.mark.parametrize(
    "arguments",
    [["jobs", "ls", "-t"], ["jobs", "ls", "-w"], ["resources", "clear"], ["jobs", "find"], ["rates", "clear"]],
    ids=" ".join,
)
def test_what_is_typed_in_another_encoding_is_refused_with_a_sentence(cli: Cli, arguments: list[str]) -> None:
    answer = cli(*arguments, b"Gr\xf6\xdfe".decode(errors="surrogateescape"))

    assert answer.exit_code == 2
    assert "is not text in UTF-8" in answer.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs", "cancel", "--status", "pending", "--yes"],
        ["jobs", "ls"],
        ["jobs", "ls", "--running-for", "1"],
        ["jobs", "failed"],
        ["tokens", "ls"],
        ["audit"],
        ["stats"],
        ["health"],
        ["retention", "ls"],
        ["retention", "set", "-t", "sync", "--completed", "1d"],
        ["retention", "clear", "-t", "sync"],
    ],
    ids=" ".join,
)
def test_an_empty_name_is_no_workspace_rather_than_all_of_them(
    cli: Cli, acme: uuid.UUID, session: Session, arguments: list[str]
) -> None:
    """As a script writes it whose variable is not set."""
    enqueue_job(session, NewJob(workspace_id=acme, task="sync", queue="sync"))
    session.commit()

    answer = cli(*arguments, "-w", "")

    assert answer.exit_code == 2
    assert "no workspace is named ''" in answer.stderr


def test_who_asks_for_a_task_that_is_not_there_is_told_which_are_and_where_that_is_said(
    cli: Cli, acme: uuid.UUID
) -> None:
    near, far = cli("enqueue", "snyc", "-w", "Acme"), cli("enqueue", "zzz", "-w", "Acme")

    there = "Known to jobplatform.connectors:tasks: export, sync; JOBPLATFORM_TASKS says where to look"
    assert near.stderr == f"Error: no task is named 'snyc'; did you mean 'sync'? {there}\n"
    assert far.stderr == f"Error: no task is named 'zzz'. {there}\n"


def test_in_synchronous_mode_the_job_has_run_when_the_command_is_back_and_says_where(cli: Cli, acme: uuid.UUID) -> None:
    answer = as_json(cli("enqueue", "sync", "-w", "Acme", "--wait", "--json", DISABLE_QUEUE="true"))

    shown = as_json(cli("jobs", "show", answer["jobId"], "-w", "Acme", "--json"))
    table = cli("jobs", "show", answer["jobId"], "-w", "Acme")

    assert (answer["status"], shown["worker"].split(":")[0]) == ("completed", socket.gethostname())
    assert shown["workerId"] == shown["lastWorkerId"]
    assert shown["worker"] in table.stdout


def test_who_waits_for_a_job_that_fails_is_told_its_error_as_json_too(cli: Cli, acme: uuid.UUID) -> None:
    answer = cli("enqueue", "fail", "-w", "Acme", "--wait", "--json", DISABLE_QUEUE="true", JOBPLATFORM_TASKS=EXAMPLES)

    told = json.loads(answer.stdout)
    assert (answer.exit_code, told["status"]) == (1, "failed")
    assert told["error"] == {"type": "RuntimeError", "message": "the far side said no"}


def test_jobs_are_listed_shown_cancelled_and_retried(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    job_id = enqueue_job(session, NewJob(workspace_id=acme, task="sync", queue="sync")).job_id
    session.commit()

    listed = as_json(cli("jobs", "ls", "--json"))
    shown = as_json(cli("jobs", "show", str(job_id), "-w", "Acme", "--json"))
    cancelled = cli("jobs", "cancel", str(job_id), "-w", "Acme")
    again = cli("jobs", "cancel", str(job_id), "-w", "Acme")
    session.execute(
        insert(JobStep), [{"workspace_id": acme, "job_id": job_id, "name": "page-1", "epoch": 1, "value": {"rows": 3}}]
    )
    session.commit()
    with_steps = cli("jobs", "show", str(job_id), "-w", "Acme")
    retried = cli("jobs", "retry", str(job_id), "-w", "Acme", "--from-start")
    without = as_json(cli("jobs", "show", str(job_id), "-w", "Acme", "--json"))

    assert [row["id"] for row in listed] == [shown["id"]] == [str(job_id)]
    assert "page-1" in with_steps.stdout
    assert '{"rows": 3}' in with_steps.stdout
    assert without["steps"] == []
    assert (cancelled.exit_code, again.exit_code, retried.exit_code) == (0, 1, 0)
    assert cli("jobs", "show", str(uuid.uuid4()), "-w", "Acme").exit_code == 1
    session.expire_all()
    job = get_job(session, acme, job_id)
    assert job is not None
    assert job.status == "pending"


def test_a_job_that_waits_is_changed(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    job_id = enqueue_job(session, NewJob(workspace_id=acme, task="sync", queue="sync", priority=3)).job_id
    session.commit()
    of_this = (str(job_id), "-w", "Acme")

    moved = cli("jobs", "change", *of_this, "--queue", "slow", "--run-after", "2031-01-01T00:00:00Z")
    then = as_json(cli("jobs", "show", *of_this, "--json"))
    put_off = as_json(cli("jobs", "change", *of_this, "--priority", "7", "--delay", "10m", "--json"))
    later = as_json(cli("jobs", "show", *of_this, "--json"))
    cli("jobs", "change", *of_this, "--run-after", "now")
    now = as_json(cli("jobs", "show", *of_this, "--json"))
    cli("jobs", "cancel", *of_this)

    assert moved.stdout == f"{job_id} is changed\n"
    assert (then["queue"], then["priority"], then["runAfter"][:10]) == ("slow", 3, "2031-01-01")
    assert put_off == {"jobId": str(job_id), "answer": "changed"}
    assert (later["queue"], later["priority"]) == ("slow", 7)
    assert now["runAfter"] < later["runAfter"] < then["runAfter"]
    ended = cli("jobs", "change", *of_this, "--priority", "1")
    assert (ended.exit_code, ended.stderr) == (1, f"Error: {job_id} has ended already\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "say what is to be different"),
        ("--run-after now --delay 5m", "--run-after and --delay are two ways to say when"),
        ("--run-after tomorrow", "'tomorrow' is not a moment with an offset"),
        ("--priority 99999", "/priority: must be a whole number from -1000 to 1000"),
        ("--queue No", "/queue: is not a queue name"),
        ("--run-after 0001-01-01T00:00:00+14:00", "/runAfter: must be in a year from 2 to 9997"),
    ],
)
def test_a_change_that_cannot_be_says_why(cli: Cli, acme: uuid.UUID, options: str, said: str) -> None:
    refused = cli("jobs", "change", str(uuid.uuid4()), "-w", str(acme), *options.split())

    assert refused.exit_code != 0
    assert said in refused.output


def test_an_id_of_another_workspace_is_unknown(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    job_id = enqueue_job(session, NewJob(workspace_id=uuid.uuid4(), task="sync", queue="sync")).job_id
    session.commit()

    assert cli("jobs", "show", str(job_id), "-w", "Acme").exit_code == 1
    assert cli("jobs", "cancel", str(job_id), "-w", "Acme").exit_code == 1


def test_a_job_is_found_by_its_id_alone(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    job = NewJob(workspace_id=acme, task="sync", queue="sync", delay=datetime.timedelta(hours=1))
    job_id = str(enqueue_job(session, job).job_id)
    session.commit()

    why = as_json(cli("jobs", "why", job_id, "--json"))
    now = as_json(cli("jobs", "run-now", job_id, "--json"))
    cancelled = as_json(cli("jobs", "cancel", job_id, "--json"))
    watched = cli("jobs", "watch", job_id, "--json")
    retried = as_json(cli("jobs", "retry", job_id, "--json"))
    tree = as_json(cli("jobs", "cancel", job_id, "--tree", "--json"))
    shown = as_json(cli("jobs", "show", job_id, "--json"))

    assert why["blockers"][0]["code"] == "scheduled"
    assert (now["answer"], cancelled["answer"], retried["answer"]) == ("ready", "cancelled", "retried")
    assert (watched.exit_code, json.loads(watched.stdout)["status"]) == (1, "cancelled")
    assert tree["cancelled"] == 1
    assert (shown["id"], shown["workspaceId"], shown["status"]) == (job_id, str(acme), "cancelled")


@pytest.mark.parametrize("deed", ["show", "why", "watch", "retry", "run-now", "cancel"])
def test_an_id_that_no_job_has_is_told_as_such(cli: Cli, deed: str) -> None:
    nobody = str(uuid.uuid4())

    answer = cli("jobs", deed, nobody)

    assert answer.exit_code == 1
    assert f"no job has the id {nobody}" in answer.stderr


def test_what_is_to_be_watched_has_to_be_said_and_one_job_is_not_many(cli: Cli) -> None:
    nothing, both = cli("jobs", "watch"), cli("jobs", "cancel", str(uuid.uuid4()), "--all")

    assert "say what to watch: JOB_ID, or -w WORKSPACE" in nothing.stderr
    assert "--all describes many jobs; leave out the id" in both.stderr


def test_health_of_a_quiet_queue_is_good(cli: Cli) -> None:
    answer = cli("health")

    assert answer.exit_code == 0
    assert "healthy" in answer.stdout
    assert as_json(cli("health", "--json"))["alerts"] == []


def test_health_answers_why_nothing_is_processed(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    enqueue_job(session, NewJob(workspace_id=acme, task="sync", queue="sync"))
    session.commit()

    answer = cli("health")

    assert answer.exit_code == 1
    assert "no_worker" in answer.stdout
    assert "jobplatform worker" in answer.stdout


def run_a_job(session: Session, workspace_id: uuid.UUID) -> Job:
    """A job that a registered worker has claimed."""
    job_id = enqueue_job(session, NewJob(workspace_id=workspace_id, task="sync", queue="sync")).job_id
    worker_id = register_worker(session, WorkerInfo("w1", "host", 1, "1", ("sync",), ("sync",), 1))
    assert claim_job(session, worker_id=worker_id, workspace_id=workspace_id, job_id=job_id) is not None
    session.commit()
    job = get_job(session, workspace_id, job_id)
    assert job is not None
    session.commit()
    return job


def test_health_tells_of_workers_that_do_not_hear_the_doorbell(
    cli: Cli, acme: uuid.UUID, session: Session, direct_url: str
) -> None:
    run_a_job(session, acme)

    deaf = cli("health")
    with psycopg.connect(direct_url, application_name=LISTENER):
        hearing = cli("health")

    assert "1, of which 1 only poll" in deaf.stdout
    assert "only poll" not in hearing.stdout


def test_health_answers_what_is_stuck_in_running(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    job = run_a_job(session, acme)
    session.execute(text("update jobplatform.job_queue set started_at = started_at - interval '20 minutes'"))
    session.commit()

    answer = cli("health")
    listed = as_json(cli("jobs", "ls", "--running-for", "15", "--json"))

    assert answer.exit_code == 1
    assert "stuck" in answer.stdout
    assert str(job.id) in answer.stdout
    assert "jobplatform jobs cancel" in answer.stdout
    assert [row["id"] for row in listed] == [str(job.id)]


def test_health_answers_what_fails_and_why(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    for _ in range(5):
        job = run_a_job(session, acme)
        lease = Lease(str(acme), str(job.id), job.epoch)
        fail_jobs(session, [Failure(lease, "error", "AuthError", "the key has expired", None, 0.0, retry=False)])
        session.commit()

    answer = cli("health", "-w", "Acme")

    assert answer.exit_code == 1
    assert "failing: 5 of the 5 jobs" in answer.stdout
    assert re.search(r"5 +sync +error +AuthError: the key has expired", answer.stdout)
    assert "jobplatform jobs retry" in answer.stdout


def test_an_unreachable_api_is_not_healthy(run: Cli) -> None:
    answer = run("healthcheck", "--api", "http://127.0.0.1:1")

    assert answer.exit_code == 1
    assert "does not answer" in answer.stderr


def test_the_api_document_needs_no_database(run: Cli, data_dir: Path) -> None:
    document = as_json(run("openapi"))

    assert document["openapi"].startswith("3.1")
    assert list(data_dir.iterdir()) == []


def test_the_worker_command_does_not_load_flask() -> None:
    program = "import sys, jobplatform.cli.serve, jobplatform.worker; sys.exit('flask' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_a_command_imports_is_not_searched_for_garbage_meanwhile(run: Cli) -> None:
    threshold = gc.get_threshold()

    try:
        gc.set_threshold(700, *threshold[1:])
        run("openapi")
        after = gc.get_threshold()
    finally:
        gc.set_threshold(*threshold)

    assert after == (COLLECT_AFTER, *threshold[1:])


def test_names_in_the_database_cannot_write_on_the_terminal(cli: Cli, session: Session) -> None:
    session.add(Workspace(id=uuid.uuid4(), name="[red]evil\x1b[2J\n forged"))
    session.commit()

    answer = cli("workspaces", "ls")

    assert "[red]evil\\x1b[2J\\n forged" in answer.stdout
    assert "\x1b" not in answer.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [["ls"], ["ls", "--json"], ["create", "Globex"]])
def test_a_disk_that_is_full_is_told_in_a_line(database_url: str, acme: uuid.UUID, arguments: list[str]) -> None:
    environment = {**os.environ, "DATABASE_URL": database_url, "JOBPLATFORM_TRUST_LOGIN": "true"}

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "workspaces", *arguments],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 1
    told = "the answer could not be written: No space left on device; what was asked for may be done all the same"
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.direct("options of a connection: a pooler refuses them")
def test_what_the_database_refuses_for_a_lock_is_not_told_as_an_outage(
    run: Cli, engine: Engine, login_url: Callable[..., str]
) -> None:
    url = login_url(Role.API)
    hurried = f"{url}{'&' if '?' in url else '?'}options=-c%20lock_timeout%3D10"

    with engine.begin() as connection:
        connection.execute(text("lock table jobplatform.workspaces"))
        locked = run("workspaces", "ls", DATABASE_URL=hurried)
    away = run("workspaces", "ls", DATABASE_URL="postgresql://app:hunter2@127.0.0.1:1/app")

    assert "say it again (canceling statement due to lock timeout)" in locked.stderr
    assert "the database cannot be reached: " in away.stderr
    assert "DATABASE_URL says where it is, and with which login and password" in away.stderr
