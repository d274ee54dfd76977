"""Jobs are found with one line, and workers are asked to do something about all of them."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy.orm import Session

from jobplatform.models import AuditEntry
from jobplatform.queue import NewJob, continue_bulk, enqueue_jobs
from tests.end_to_end.conftest import Cli, as_json


def test_jobs_are_found_cancelled_by_workers_and_watched(cli: Cli, session: Session, workspace_id: uuid.UUID) -> None:
    enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="sync", tags=("eu",)) for _ in range(3)])
    session.commit()

    page = as_json(cli("jobs", "find", "task:sync tag:eu", "-n", "2", "--json"))
    rest = as_json(cli("jobs", "find", "task:sync tag:eu", "--before", page["next"], "--json"))
    assert [len(page["jobs"]), len(rest["jobs"])] == [2, 1]
    assert "go on with --before" in cli("jobs", "find", "task:sync", "-n", "1").stdout

    assert cli("bulk", "begin", "cancel", "task:sync", "--dry-run").stdout == "would cancel 3 pending jobs\n"
    asked = as_json(cli("bulk", "begin", "cancel", "task:sync", "--yes", "--json"))
    assert (asked["state"], asked["expected"]) == ("waiting", 3)
    while continue_bulk(session):
        session.commit()
    shown = as_json(cli("bulk", "show", asked["id"], "--json"))
    assert (shown["state"], shown["done"]) == ("done", 3)
    assert "cancel" in cli("bulk", "ls").stdout
    stopped = cli("bulk", "stop", asked["id"])
    assert "still to be done" in stopped.output

    session.rollback()
    (line,) = session.query(AuditEntry).filter_by(action="bulk.begin").all()
    assert (line.target, line.details["deed"]) == (f"bulk:{asked['id']}", "cancel")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jobs", "find", "state:failed"], "SEARCH: state: is nothing to search by; did you mean status:?"),
        (["jobs", "find", "status:fialed"], "SEARCH: status: fialed is none of pending, running,"),
        (["jobs", "find", 'task:"sync'], 'SEARCH: a quotation mark is not closed: task:"sync'),
        (["jobs", "find", "task:sync", "--before", "x"], "--before is no cursor of ours; begin with the first page"),
        (["bulk", "begin", "retry", "status:running"], "SEARCH: status: no job that is running can be retried;"),
        (["bulk", "begin", "retry", "status:"], "SEARCH: status: has no value;"),
    ],
)
def test_a_search_that_cannot_be_understood_is_told_in_words_of_the_command(
    cli: Cli, arguments: list[str], said: str
) -> None:
    refused = cli(*arguments)

    assert refused.exit_code == 2
    assert f"Error: {said}" in " ".join(refused.stderr.split())
    assert "/q" not in refused.stderr


def test_jobs_are_moved_by_workers(cli: Cli, session: Session, workspace_id: uuid.UUID) -> None:
    enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="sync", queue="slow") for _ in range(3)])
    session.commit()
    begin = ("bulk", "begin", "change", "queue:slow")

    assert "would change 3 pending" in cli(*begin, "--queue", "fast", "--dry-run").stdout
    asked = as_json(cli(*begin, "--queue", "fast", "--priority", "5", "--run-after", "now", "--yes", "--json"))
    listed = cli("bulk", "ls").stdout
    while continue_bulk(session):
        session.commit()
    shown = as_json(cli("bulk", "show", asked["id"], "--json"))
    found = as_json(cli("jobs", "find", "queue:fast priority:5", "--json"))

    arguments = {"priority": 5, "queue": "fast", "runAfter": None}
    assert (asked["deed"], asked["arguments"]) == ("change", arguments)
    assert "change priority=5 queue=fast run-after=now" in listed
    assert (shown["state"], shown["done"], shown["arguments"]) == ("done", 3, arguments)
    assert len(found["jobs"]) == 3
    session.rollback()
    (line,) = session.query(AuditEntry).filter_by(action="bulk.begin").all()
    assert line.details == {"deed": "change", "search": asked["search"], "arguments": arguments}


def test_what_is_to_be_different_is_said_of_a_change_and_of_nothing_else(cli: Cli) -> None:
    nothing = cli("bulk", "begin", "change", "queue:slow", "--yes")
    too_much = cli("bulk", "begin", "cancel", "queue:slow", "--priority", "5", "--yes")

    assert (nothing.exit_code, too_much.exit_code) == (2, 2)
    assert "say what is to be different" in nothing.output
    assert "what is to be different is for change, and not for cancel" in too_much.output


def test_what_a_preview_does_not_get_to_is_asked_for_all_the_same(
    cli: Cli, session: Session, workspace_id: uuid.UUID
) -> None:
    enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="sync", queue="slow") for _ in range(3_000)])
    enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="sync", queue="slow", tags=("rare",))])
    session.commit()
    begin = ("bulk", "begin", "change", "tag:rare", "--priority", "5")

    looked = cli(*begin, "--dry-run").stdout
    asked = as_json(cli(*begin, "--yes", "--json"))
    while continue_bulk(session):
        session.commit()

    assert "would change what there is beyond the jobs that were looked at" in looked
    assert as_json(cli("bulk", "show", asked["id"], "--json"))["done"] == 1
