"""What is wrong is told once for the whole platform, and once more when it is over."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, TaskDefinitionError
from jobplatform.models import HealthRule, Job, Role, make_engine
from jobplatform.queue import (
    AlertEvent,
    Completion,
    Failure,
    NewJob,
    RunningJob,
    Tasks,
    clear_rule,
    clear_workspace_rule,
    complete_jobs,
    count_endings,
    declare_rules,
    enqueue_jobs,
    fail_jobs,
    list_alerts,
    list_rules,
    list_workspace_alerts,
    list_workspace_rules,
    queue_health,
    set_rule,
    set_workspace_rule,
    settle_alerts,
    settle_workspace_alerts,
)
from jobplatform.queue.health.workspace_rules import MOST_RULES
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Fact, Put

HOOK = "jobplatform.alert"


def edges(db: Session) -> list[tuple[str, str]]:
    """What the next look of some worker, a minute later, finds new."""
    return [(event.event, event.code) for event in settle_alerts(db, now=True)]


def told(db: Session) -> list[tuple[str, str]]:
    """The jobs of the hook, in order."""
    jobs = db.scalars(select(Job).where(Job.job_type == HOOK).order_by(Job.created_at, Job.id))
    return [(job.payload["event"], job.payload["code"]) for job in jobs]


def codes(db: Session, workspace_id: uuid.UUID | None = None) -> list[str]:
    return [alert.code for alert in queue_health(db, workspace_id).alerts]


@pytest.fixture
def hook(db: Session) -> Worker:
    """A worker whose application has a hook."""
    return Worker(db, tasks=("work", HOOK))


def test_an_alert_is_raised_once_and_resolved_once(put: Put, db: Session, hook: Worker) -> None:
    job = put(task="nobody-serves-this")

    assert edges(db) == [("raised", "unserved")]
    assert edges(db) == []
    db.execute(text("delete from jobplatform.job_queue where id = :id"), {"id": job})
    assert edges(db) == [("resolved", "unserved")]
    assert edges(db) == []
    assert told(db) == [("raised", "unserved"), ("resolved", "unserved")]


def test_an_alert_that_comes_back_is_told_again(put: Put, db: Session, hook: Worker) -> None:
    for _ in range(2):
        job = put(task="nobody-serves-this")
        edges(db)
        db.execute(text("delete from jobplatform.job_queue where id = :id"), {"id": job})
        edges(db)

    assert told(db) == [("raised", "unserved"), ("resolved", "unserved")] * 2


def test_while_one_worker_looks_another_does_not(put: Put, db: Session, hook: Worker, engine: Engine) -> None:
    put(task="nobody-serves-this")

    with Session(engine) as first:
        assert len(settle_alerts(first, now=True)) == 1
        assert settle_alerts(db, now=True) == []
        first.commit()

    assert edges(db) == []
    assert told(db) == [("raised", "unserved")]


def test_a_worker_that_dies_while_it_tells_has_told_nothing_and_the_next_one_does(
    put: Put, db: Session, hook: Worker, engine: Engine
) -> None:
    put(task="nobody-serves-this")
    with Session(engine) as dying:
        assert len(settle_alerts(dying, now=True)) == 1
        dying.rollback()
    assert told(db) == []

    assert edges(db) == [("raised", "unserved")]
    assert told(db) == [("raised", "unserved")]


def test_the_platform_looks_once_a_minute(put: Put, db: Session, hook: Worker, time: Time) -> None:
    assert settle_alerts(db) == []
    put(task="nobody-serves-this")
    assert settle_alerts(db) == []

    time.passes(61)
    Worker(db, tasks=("work", HOOK))
    assert "unserved" in [event.code for event in settle_alerts(db)]


def test_without_a_hook_it_is_written_down_and_no_job_is_made(put: Put, db: Session, worker: Worker) -> None:
    put(task="nobody-serves-this")

    assert edges(db) == [("raised", "unserved")]
    assert told(db) == []
    (alert,) = list_alerts(db)
    assert (alert.code, alert.resolved_at) == ("unserved", None)
    assert "nobody-serves-this" in alert.message


def test_a_worker_s_rights_are_enough_to_tell(
    login_url: Callable[..., str], put: Put, db: Session, hook: Worker
) -> None:
    put(task="nobody-serves-this")
    engine = make_engine(login_url(Role.WORKER), role=Role.WORKER)

    with Session(engine) as session:
        settle_alerts(session, now=True)
        session.commit()

    assert told(db) == [("raised", "unserved")]
    engine.dispose()


def test_a_worker_kept_for_alerts_gets_them(put: Put, db: Session, fact: Fact) -> None:
    Worker(db, tasks=("work", HOOK))
    Worker(db, tasks=("work", HOOK), queues=("alerts",))
    put(task="nobody-serves-this")

    edges(db)

    assert fact(f"select queue from jobplatform.jobs where job_type = '{HOOK}'") == "alerts"


# Rules


def test_an_operator_changes_thresholds_while_everything_runs(put: Put, db: Session, worker: Worker) -> None:
    for _ in range(3):
        put()
    assert codes(db) == []

    set_rule(db, "backlog", above=2)
    assert codes(db) == ["backlog"]
    set_rule(db, "backlog", enabled=False)
    assert codes(db) == []
    assert clear_rule(db, "backlog")
    assert list_rules(db)["backlog"].above == 100
    assert not clear_rule(db, "backlog")


def test_a_rule_without_a_threshold_can_be_switched_off(put: Put, db: Session) -> None:
    put()
    assert codes(db) == ["no_worker"]

    set_rule(db, "no_worker", enabled=False)

    assert codes(db) == []


def test_a_stuck_job_is_one_that_runs_longer_than_the_rule_says(
    put: Put, db: Session, worker: Worker, time: Time
) -> None:
    put()
    worker.claim()
    time.passes(29)
    set_rule(db, "stuck", above=15)

    assert codes(db) == ["stuck"]
    assert "0.25 minutes" in queue_health(db).alerts[0].message


def test_a_declared_rule_counts_its_own_queue_and_task_only(put: Put, db: Session, worker: Worker) -> None:
    tasks = Tasks()
    tasks.alert("letters_wait", "ready", above=1, queue="default", task="work")
    declare_rules(db, tasks.rules(), "app:tasks")
    put()
    put(queue="elsewhere")
    set_rule(db, "unserved", enabled=False)
    assert codes(db) == []

    put()

    assert [(alert.code, alert.message) for alert in queue_health(db).alerts] == [
        ("letters_wait", "2 jobs of queue default and task work are ready and wait for a slot")
    ]


@pytest.mark.parametrize(
    ("metric", "above"),
    [
        ("ready", 1), ("pending", 2), ("scheduled", 0), ("running", 0), ("oldest_ready_seconds", 50),
        ("longest_running_seconds", 50), ("completed_last_hour", 5), ("failed_last_hour", 4), ("failure_rate", 0.4),
    ],
)  # fmt: skip
def test_every_metric_can_be_watched(
    db: Session, engine: Engine, workspace_id: uuid.UUID, time: Time, metric: str, above: float
) -> None:
    """Two ready for a minute, one later, one running for a minute; six completed and five failed."""
    load(db, workspace_id)
    time.passes(60)

    for limit, expected in ((above, [metric]), (above * 2 + 60, [])):
        declare_rules(db, [{"name": metric, "metric": metric, "queue": None, "task": None, "above": limit}], "app")
        found = [code for code in codes(db) if code == metric]
        assert found == expected


def load(db: Session, workspace_id: uuid.UUID) -> None:
    worker = Worker(db)
    jobs = [NewJob(workspace_id=workspace_id, task="work") for _ in range(11)]
    enqueue_jobs(db, jobs)
    leases = [job.lease for job in worker.claim(limit=20)]
    complete_jobs(db, [Completion(lease) for lease in leases[:6]])
    fail_jobs(db, [Failure(lease, "error", "E", "no", retry=False) for lease in leases[6:]])
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, task="work") for _ in range(3)])
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, task="work", delay=datetime.timedelta(hours=1))])
    assert len(worker.claim(limit=1)) == 1


def test_a_rule_that_the_code_has_no_more_is_gone_and_another_application_s_stays(db: Session) -> None:
    rule = {"name": "a", "metric": "ready", "queue": None, "task": None, "above": 1}
    declare_rules(db, [rule], "first:tasks")
    declare_rules(db, [{**rule, "name": "b"}], "second:tasks")

    declare_rules(db, [], "first:tasks")

    assert db.scalars(select(HealthRule.name)).all() == ["b"]


def test_an_operator_s_threshold_survives_that_the_code_says_its_own_again(db: Session) -> None:
    rule = {"name": "a", "metric": "ready", "queue": None, "task": None, "above": 1}
    declare_rules(db, [rule], "app:tasks")
    set_rule(db, "a", above=7)

    declare_rules(db, [{**rule, "above": 2}], "app:tasks")

    assert list_rules(db)["a"].above == 7
    assert clear_rule(db, "a")
    assert list_rules(db)["a"].above == 2


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("backlogs", {"above": 1}, "did you mean 'backlog'"),
        ("backlog", {"above": -1}, "from 0"),
        ("failing", {"above": 20}, "a rate is from 0 to 1; 20 % is 0.2"),
        ("no_worker", {"above": 1}, "no threshold"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(db: Session, name: str, options: dict[str, float], said: str) -> None:
    with pytest.raises(InvalidLimitError, match=said):
        set_rule(db, name, **options)  # type: ignore[arg-type]


def test_a_declared_rule_that_cannot_work_is_refused_at_once() -> None:
    tasks = Tasks()

    with pytest.raises(TaskDefinitionError, match="did you mean 'failure_rate'"):
        tasks.alert("a", "failure_rat", above=1)
    with pytest.raises(TaskDefinitionError, match="letters, digits"):
        tasks.alert("a b", "ready", above=1)
    tasks.alert("a", "ready", above=1)
    with pytest.raises(TaskDefinitionError, match="two rules"):
        tasks.alert("a", "ready", above=2)


def test_the_hook_is_a_task_that_gets_the_event() -> None:
    tasks = Tasks()
    heard: list[AlertEvent] = []

    @tasks.on_alert
    def hook(job: RunningJob, event: AlertEvent) -> None:
        heard.append(event)

    event = AlertEvent("raised", "backlog", "too much", "2026-01-01T00:00:00+00:00")
    assert (hook.name, hook.retry.max_attempts) == (HOOK, 10)
    assert hook.payload.load(hook.payload.dump(event)) == event


# One workspace


@pytest.fixture
def acme(db: Session, workspace_id: uuid.UUID, hook: Worker) -> uuid.UUID:
    """A workspace that is told of two ready jobs."""
    set_workspace_rule(db, workspace_id, "backlog", above=1)
    return workspace_id


def edges_of_workspaces(db: Session) -> list[tuple[str, str, uuid.UUID | None]]:
    return [(event.event, event.code, event.workspace_id) for event in settle_workspace_alerts(db, now=True).events]


def test_a_workspace_s_own_rule_is_told_once_and_once_more_when_it_is_over(
    put: Put, db: Session, acme: uuid.UUID, fact: Fact
) -> None:
    put()
    put(workspace_id=uuid.uuid4())
    assert edges_of_workspaces(db) == []

    put()

    assert edges_of_workspaces(db) == [("raised", "backlog", acme)]
    assert edges_of_workspaces(db) == []
    (alert,) = list_workspace_alerts(db, acme)
    assert (alert.message, alert.resolved_at) == ("2 jobs are ready and wait for a slot", None)
    db.execute(text("delete from jobplatform.job_queue where workspace_id = :id"), {"id": acme})
    assert edges_of_workspaces(db) == [("resolved", "backlog", acme)]
    assert edges_of_workspaces(db) == []
    assert list_workspace_alerts(db, acme) == []
    assert len(list_workspace_alerts(db, acme, resolved=True)) == 1
    assert told(db) == [("raised", "backlog"), ("resolved", "backlog")]
    payloads = f"select array_agg(payload ->> 'workspace_id') from jobplatform.jobs where job_type = '{HOOK}'"
    assert fact(payloads) == [str(acme)] * 2


def test_what_is_told_of_a_workspace_is_not_told_of_the_platform(put: Put, db: Session, acme: uuid.UUID) -> None:
    for _ in range(3):
        put()

    assert edges(db) == []
    assert codes(db) == []


def test_a_rule_that_is_taken_back_or_switched_off_ends_its_alert(put: Put, db: Session, acme: uuid.UUID) -> None:
    put()
    put()
    for take_back in (
        lambda: clear_workspace_rule(db, acme, "backlog"),
        lambda: set_workspace_rule(db, acme, "backlog", enabled=False).enabled is False,
    ):
        set_workspace_rule(db, acme, "backlog", above=1, enabled=True)
        assert edges_of_workspaces(db) == [("raised", "backlog", acme)]
        assert take_back()
        assert edges_of_workspaces(db) == [("resolved", "backlog", acme)]


def test_while_one_worker_looks_at_workspaces_another_does_not_and_one_that_dies_has_told_nothing(
    put: Put, db: Session, acme: uuid.UUID, engine: Engine
) -> None:
    put()
    put()
    with Session(engine) as dying:
        assert len(settle_workspace_alerts(dying, now=True).events) == 1
        assert not settle_workspace_alerts(db, now=True).events
        dying.rollback()
    assert told(db) == []

    assert edges_of_workspaces(db) == [("raised", "backlog", acme)]
    assert told(db) == [("raised", "backlog")]


def test_workspaces_are_looked_at_in_rounds_and_once_a_minute(
    put: Put, db: Session, acme: uuid.UUID, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    monkeypatch.setattr("jobplatform.queue.health.workspace_alerts.MOST", 2)
    others = [uuid.uuid4() for _ in range(4)]
    for workspace_id in others:
        set_workspace_rule(db, workspace_id, "backlog", above=0)
        put(workspace_id=workspace_id)

    rounds = []
    while (found := settle_workspace_alerts(db)).more:
        rounds.append(found.events)

    raised = [event.workspace_id for events in [*rounds, found.events] for event in events]
    assert (len(rounds), set(raised), len(raised)) == (2, set(others), 4)
    put()
    put()
    assert not settle_workspace_alerts(db).events
    time.passes(61)
    later = [event.workspace_id for _ in range(3) for event in settle_workspace_alerts(db).events]
    assert later == [acme]


def test_failures_and_stuck_jobs_of_one_workspace_raise_its_alerts(
    db: Session, workspace_id: uuid.UUID, hook: Worker, time: Time
) -> None:
    """Six completed and five failed, one runs."""
    load(db, workspace_id)
    count_endings(db, now=True)
    time.passes(60)
    set_workspace_rule(db, workspace_id, "failing", above=0.4)
    set_workspace_rule(db, workspace_id, "stuck", above=50)
    set_workspace_rule(db, workspace_id, "few", metric="completed_last_hour", above=5, task="work")
    set_workspace_rule(db, workspace_id, "elsewhere", metric="ready", above=0, queue="elsewhere")
    set_workspace_rule(db, uuid.uuid4(), "failing", above=0.01)

    settle_workspace_alerts(db, now=True)

    assert {alert.code: alert.message for alert in list_workspace_alerts(db, workspace_id)} == {
        "failing": "5 of the 11 jobs that ended in the last hour failed",
        "few": "6 jobs of task work completed in the last hour",
        "stuck": "1 job runs for longer than 0.833333 minutes",
    }


def test_a_declared_rule_is_taken_over_for_a_workspace_with_what_is_said_differently(
    db: Session, workspace_id: uuid.UUID
) -> None:
    rule = {"name": "letters_wait", "metric": "ready", "queue": "letters", "task": None, "above": 100}
    declare_rules(db, [rule], "app:tasks")

    made = set_workspace_rule(db, workspace_id, "letters_wait", above=3)

    assert (made.metric, made.queue, made.above) == ("ready", "letters", 3)
    assert list_rules(db)["letters_wait"].above == 100
    assert set_workspace_rule(db, workspace_id, "letters_wait", enabled=False).above == 3
    assert clear_workspace_rule(db, workspace_id, "letters_wait")
    assert not clear_workspace_rule(db, workspace_id, "letters_wait")
    assert list_workspace_rules(db, workspace_id) == {}


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("backlogs", {"above": 1}, "did you mean 'backlog'"),
        ("no_worker", {}, "about the installation"),
        ("mine", {"metric": "ready"}, "above which number"),
        ("mine", {"metric": "redy", "above": 1}, "did you mean 'ready'"),
        ("my rule", {"metric": "ready", "above": 1}, "letters, digits"),
        ("backlog", {"above": -1}, "from 0"),
        ("backlog", {"queue": "no queue"}, "not a name"),
        ("mine", {"metric": "failure_rate", "above": 5}, "5 % is 0.05"),
    ],
)
def test_a_rule_of_a_workspace_that_makes_no_sense_is_refused(
    db: Session, workspace_id: uuid.UUID, name: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidLimitError, match=said):
        set_workspace_rule(db, workspace_id, name, **options)
    assert list_workspace_rules(db, workspace_id) == {}


def test_a_workspace_has_so_many_rules_and_no_more(db: Session, workspace_id: uuid.UUID) -> None:
    for number in range(MOST_RULES):
        set_workspace_rule(db, workspace_id, f"rule_{number}", metric="ready", above=1)

    with pytest.raises(InvalidLimitError, match="50 rules"):
        set_workspace_rule(db, workspace_id, "one_more", metric="ready", above=1)
    assert set_workspace_rule(db, workspace_id, "rule_7", above=9).above == 9


def test_a_worker_s_rights_are_enough_to_look_at_workspaces(
    login_url: Callable[..., str], put: Put, db: Session, acme: uuid.UUID
) -> None:
    put()
    put()
    engine = make_engine(login_url(Role.WORKER), role=Role.WORKER)

    with Session(engine) as session:
        settle_workspace_alerts(session, now=True)
        session.commit()

    assert told(db) == [("raised", "backlog")]
    engine.dispose()
