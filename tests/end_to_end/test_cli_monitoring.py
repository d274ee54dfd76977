"""The commands by which somebody looks after jobs: numbers, many jobs at once, retention, workers, what is wrong."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session

from jobplatform.models import AuditEntry, Job
from jobplatform.queue import (
    Completion,
    Failure,
    Lease,
    NewJob,
    Ring,
    WorkerInfo,
    claim_jobs,
    complete_jobs,
    enqueue_jobs,
    fail_jobs,
    register_worker,
    set_rule,
    settle_alerts,
    settle_workspace_alerts,
)
from tests.end_to_end.conftest import Cli, as_json


def put(session: Session, workspace_id: uuid.UUID, count: int, task: str = "sync") -> list[uuid.UUID]:
    answers = enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task=task) for _ in range(count)])
    session.commit()
    return [answer.job_id for answer in answers]


def end(session: Session, *, well: int = 0, badly: int = 0) -> int:
    """End so many of the jobs that wait; answers with the worker that did."""
    worker_id = register_worker(session, WorkerInfo("w1", "host", 1, "1", ("default",), ("sync", "mail"), 4))
    session.commit()
    ring = Ring(["default"], 0.0)
    leases: list[Lease] = []
    while wanted := well + badly - len(leases):
        jobs = claim_jobs(session, ring, worker_id=worker_id, tasks=["sync", "mail"], limit=wanted).jobs
        leases += [job.lease for job in jobs]
    complete_jobs(session, [Completion(lease) for lease in leases[:well]])
    fail_jobs(session, [Failure(lease, "error", "ValueError", "no", retry=False) for lease in leases[well:]])
    session.commit()
    return worker_id


def statuses(session: Session) -> dict[str, int]:
    session.rollback()
    return dict(session.execute(text("select status, count(*) from jobplatform.jobs group by 1")).all())  # type: ignore[arg-type]


def lines(session: Session, action: str) -> list[AuditEntry]:
    session.rollback()
    return session.query(AuditEntry).filter_by(action=action).order_by(AuditEntry.id).all()


def test_stats_and_failed_jobs_are_told_to_people_and_programs(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    put(session, acme, 4)
    end(session, well=2, badly=1)

    table, numbers = cli("stats"), as_json(cli("stats", "-w", "Acme", "--json"))
    listed, failed = cli("jobs", "failed"), as_json(cli("jobs", "failed", "-w", "Acme", "--json"))

    assert "33%" in table.stdout
    assert numbers["byStatus"] == {"pending": 1, "running": 0, "completed": 2, "failed": 1, "cancelled": 0}
    assert numbers["tasks"][0]["name"] == "sync"
    assert "no" in listed.stdout
    assert [(job["jobType"], job["errorType"]) for job in failed] == [("sync", "ValueError")]


# Many jobs at once


def test_failed_jobs_are_retried_by_description_after_their_number_was_agreed_to(
    cli: Cli, acme: uuid.UUID, session: Session
) -> None:
    put(session, acme, 3)
    put(session, acme, 2, "mail")
    put(session, uuid.uuid4(), 1)
    end(session, badly=6)

    asked = ("jobs", "retry", "--status", "failed", "--task", "sync", "--since", "1h", "-w", "Acme")
    dry = cli(*asked, "--dry-run")
    refused = cli(*asked, typed="n\n")
    counted = as_json(cli(*asked, "--dry-run", "--json"))
    assert statuses(session) == {"failed": 6}
    done = cli(*asked, typed="y\n")

    assert "would retry 3 failed jobs\n" in dry.stdout
    assert refused.exit_code == 1
    assert counted == {"found": 3, "byStatus": {"failed": 3}}
    assert "3 of 3 jobs" in done.stdout
    assert statuses(session) == {"failed": 3, "pending": 3}
    assert [(line.workspace_id, line.details) for line in lines(session, "job.retry")] == [(acme, {"bulk": True})] * 3


def test_many_are_cancelled_in_portions_and_what_is_left_is_said(
    cli: Cli, acme: uuid.UUID, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobplatform.queue.by_hand.matching.MOST", 2)
    put(session, acme, 5)

    answer = as_json(cli("jobs", "cancel", "-w", "Acme", "--status", "pending", "--yes", "--json"))

    assert answer == {"found": 5, "done": 5, "left": {}}
    assert statuses(session) == {"cancelled": 5}
    assert len(lines(session, "job.cancel")) == 5


def test_a_job_whose_guard_another_one_holds_is_left(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    jobs = [NewJob(workspace_id=acme, task="sync", unique_key="one")]
    enqueue_jobs(session, jobs)
    session.commit()
    end(session, badly=1)
    enqueue_jobs(session, [NewJob(workspace_id=acme, task="sync", unique_key="one")])
    session.commit()

    answer = as_json(cli("jobs", "retry", "-s", "failed", "--yes", "--json"))

    assert answer == {"found": 1, "done": 0, "left": {"duplicate": 1}}
    assert lines(session, "job.retry") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retry"], "say which"),
        (["retry", str(uuid.uuid4()), "-w", "Acme", "--status", "failed"], "leave out the id"),
        (["retry", "--status", "completed", "--dry-run"], "cannot be retried"),
        (["cancel", "--status", "failed", "--dry-run"], "cannot be cancelled"),
        (["cancel", "--all", "--json"], "--yes"),
    ],
)
def test_a_request_that_is_not_clear_does_nothing(
    cli: Cli, acme: uuid.UUID, session: Session, arguments: list[str], said: str
) -> None:
    put(session, acme, 1)

    answer = cli("jobs", *arguments)

    assert answer.exit_code == 2
    assert said in answer.stderr
    assert statuses(session) == {"pending": 1}


# Watching


def test_a_job_is_watched_to_its_end(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    good, bad = put(session, acme, 2)
    end(session, well=1, badly=1)
    ended = {row.id: row.status for row in session.query(Job)}
    session.rollback()

    answers = {job_id: cli("jobs", "watch", str(job_id), "-w", "Acme") for job_id in (good, bad)}
    unknown = cli("jobs", "watch", str(uuid.uuid4()), "-w", "Acme")

    for job_id, answer in answers.items():
        assert answer.exit_code == (0 if ended[job_id] == "completed" else 1)
        assert f"{job_id} {ended[job_id]}" in answer.stdout
    assert unknown.exit_code == 1


def test_a_workspace_is_watched_as_a_table(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    (job_id,) = put(session, acme, 1)

    answer = cli("jobs", "watch", "-w", "Acme", "--times", "2", "--every", "0.1")

    assert answer.exit_code == 0
    assert str(job_id) in answer.stdout
    assert "1 pending" in answer.stdout


# Retention


def make_old(session: Session, days: int) -> None:
    session.execute(text(f"update jobplatform.job_records set completed_at = now() - interval '{days} days'"))
    session.commit()


def test_prune_counts_and_then_deletes_what_is_older_than_it_is_kept(
    cli: Cli, acme: uuid.UUID, session: Session
) -> None:
    put(session, acme, 3)
    end(session, well=2, badly=1)
    make_old(session, 8)

    dry = cli("prune", "--dry-run")
    counted = as_json(cli("prune", "--dry-run", "--json"))
    assert statuses(session) == {"completed": 2, "failed": 1}
    kept = cli("retention", "set", "-w", "Acme", "--completed", "30d")
    spared = as_json(cli("prune", "--json"))
    cli("retention", "clear", "-w", "Acme")
    deleted = cli("prune")

    assert dry.stdout == "would delete 2 completed jobs\n"
    assert counted == {"dryRun": True, "completed": 2}
    assert "completed 30d" in kept.stdout
    assert spared == {"dryRun": False, "jobs": 0, "auditLines": 0}
    assert "2 jobs" in deleted.stdout
    assert statuses(session) == {"failed": 1}
    assert [line.details for line in lines(session, "jobs.prune")] == [
        {"jobs": 0, "auditLines": 0},
        {"jobs": 2, "auditLines": 0},
    ]


def test_what_is_said_of_tasks_and_workspaces_is_listed_and_taken_back(cli: Cli, acme: uuid.UUID) -> None:
    assert cli("retention", "set", "--task", "sync", "--completed", "12h", "--failed", "90d").exit_code == 0
    assert cli("retention", "set", "-w", "Acme", "-t", "sync", "--completed", "0s").exit_code == 0

    listed = as_json(cli("retention", "ls", "--json"))

    assert [(one["workspaceId"], one["task"], one["completedSeconds"], one["failedSeconds"]) for one in listed] == [
        (None, "sync", 43_200, 7_776_000),
        (str(acme), "sync", 0, None),
    ]
    assert "12h" in cli("retention", "ls").stdout
    assert [cli("retention", "clear", "-t", "sync").exit_code for _ in range(2)] == [0, 1]
    assert cli("retention", "set", "--completed", "1d").exit_code == 2
    assert cli("retention", "set", "-t", "sync").exit_code == 2
    assert cli("retention", "set", "-t", "sync", "--completed", "1 day").exit_code == 2


# Alerts, workers, doctor


def test_alerts_are_listed_and_their_rules_are_changed(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    put(session, acme, 3)
    set_rule(session, "no_worker", enabled=False)
    session.commit()

    assert cli("alerts", "set", "backlog", "--above", "2").exit_code == 0
    settle_alerts(session, now=True)
    session.commit()
    raised = cli("alerts", "ls")
    assert (raised.exit_code, "backlog" in raised.stdout) == (1, True)
    assert cli("alerts", "set", "backlog", "--off").exit_code == 0
    settle_alerts(session, now=True)
    session.commit()

    assert cli("alerts", "ls").exit_code == 0
    (over,) = as_json(cli("alerts", "ls", "--all", "--json"))
    assert (over["code"], over["resolvedAt"] is None) == ("backlog", False)
    rules = {rule["name"]: rule for rule in as_json(cli("alerts", "rules", "--json"))}
    assert (rules["backlog"]["above"], rules["backlog"]["enabled"]) == (2, False)
    assert [cli("alerts", "clear", "backlog").exit_code for _ in range(2)] == [0, 1]
    assert "did you mean" in cli("alerts", "set", "backlogs", "--off").stderr
    assert len(lines(session, "rule.set")) == 2


def test_a_workspace_has_rules_and_alerts_of_its_own(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    put(session, acme, 3)
    assert cli("alerts", "set", "backlog", "-w", "Acme", "--above", "2").exit_code == 0
    own = ("alerts", "set", "syncs", "-w", "Acme", "--metric", "running", "--task", "sync", "--above", "5")
    assert cli(*own).exit_code == 0
    settle_workspace_alerts(session, now=True)
    session.commit()

    raised = cli("alerts", "ls", "-w", "Acme")

    assert (raised.exit_code, "backlog" in raised.stdout) == (1, True)
    assert cli("alerts", "ls").exit_code == 0
    rules = {rule["name"]: rule for rule in as_json(cli("alerts", "rules", "-w", "Acme", "--json"))}
    assert {name: (rule["above"], rule["task"]) for name, rule in rules.items()} == {
        "backlog": (2, None), "syncs": (5, "sync"),
    }  # fmt: skip
    assert [cli("alerts", "clear", "backlog", "-w", "Acme").exit_code for _ in range(2)] == [0, 1]
    assert "declared in code" in cli("alerts", "set", "backlog", "--task", "sync").stderr
    assert "did you mean" in cli("alerts", "set", "backlogs", "-w", "Acme", "--off").stderr
    assert [line.workspace_id for line in lines(session, "rule.set")] == [acme, acme]


def test_a_worker_is_listed_and_drained(cli: Cli, session: Session) -> None:
    worker_id = end(session)

    drained = cli("workers", "drain", str(worker_id))

    (listed,) = as_json(cli("workers", "ls", "--json"))
    assert drained.exit_code == 0
    assert (listed["id"], listed["draining"], listed["drainRequested"]) == (worker_id, False, True)
    assert "asked to drain" in cli("workers", "ls").stdout
    session.execute(text("update jobplatform.workers set heartbeat_at = jobplatform.clock() - interval '45 s'"))
    session.commit()
    assert "asked to drain, silent for 4" in cli("workers", "ls").stdout
    assert cli("workers", "drain", "999").exit_code == 1
    assert [line.target for line in lines(session, "worker.drain")] == [f"worker:{worker_id}"]


def test_the_doctor_tells_what_is_wrong_and_what_to_do(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    well = cli("doctor", "--patience", "1h")
    put(session, acme, 1, task="nobody-knows")

    ill = cli("doctor", "--patience", "1h")
    told = cli("doctor", "--patience", "1h", "--json")

    assert (well.exit_code, "nothing is wrong" in well.stdout) == (0, True)
    assert ill.exit_code == told.exit_code == 1
    assert "unserved" in ill.stdout
    assert '"code": "unserved"' in told.stdout
    assert '"healthy": false' in told.stdout


@pytest.mark.usefixtures("database_url")  # The server has our roles: one of its databases is migrated.
def test_the_doctor_of_a_database_without_our_schema_says_that_alone(run: Cli, server: Any) -> None:
    answer = run("doctor", "--json", DATABASE_URL=server.create_database(f"empty_{uuid.uuid4().hex}"))

    (finding,) = json.loads(answer.stdout)["findings"]
    assert answer.exit_code == 1
    assert (finding["code"], finding["command"]) == ("schema_revision", "jobplatform migrate")
    assert finding["seen"] == "the database has no schema of jobplatform yet"


def test_the_doctor_says_of_a_login_that_may_not_look_what_to_grant(
    run: Cli, server: Any, direct_url: str, provide_login: Callable[..., str]
) -> None:
    answer = run("doctor", DATABASE_URL=server.url(make_url(direct_url).database, provide_login()))

    assert answer.exit_code == 1
    assert "may not act as jobplatform_operator\n" in answer.stdout
    assert re.search(r'^  grant jobplatform_operator to "\w+"$', answer.stdout, re.MULTILINE)


def test_health_speaks_of_rules_as_they_are_now(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    put(session, acme, 2)
    set_rule(session, "backlog", above=1)
    session.commit()

    answer = cli("health", "--json")

    assert '"code": "backlog"' in answer.stdout
    assert '"oldestReadySeconds"' in answer.stdout
