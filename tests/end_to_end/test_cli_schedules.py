"""``jobplatform schedules``: made, listed, previewed, run, paused and deleted from a shell."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.connectors import create_connection
from tests.end_to_end.conftest import Cli, as_json


def test_a_schedule_s_life_in_a_shell(cli: Cli, acme: uuid.UUID) -> None:
    options = ("--cron", "30 2 * * mon-fri", "--tz", "Europe/Berlin", "--spread", "10m", "--name", "nightly")
    told = cli("schedules", "create", "sync", "-w", "Acme", "--start-within", "2h", *options).stdout
    assert "nightly: At 02:30 on Monday through Friday; runs next at 20" in told

    (listed,) = as_json(cli("schedules", "ls", "-w", "Acme", "--json"))
    assert (listed["name"], listed["timezone"], listed["spreadMs"]) == ("nightly", "Europe/Berlin", 600_000)
    assert listed["startWithinMs"] == 7_200_000
    assert listed["state"] == "no worker knows its task"
    assert as_json(cli("schedules", "ls", "--json")) == []
    assert [one["name"] for one in as_json(cli("schedules", "ls", "--all", "--json"))] == ["nightly"]

    preview = as_json(cli("schedules", "preview", "nightly", "-w", "Acme", "-n", "3", "--json"))
    assert preview["words"] == "At 02:30 on Monday through Friday"
    assert [run["local"][10:16] for run in preview["runs"]] == ["T02:30"] * 3
    assert (
        "At 02:30 on Monday through Friday (Europe/Berlin)"
        in cli("schedules", "preview", "nightly", "-w", "Acme").stdout
    )

    assert cli("schedules", "pause", "nightly", "-w", "Acme").stdout == "nightly is paused\n"
    tick = as_json(cli("schedules", "run-now", "nightly", "-w", "Acme", "--json"))
    assert tick["outcome"] == "enqueued"
    shown = as_json(cli("schedules", "show", "nightly", "-w", "Acme", "--json"))
    assert [one["jobId"] for one in shown["ticks"]] == [tick["jobId"]]
    assert (shown["state"], shown["nextRunAt"]) == ("paused", None)
    assert cli("schedules", "resume", "nightly", "-w", "Acme").stdout.startswith(
        "nightly is resumed and runs next at 2"
    )

    assert cli("schedules", "delete", "nightly", "-w", "Acme").stdout == "nightly is deleted\n"
    assert cli("schedules", "show", "nightly", "-w", "Acme").exit_code == 1


def test_a_schedule_whose_connection_has_gone_says_so(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    there = create_connection(session, acme, connector_type="rss", name="news", config={"url": "https://a.example.com"})
    session.commit()
    cli("schedules", "create", "sync", "-w", "Acme", "--every", "1h", "-p", f'{{"connectionId": "{there.id}"}}')
    before = as_json(cli("schedules", "show", "sync", "-w", "Acme", "--json"))["state"]
    session.execute(text("delete from jobplatform.connections"))
    session.commit()

    (listed,) = as_json(cli("schedules", "ls", "-w", "Acme", "--json"))
    without_code = as_json(cli("schedules", "ls", "-w", "Acme", "--json", JOBPLATFORM_TASKS="nowhere:tasks"))

    assert before == "no worker knows its task"
    assert listed["state"] == (
        "its jobs come to nothing: this workspace has no such connection (payload, /connectionId)"
    )
    assert [one["state"] for one in without_code] == ["no worker knows its task"]


def test_a_platform_wide_schedule_needs_no_workspace(cli: Cli) -> None:
    made = as_json(cli("schedules", "create", "sync", "--every", "1h", "--every-workspace", "--json"))

    assert (made["everyWorkspace"], made["spreadMs"], made["words"]) == (True, 60_000, "Every hour")
    assert "every workspace" in cli("schedules", "ls").stdout


def test_a_schedule_whose_time_zone_is_unknown_here_hides_no_other(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    for name in ("broken", "hourly"):
        cli("schedules", "create", "sync", "-w", "Acme", "--cron", "0 * * * *", "--name", name)
    session.execute(text("update jobplatform.schedules set timezone = 'Mars/Olympus' where name = 'broken'"))
    session.commit()

    words = {one["name"]: one["words"] for one in as_json(cli("schedules", "ls", "-w", "Acme", "--json"))}

    assert words["hourly"] == "At the start of every hour"
    assert words["broken"].startswith("The rule cannot be read: ")
    assert "'Mars/Olympus' is not a time zone" in words["broken"]
    assert cli("schedules", "preview", "broken", "-w", "Acme").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("create sync --cron @never", "cron is none of @yearly"),
        ("create sync", "say one of --cron, --every and --at"),
        ("create sync --cron @daily --every 1h", "say one of --cron, --every and --at"),
        ("create sync --every 1h --tz UTC", "--timezone goes with --cron"),
        ("create sync --cron @daily --tz Mars", "timezone 'Mars' is not a time zone"),
        ("create synk --cron @daily", "no task is named 'synk'; did you mean 'sync'?"),
        ("create jobplatform.webhook --cron @daily", "no task is named 'jobplatform.webhook'"),
        ("create sync --every 1h -p {}x", "the payload is not JSON"),
        ("create sync --every 1h -p " + "[" * 100_000, "the payload is not JSON"),
        ('create sync --every 1h -p {"mode":1}', "mode"),
        ("pause nightly", "no schedule 'nightly' is platform-wide"),
        ("run-now nightly -w Nobody", "no workspace is named 'Nobody'"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(cli: Cli, arguments: str, said: str) -> None:
    answer = cli("schedules", *arguments.split())

    assert answer.exit_code in (1, 2)
    assert said in answer.stderr


def test_a_line_is_previewed_before_there_is_a_schedule(cli: Cli) -> None:
    told = cli("schedules", "preview", "*/5 * * * *", "--timezone", "Europe/Berlin", "-n", "2").stdout
    said = as_json(cli("schedules", "preview", "--every", "15m", "-n", "2", "--json"))

    assert "Every fifth minute of every hour (Europe/Berlin)" in told
    assert (said["timezone"], len(said["runs"])) == ("UTC", 2)
    for wrong in (["99 * * * *"], [], ["nightly", "--tz", "UTC"], ["*/5 * * * *", "--every", "1m"]):
        assert cli("schedules", "preview", *wrong).exit_code == 2


@pytest.mark.parametrize(
    ("line", "fields"),
    [("*/5 * * *", 4), ("0 */5 * * * *", 6), ("*/5", 1), ("30 2", 2), ("0 9 * mon-fri", 4), ("0 9 ? * MON#1 2026", 6)],
)
@pytest.mark.parametrize("options", [[], ["--tz", "Europe/Berlin"], ["-w", "Acme"]])
def test_a_line_that_lacks_a_field_is_taken_for_no_name(
    cli: Cli, acme: uuid.UUID, line: str, fields: int, options: list[str]
) -> None:
    answer = cli("schedules", "preview", line, *options)

    assert answer.exit_code == 2
    assert f"cron must have 5 fields (minute, hour, day, month, weekday) and has {fields}" in answer.stderr


@pytest.mark.parametrize("name", ["5 4", "mon", "nightly sync", "sync 2", "2026-01-05"])
def test_a_schedule_whose_name_looks_like_a_part_of_a_line_is_found(cli: Cli, acme: uuid.UUID, name: str) -> None:
    missing = cli("schedules", "preview", name, "-w", "Acme")
    cli("schedules", "create", "sync", "-w", "Acme", "--cron", "@daily", "--name", name)

    assert (missing.exit_code == 2) == (name == "5 4")
    assert cli("schedules", "preview", name, "-w", "Acme").exit_code == 0


def test_an_enqueue_says_what_to_do_about_an_unfinished_job_and_who_asks_for_it(cli: Cli, acme: uuid.UUID) -> None:
    def enqueue(task: str, *options: str) -> Any:
        tasks = "tests.api.example_tasks:tasks"
        return cli("enqueue", task, "-w", "Acme", "--json", *options, JOBPLATFORM_TASKS=tasks)

    parent = as_json(enqueue("echo"))["jobId"]
    first = as_json(enqueue("newest"))

    second = as_json(enqueue("newest", "-p", '{"n": 2}', "--if-active", "replace", "--parent", parent))
    third = as_json(enqueue("newest", "--if-active", "return"))
    refused = enqueue("newest", "--if-active", "refuse")

    assert (second["jobId"], second["replaced"], second["created"]) == (first["jobId"], True, False)
    assert (third["jobId"], third["replaced"], third["created"]) == (first["jobId"], False, False)
    assert (refused.exit_code, first["jobId"] in refused.stderr) == (1, True)
    shown = as_json(cli("jobs", "show", first["jobId"], "-w", "Acme", "--json"))
    assert (shown["payload"], shown["parentId"]) == ({"n": 2}, parent)
    assert enqueue("echo", "--parent", str(acme)).exit_code == 1
