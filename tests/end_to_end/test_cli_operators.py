"""What an operator does on the command line, and that each of those acts is written down once."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import click
import pytest
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from jobplatform.api import mint_token, verify_token
from jobplatform.cli import main
from jobplatform.connectors import create_connection
from jobplatform.connectors import tasks as syncs
from jobplatform.key_ring import generate_key
from jobplatform.models import AuditEntry, ResourceLevel, Workspace, clock
from jobplatform.queue import (
    Adaptive,
    Cron,
    NewJob,
    WorkerInfo,
    begin_bulk,
    cancel_job,
    create_hook,
    create_schedule,
    create_webhook,
    declare_resource_limits,
    disable_hook,
    disable_webhook,
    enqueue_job,
    find_hook,
    find_schedule,
    find_webhook,
    list_audit,
    open_batch,
    parse_search,
    pause,
    pause_schedule,
    read_workspace_limits,
    register_worker,
    send_test,
    set_plan,
    set_rate_limit,
    set_resource_limit,
    set_retention,
    set_rule,
)
from tests.audit_lines import CAMEL, names_in
from tests.end_to_end.conftest import Cli, as_json
from tests.rows import NO_LINE_CAN_BE_WRITTEN, everything


def lines(session: Session) -> list[AuditEntry]:
    session.rollback()
    found = list(list_audit(session, limit=1000))
    session.rollback()
    return found


# Every act is written down


class Stage:
    """What commands are about, made without a command and so without a line."""

    def __init__(self, session: Session, workspace_id: uuid.UUID) -> None:
        self.session = session
        self.workspace_id = workspace_id

    def nothing(self) -> str:
        return ""

    def job(self) -> str:
        made = enqueue_job(self.session, NewJob(workspace_id=self.workspace_id, task="sync", queue="sync"))
        self.session.commit()
        return str(made.job_id)

    def job_and_nothing(self) -> str:
        """For a command that names no job."""
        self.job()
        return ""

    def batch(self) -> str:
        batch_id = open_batch(self.session, self.workspace_id)
        self.session.commit()
        return str(batch_id)

    def cancelled_job(self) -> str:
        job_id = self.job()
        cancel_job(self.session, self.workspace_id, uuid.UUID(job_id))
        self.session.commit()
        return job_id

    def schedule(self) -> str:
        made = create_schedule(self.session, syncs["sync"], Cron("0 3 * * *"), workspace_id=self.workspace_id)
        self.session.commit()
        return str(made.id)

    def paused_schedule(self) -> str:
        schedule_id = self.schedule()
        found = find_schedule(self.session, self.workspace_id, uuid.UUID(schedule_id))
        assert found is not None
        pause_schedule(self.session, found, actor="ann")
        self.session.commit()
        return schedule_id

    def connection(self) -> str:
        made = create_connection(self.session, self.workspace_id, connector_type="hubspot", name="CRM", config={})
        self.session.commit()
        return str(made.id)

    def hook(self) -> str:
        made = create_hook(
            self.session, syncs["sync"], workspace_id=self.workspace_id, name="a hook", scheme="standard"
        )
        self.session.commit()
        return str(made.hook.id)

    def disabled_hook(self) -> str:
        hook_id = self.hook()
        found = find_hook(self.session, self.workspace_id, uuid.UUID(hook_id))
        assert found is not None
        disable_hook(self.session, found, actor="ann")
        self.session.commit()
        return hook_id

    def webhook(self) -> str:
        made = create_webhook(self.session, workspace_id=self.workspace_id, name="a", url="https://crm.example.com")
        self.session.commit()
        return str(made.webhook.id)

    def disabled_webhook(self) -> str:
        webhook_id = self.webhook()
        found = find_webhook(self.session, self.workspace_id, uuid.UUID(webhook_id))
        assert found is not None
        disable_webhook(self.session, found, actor="ann")
        self.session.commit()
        return webhook_id

    def ended_delivery(self) -> str:
        """Of a webhook: both their ids."""
        webhook_id = self.webhook()
        found = find_webhook(self.session, self.workspace_id, uuid.UUID(webhook_id))
        assert found is not None
        job_id = send_test(self.session, found)
        cancel_job(self.session, self.workspace_id, job_id)
        self.session.commit()
        return f"{webhook_id} {job_id}"

    def bulk_action(self) -> str:
        self.job()
        found = begin_bulk(self.session, "cancel", parse_search("task:sync"), actor="ann")
        self.session.commit()
        return str(found.id)

    def token(self) -> str:
        token = mint_token(self.session, self.workspace_id, ["jobs:read"], "a test")
        self.session.commit()
        return token.split("_")[1]

    def plan(self) -> str:
        set_plan(self.session, "gold", {"weight": 2})
        self.session.commit()
        return "gold"

    def rate(self) -> str:
        set_rate_limit(self.session, "hubspot:*", {"units": 1, "period_ms": 1})
        self.session.commit()
        return "hubspot:*"

    def resource_limit(self) -> str:
        set_resource_limit(self.session, "hubspot:*", 1)
        self.session.commit()
        return "hubspot:*"

    def paused_queue(self) -> str:
        pause(self.session, "queue", "sync", reason="a look", actor="ann")
        self.session.commit()
        return "sync"

    def changed_rule(self) -> str:
        set_rule(self.session, "backlog", above=3)
        self.session.commit()
        return "backlog"

    def kept_task(self) -> str:
        set_retention(self.session, {"failed": timedelta(days=90)}, task="sync")
        self.session.commit()
        return "sync"

    def worker(self) -> str:
        worker_id = register_worker(self.session, WorkerInfo("w", "host", 1, "1", ("sync",), ("sync",), 1))
        self.session.commit()
        return str(worker_id)

    def paused_workspace(self) -> str:
        pause(self.session, "workspace", str(self.workspace_id), reason="a look", actor="ann")
        self.session.commit()
        return "Acme"


@dataclass(frozen=True)
class Act:
    """The words after the command, with {} for what was made for it, and what the log calls it."""

    action: str
    arguments: str
    prepare: Callable[[Stage], str] = Stage.nothing
    refused: str = ""


ACTS = {
    "enqueue": Act("job.enqueue", "sync -w Acme", refused="sync -w Acme --priority 99999"),
    "jobs cancel": Act("job.cancel", "{} -w Acme", Stage.job, refused=f"{uuid.uuid4()} -w Acme"),
    "batches cancel": Act("batch.cancel", "{} -w Acme", Stage.batch, refused=f"{uuid.uuid4()} -w Acme"),
    "jobs run-now": Act("job.run_now", "{} -w Acme", Stage.job, refused=f"{uuid.uuid4()} -w Acme"),
    "jobs change": Act(
        "job.change", "{} -w Acme --priority 5", Stage.job, refused=f"{uuid.uuid4()} -w Acme --priority 5"
    ),
    "jobs retry": Act("job.retry", "{} -w Acme", Stage.cancelled_job, refused=f"{uuid.uuid4()} -w Acme"),
    "jobs fork": Act("job.fork", "{} -w Acme", Stage.cancelled_job, refused=f"{uuid.uuid4()} -w Acme"),
    "schedules create": Act("schedule.create", "sync -w Acme --cron @daily", refused="sync -w Acme --cron @never"),
    "schedules pause": Act("schedule.pause", "{} -w Acme", Stage.schedule, refused="nothing"),
    "schedules resume": Act("schedule.resume", "{} -w Acme", Stage.paused_schedule, refused="nothing"),
    "schedules run-now": Act("schedule.run_now", "{} -w Acme", Stage.schedule, refused="nothing"),
    "schedules delete": Act("schedule.delete", "{} -w Acme", Stage.schedule, refused="nothing"),
    "connections create": Act("connection.create", "hubspot -w Acme", refused="hubspto -w Acme"),
    "connections update": Act("connection.change", "{} -w Acme --name X", Stage.connection, refused="nothing"),
    "connections delete": Act("connection.delete", "{} -w Acme --yes", Stage.connection, refused="nothing"),
    "hooks create": Act(
        "hook.create", "sync -w Acme --name h --scheme standard", refused="sync -w Acme --name h --scheme morse"
    ),
    "hooks change": Act("hook.change", "{} -w Acme --name h", Stage.hook, refused=f"{uuid.uuid4()} -w Acme --name h"),
    "hooks rotate-key": Act("hook.rotate_key", "{} -w Acme", Stage.hook, refused=f"{uuid.uuid4()} -w Acme"),
    "hooks rotate-secret": Act("hook.rotate_secret", "{} -w Acme", Stage.hook, refused=f"{uuid.uuid4()} -w Acme"),
    "hooks disable": Act("hook.disable", "{} -w Acme", Stage.hook, refused=f"{uuid.uuid4()} -w Acme"),
    "hooks enable": Act("hook.enable", "{} -w Acme", Stage.disabled_hook, refused=f"{uuid.uuid4()} -w Acme"),
    "hooks delete": Act("hook.delete", "{} -w Acme", Stage.hook, refused=f"{uuid.uuid4()} -w Acme"),
    "webhooks create": Act(
        "webhook.create",
        "-w Acme --name w --url https://crm.example.com",
        refused="-w Acme --name w --url http://127.0.0.1/",
    ),
    "webhooks change": Act(
        "webhook.change", "{} -w Acme --name w", Stage.webhook, refused=f"{uuid.uuid4()} -w Acme --name w"
    ),
    "webhooks rotate-secret": Act(
        "webhook.rotate_secret", "{} -w Acme", Stage.webhook, refused=f"{uuid.uuid4()} -w Acme"
    ),
    "webhooks disable": Act("webhook.disable", "{} -w Acme", Stage.webhook, refused=f"{uuid.uuid4()} -w Acme"),
    "webhooks enable": Act("webhook.enable", "{} -w Acme", Stage.disabled_webhook, refused=f"{uuid.uuid4()} -w Acme"),
    "webhooks test": Act("webhook.test", "{} -w Acme", Stage.webhook, refused=f"{uuid.uuid4()} -w Acme"),
    "webhooks redeliver": Act(
        "webhook.redeliver", "{} -w Acme", Stage.ended_delivery, refused=f"{uuid.uuid4()} {uuid.uuid4()} -w Acme"
    ),
    "webhooks delete": Act("webhook.delete", "{} -w Acme", Stage.webhook, refused=f"{uuid.uuid4()} -w Acme"),
    "bulk begin": Act("bulk.begin", "cancel task:sync --yes", Stage.job_and_nothing, refused="cancel colour:red --yes"),
    "bulk stop": Act("bulk.stop", "{}", Stage.bulk_action, refused=str(uuid.uuid4())),
    "tokens create": Act("token.create", "-w Acme", refused="-w Acme --scope everything"),
    "tokens revoke": Act("token.revoke", "{}", Stage.token, refused="nothing"),
    "tokens rotate": Act("token.rotate", "{}", Stage.token, refused="nothing"),
    "workspaces create": Act("workspace.create", "Globex", refused="''"),
    "workspaces limit": Act("workspace.limit", "Acme --weight 3", refused="Globex --weight 3"),
    "workspaces plan": Act("workspace.plan", "Acme {}", Stage.plan, refused="Acme platinum"),
    "workspaces encrypt": Act("workspace.encrypt", "Acme", refused="Globex"),
    "workspaces pause": Act("workspace.pause", "Acme --reason unpaid", refused="Globex --reason unpaid"),
    "workspaces resume": Act("workspace.resume", "{}", Stage.paused_workspace, refused="Acme"),
    "plans set": Act("plan.set", "gold --weight 3", refused="gold"),
    "plans delete": Act("plan.delete", "{}", Stage.plan, refused="platinum"),
    "queues limit": Act("queue.limit", "sync 3", refused="Not-A-Queue 3"),
    "tasks limit": Act("task.limit", "sync --max-running 3", refused="Not-A-Task --max-running 3"),
    "rates set": Act("rate.set", "hubspot:* 100/10s", refused="hubspot:4* 100/10s"),
    "rates clear": Act("rate.clear", "{}", Stage.rate, refused="hubspot:*"),
    "resources limit": Act("resource.limit", "hubspot:* 1", refused="hubspot:4* 1"),
    "resources clear": Act("resource.clear_limit", "{}", Stage.resource_limit, refused="hubspot:*"),
    "pause": Act("queue.pause", "queue sync --reason slow", refused="workspace Globex --reason slow"),
    "resume": Act("queue.resume", "queue {}", Stage.paused_queue, refused="queue sync"),
    "alerts set": Act("rule.set", "backlog --above 3", refused="backlogs --off"),
    "alerts clear": Act("rule.clear", "{}", Stage.changed_rule, refused="backlog"),
    "retention set": Act("retention.set", "-w Acme --failed 90d", refused="-w Globex --failed 90d"),
    "retention clear": Act("retention.clear", "--task {}", Stage.kept_task, refused="--task sync"),
    "workers drain": Act("worker.drain", "{}", Stage.worker, refused="999"),
}
#: Commands that only look.
LOOKING = {
    *("audit", "health", "healthcheck", "jobs ls", "jobs show", "jobs why", "keys generate", "keys ls", "openapi"),
    *("pauses", "plans ls", "queues ls", "rates ls", "resources ls", "resources levels", "tasks ls", "tokens ls"),
    *("workspaces ls", "workspaces show", "workers ls", "jobs failed", "jobs watch", "stats", "doctor"),
    "jobs replay",
    *("alerts ls", "alerts rules", "retention ls"),
    *("schedules ls", "schedules show", "schedules preview"),
    *("batches ls", "batches show", "batches watch"),
    *("connections ls", "connections show", "connections types"),
    *("records ls", "records show", "syncs ls", "syncs show", "exports ls"),
    *("jobs find", "bulk ls", "bulk show", "hooks ls", "hooks show", "webhooks ls", "webhooks show"),
}
#: Processes, what has a database of its own, and the command that makes the table for the lines in the first place.
NO_ACTS = {"api", "demo", "migrate", "prove", "up", "worker"}
#: Acts of many transactions, or on files: looked for where they are tested.
IN_PARTS = {"adopt", "prune", "keys rotate", "workspaces erase", "workspaces export"}
#: Acts that need a source to ask, or configurations of before, looked for where they are tested.
ELSEWHERE = {"connections test", "connections seal-headers"}
#: For the acts that need a master key.
KEYS = {"JOBPLATFORM_ENCRYPTION_KEYS": generate_key("test")}

every_act = pytest.mark.parametrize(("command", "act"), ACTS.items(), ids=list(ACTS))


@pytest.fixture
def stage(session: Session, acme: uuid.UUID, monkeypatch: pytest.MonkeyPatch) -> Stage:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return Stage(session, acme)


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LOGNAME", "ann")
    return "cli:ann"


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, (*path, name))


def test_every_command_either_only_looks_or_is_written_down_here() -> None:
    assert set(commands(main)) == LOOKING | NO_ACTS | IN_PARTS | ELSEWHERE | set(ACTS)


@every_act
def test_every_act_writes_one_line(command: str, act: Act, cli: Cli, stage: Stage, session: Session, user: str) -> None:
    made = act.prepare(stage)

    answer = cli(*command.split(), *act.arguments.format(made).split(), LOGNAME="ann", **KEYS)

    assert answer.exit_code == 0, answer.stderr
    (line,) = lines(session)
    assert (line.action, line.actor, line.token_id, line.request_id) == (act.action, user, None, None)
    assert [name for name in names_in(line) if not CAMEL.match(name)] == []
    assert ":" in line.target
    if "Acme" in act.arguments or "Acme" in made:
        assert line.workspace_id == stage.workspace_id


@every_act
def test_a_refused_act_writes_no_line(command: str, act: Act, cli: Cli, stage: Stage, session: Session) -> None:
    answer = cli(*command.split(), *[word.strip("'") for word in act.refused.split()], **KEYS)

    assert answer.exit_code in (1, 2), answer.stdout
    assert "Error" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert lines(session) == []


@every_act
def test_no_line_no_act(command: str, act: Act, cli: Cli, stage: Stage, session: Session) -> None:
    """One transaction: when the line cannot be written, nothing has happened."""
    arguments = act.arguments.format(act.prepare(stage)).split()
    session.execute(text(NO_LINE_CAN_BE_WRITTEN))
    session.commit()
    before = everything(session)
    session.rollback()

    answer = cli(*command.split(), *arguments, **KEYS)

    assert answer.exit_code == 1
    assert "the database refused" in answer.stderr
    assert before["workspaces"] != []
    assert everything(session) == before


@pytest.mark.parametrize(
    ("command", "details"),
    [
        ("workspaces limit Acme --max-running 3 --rate 100/10s",
         {"maxRunning": 3, "rateUnits": 100, "ratePeriodMs": 10_000}),
        ("plans set gold --max-pending 7", {"maxPending": 7}),
        ("tasks limit sync --per-workspace 2", {"maxRunningPerWorkspace": 2}),
        ("rates set hubspot:* 5/1s", {"units": 5, "periodMs": 1_000, "burst": None}),
        ("retention set -w Acme --completed 1h", {"completedSeconds": 3_600.0, "task": None}),
    ],
)  # fmt: skip
def test_details_have_the_names_that_the_api_has(
    command: str, details: dict[str, object], cli: Cli, acme: uuid.UUID, session: Session
) -> None:
    assert cli(*command.split()).exit_code == 0

    (line,) = lines(session)
    assert line.details == details


def test_what_was_changed_of_a_hook_is_named_as_the_api_names_it(cli: Cli, stage: Stage, session: Session) -> None:
    options = ("--task", "sync", "--url", "https://jobs.example.com", "--subscription", "7")

    assert cli("hooks", "change", stage.hook(), "-w", "Acme", *options).exit_code == 0

    (line,) = lines(session)
    assert set(line.details["changed"]) == {"jobType", "publicUrl", "subscriptionId"}


def test_rotating_keys_writes_one_line(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    cli("workspaces", "encrypt", str(acme), **KEYS)

    answer = cli("keys", "rotate", **KEYS)

    assert answer.exit_code == 0, answer.stderr
    assert [line.action for line in lines(session)] == ["keys.rotate", "workspace.encrypt"]


# What the acts do


def test_a_workspace_is_put_on_a_plan_and_limited_on_top_of_it(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    cli("plans", "set", "gold", "--weight", "10", "--max-pending", "1000", "--rate", "100/10s", "--shed", "yes")
    cli("workspaces", "plan", "Acme", "gold")
    answer = cli("workspaces", "limit", str(acme), "--max-running", "5", "--rate", "7/m")

    assert answer.exit_code == 0, answer.stderr
    shown = as_json(cli("workspaces", "show", "Acme", "--json"))["limits"]
    assert shown["plan"] == "gold"
    assert shown["own"]["maxRunning"] == 5
    assert shown["effective"] == {
        "weight": 10,
        "maxRunning": 5,
        "maxPending": 1000,
        "shed": True,
        "rateUnits": 7,
        "ratePeriodMs": 60_000,
    }
    assert "7/1m" in cli("workspaces", "show", "Acme").stdout
    assert "100/10s" in cli("plans", "ls").stdout
    assert as_json(cli("plans", "ls", "--json"))[0]["weight"] == 10


def test_none_clears_a_limit_and_takes_a_workspace_off_its_plan(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    cli("plans", "set", "gold", "--weight", "10")
    cli("workspaces", "plan", "Acme", "gold")
    cli("workspaces", "limit", "Acme", "--weight", "3", "--rate", "1/s", "--shed", "no")

    cli("workspaces", "limit", "Acme", "--weight", "none", "--rate", "none", "--shed", "none")
    on_plan = read_workspace_limits(session, acme).effective
    session.rollback()
    cli("workspaces", "plan", "Acme", "none")

    assert (on_plan.weight, on_plan.rate_units) == (10, None)
    assert read_workspace_limits(session, acme).effective.weight == 1


def test_a_plan_in_use_is_not_deleted_and_its_user_is_named(cli: Cli, acme: uuid.UUID) -> None:
    cli("plans", "set", "gold", "--weight", "10")
    cli("workspaces", "plan", "Acme", "gold")

    answer = cli("plans", "delete", "gold")

    assert answer.exit_code == 1
    assert f"1 workspace is on the plan 'gold': {acme}" in answer.stderr


def test_what_is_paused_is_listed_until_it_is_resumed(cli: Cli, acme: uuid.UUID) -> None:
    cli("workspaces", "pause", "Acme", "--reason", "unpaid")
    cli("pause", "resource", "hubspot:4711", "--reason", "down", "--for", "30m")
    cli("pause", "queue", "sync", "--reason", "a look", "--until", "2099-01-01T00:00:00+01:00")

    listed = {(one["kind"], one["key"]): one for one in as_json(cli("pauses", "--json"))}
    assert set(listed) == {("workspace", str(acme)), ("resource", "hubspot:4711"), ("queue", "sync")}
    assert listed["queue", "sync"]["until"] == "2098-12-31T23:00:00Z"
    assert listed["resource", "hubspot:4711"]["until"] != "–"
    assert len(as_json(cli("pauses", "--kind", "queue", "--json"))) == 1
    assert "unpaid" in cli("workspaces", "show", "Acme").stdout
    (workspace,) = as_json(cli("workspaces", "ls", "--json"))
    assert workspace["pause"]["reason"] == "unpaid"

    assert cli("resume", "workspace", "Acme").exit_code == 0
    assert len(as_json(cli("pauses", "--json"))) == 2


def test_queues_and_tasks_show_their_limits(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    enqueue_job(session, NewJob(workspace_id=acme, task="sync", queue="sync"))
    session.commit()

    cli("queues", "limit", "sync", "0")
    told = cli("tasks", "limit", "sync", "--per-workspace", "1").stdout

    (queue,) = as_json(cli("queues", "ls", "--json"))
    assert (queue["queue"], queue["ready"], queue["maxRunning"], queue["paused"]) == ("sync", 1, 0, False)
    assert as_json(cli("tasks", "ls", "--json")) == [
        {
            "task": "sync",
            "maxRunning": None,
            "maxRunningPerWorkspace": 1,
            "codeMaxRunning": None,
            "codeMaxRunningPerWorkspace": None,
        }
    ]
    assert told == "task sync: no limit in all, at most 1 at a time in each workspace\n"
    assert cli("queues", "limit", "sync", "none").stdout == "queue sync: no limit\n"
    for listing in ("queues", "tasks", "rates", "resources", "plans", "workspaces", "tokens"):
        assert cli(listing, "ls").exit_code == 0


def test_what_is_listed_with_ls_is_listed_with_list_too(run: Cli, cli: Cli, acme: uuid.UUID) -> None:
    listed = cli("workspaces", "list", "--json")

    assert as_json(listed)[0]["id"] == str(acme)
    assert listed.stdout == cli("workspaces", "ls", "--json").stdout
    assert "list" not in [line.split()[0] for line in run("workspaces", "--help").stdout.splitlines() if line.strip()]


def test_a_rate_is_set_listed_and_cleared(cli: Cli) -> None:
    told = cli("rates", "set", "hubspot:*", "100/10s", "--burst", "20").stdout

    assert told == "hubspot:*: 100/10s, at most 20 at once\n"
    assert as_json(cli("rates", "ls", "--json")) == [
        {"resource": "hubspot:*", "units": 100, "periodMs": 10_000, "burst": 20}
    ]
    assert cli("rates", "clear", "hubspot:*").exit_code == 0
    assert as_json(cli("rates", "ls", "--json")) == []


def test_a_resource_is_limited_listed_and_set_free(cli: Cli, session: Session) -> None:
    declare_resource_limits(session, {"account:*": 1}, "billing:tasks")
    session.commit()
    fixed = {"minRunning": None, "codeMinRunning": None}

    assert cli("resources", "limit", "account:*", "3").stdout == "resource account:*: at most 3 at a time\n"
    assert cli("resources", "limit", "account:7", "none").stdout == "resource account:7: no limit\n"
    assert as_json(cli("resources", "ls", "--json")) == [
        {"resource": "account:*", "maxRunning": 3, "codeMaxRunning": 1, "declaredBy": "billing:tasks", **fixed},
        {"resource": "account:7", "maxRunning": None, "codeMaxRunning": None, "declaredBy": None, **fixed},
    ]
    said = "resource account:*: at most 1 at a time, as the code declares\n"
    assert cli("resources", "clear", "account:*").stdout == said
    assert cli("resources", "clear", "account:7").stdout == "resource account:7: no limit of its own\n"
    assert [line["resource"] for line in as_json(cli("resources", "ls", "--json"))] == ["account:*"]


def test_a_resource_finds_its_limit_itself_and_an_operator_sees_what_it_has_come_to(cli: Cli, session: Session) -> None:
    declare_resource_limits(session, {"crm:*": Adaptive(1, 50)}, "billing:tasks")
    lowered = {"lowered_at": clock(), "lowered_for": "too often"}
    session.execute(insert(ResourceLevel).values(resource="crm:7", level=7.9, **lowered))
    session.commit()

    said = "resource crm:*: as many at a time as it takes, from 2 to 40\n"
    assert cli("resources", "limit", "crm:*", "--adaptive", "2..40").stdout == said
    assert lines(session)[-1].details == {"maxRunning": 40, "minRunning": 2}
    assert re.search(r"crm:\* +2\.\.40 +1\.\.50 +billing:tasks", cli("resources", "ls").stdout)
    (level,) = as_json(cli("resources", "levels", "crm:7", "--json"))
    assert (level["level"], level["running"], level["loweredFor"]) == (7, 0, "too often")
    assert re.search(r"crm:7 +7 +2\.\.40 +0 .* too often", cli("resources", "levels").stdout)
    cleared = "resource crm:*: as many at a time as it takes, from 1 to 50, as the code declares\n"
    assert cli("resources", "clear", "crm:*").stdout == cleared


def test_a_rotated_token_gives_way_to_one_like_it(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    old = cli("tokens", "create", "-w", "Acme", "--name", "ci").stdout.strip()

    new = cli("tokens", "rotate", old.split("_")[1]).stdout.strip()
    again = cli("tokens", "revoke", old)

    assert verify_token(session, old) is None
    assert f"no token '{old.split('_')[1]}' is alive; see `jobplatform tokens ls`" in again.stderr
    principal = verify_token(session, new)
    assert principal is not None
    assert (principal.name, principal.workspace_id) == ("ci", acme)


def test_the_log_is_listed_newest_first(cli: Cli, acme: uuid.UUID) -> None:
    cli("workspaces", "limit", "Acme", "--weight", "3", LOGNAME="ann")
    cli("plans", "set", "gold", "--weight", "3", LOGNAME="bob")

    listed = as_json(cli("audit", "--json"))

    assert [(line["actor"], line["action"]) for line in listed] == [
        ("cli:bob", "plan.set"),
        ("cli:ann", "workspace.limit"),
    ]
    assert [line["action"] for line in as_json(cli("audit", "-w", "Acme", "--json"))] == ["workspace.limit"]
    assert len(as_json(cli("audit", "--actor", "cli:bob", "--json"))) == 1
    assert len(as_json(cli("audit", "--action", "plan.set", "--json"))) == 1
    assert len(as_json(cli("audit", "--before", str(listed[0]["id"]), "-n", "5", "--json"))) == 1
    assert "weight=3" in cli("audit").stdout
    unknown = cli("audit", "-w", str(uuid.uuid4()))
    assert (unknown.exit_code, "no workspace has the id" in unknown.output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("workspaces show Globex", "no workspace is named 'Globex'"),
        (f"workspaces limit {uuid.UUID(int=7)} --weight 3", "no workspace has the id"),
        ("workspaces limit Acme", "say what to change"),
        ("workspaces limit Acme --weight 0", "neither a whole number from 1 to 100 nor 'none'"),
        ("workspaces limit Acme --max-running -1", "neither a whole number from 0"),
        ("workspaces limit Acme --max-running many", "neither a whole number from 0"),
        ("workspaces limit Acme --max-pending 2147483648", "neither a whole number from 0"),
        ("workspaces limit Acme --rate 100", "not a rate such as 100/10s"),
        ("workspaces limit Acme --rate 0/s", "not a rate such as 100/10s"),
        ("workspaces limit Acme --rate 5/900000000d", "from 1 to 31622399999"),
        ("workspaces plan Acme platinum", "plan names none: there is no plan 'platinum'"),
        ("workspaces pause Acme", "--reason"),
        ("workspaces resume Acme", "is not paused"),
        ("pause queue sync --reason x --until tomorrow", "not a moment with an offset"),
        ("pause queue sync --reason x --until 2099-01-01T00:00:00", "not a moment with an offset"),
        ("pause queue sync --reason x --until 2001-01-01T00:00:00Z", "until must be in the future"),
        ("pause queue sync --reason x --for soon", "not a duration such as 90s"),
        ("pause queue sync --reason x --for 0s", "not a duration such as 90s"),
        ("pause queue sync --reason x --for 36526d", "longer than a hundred years"),
        ("pause queue sync --reason x --for 1h --until 2099-01-01T00:00:00Z", "not both"),
        ("pause worker w1 --reason x", "is not one of"),
        ("pause queue Not-A-Queue --reason x", "is not a queue name"),
        ("pause workspace Globex --reason x", "no workspace is named"),
        ("queues limit sync few", "neither a whole number from 0"),
        ("tasks limit sync", "say --max-running or --per-workspace"),
        ("rates set hubspot:4* 1/s", "must be a resource, or a kind of them and a star"),
        ("rates set hubspot:* none", "rates clear"),
        ("rates clear hubspot:*", "has no rate of its own"),
        ("resources limit account:4* 1", "must be a resource, or a kind of them and a star"),
        ("resources limit account:* few", "neither a whole number from 0"),
        ("resources limit account:*", "say either MAX_RUNNING or --adaptive"),
        ("resources limit account:* 5 --adaptive 1..5", "say either MAX_RUNNING or --adaptive"),
        ("resources limit account:* --adaptive 0..5", "is not from one number to another"),
        ("resources limit account:* --adaptive 6..5", "is not from one number to another"),
        ("resources clear account:*", "has no limit to clear"),
        ("plans delete gold", "there is no plan 'gold'"),
        ("tokens rotate nothing", "no token 'nothing' is alive"),
        ("audit -w Globex", "no workspace is named"),
        (f"workspaces create Globex --id {uuid.UUID(int=8)}x", "is not a valid UUID"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(cli: Cli, acme: uuid.UUID, arguments: str, said: str) -> None:
    answer = cli(*arguments.split())

    assert answer.exit_code in (1, 2)
    assert said in " ".join(answer.stderr.split())
    assert "Traceback" not in answer.stderr


def test_two_workspaces_of_one_name_are_listed_to_be_told_apart(cli: Cli, acme: uuid.UUID, session: Session) -> None:
    other = uuid.uuid4()
    session.add(Workspace(id=other, name="Acme"))
    session.commit()

    answer = cli("workspaces", "limit", "Acme", "--weight", "3")

    assert answer.exit_code == 2
    told = answer.stderr.partition("2 workspaces are named 'Acme'; give the id of one instead of the name:")[2]
    assert re.findall(r"^  (\S+)  made 20\S+Z$", told, re.MULTILINE) == [str(acme), str(other)]


def test_two_connections_of_one_name_are_listed_too(cli: Cli, acme: uuid.UUID) -> None:
    config = '{"url": "https://news.example.com/feed"}'
    made = [as_json(cli("connections", "create", "rss", "-w", "Acme", "--name", "news", "-c", config, "--json"))
            for _ in range(2)]  # fmt: skip

    answer = cli("connections", "show", "news", "-w", "Acme")

    assert answer.exit_code == 1
    assert "2 connections are named 'news'" in answer.stderr
    assert all(one["id"] in answer.stderr for one in made)


def test_while_somebody_is_asked_nobody_waits_for_a_lock(
    cli: Cli, stage: Stage, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = stage.connection()

    def ask(_question: str) -> bool:
        session.execute(text("select id from jobplatform.connections for update nowait"))
        session.rollback()
        return True

    monkeypatch.setattr(click, "confirm", ask)

    assert cli("connections", "delete", connection, "-w", "Acme").exit_code == 0


ASKING = ["connections delete CRM -w Acme", "jobs cancel --all", "bulk begin cancel task:sync"]


@pytest.mark.parametrize("command", ASKING)
def test_where_nobody_can_be_asked_nothing_is_done_and_it_is_said_what_to_add(
    command: str, cli: Cli, stage: Stage, session: Session
) -> None:
    stage.connection()
    stage.job()

    answer = cli(*command.split())

    assert answer.exit_code == 2
    assert "nobody is there to be asked, and nothing was done: add --yes" in " ".join(answer.stderr.split())
    assert lines(session) == []


def test_who_mistypes_a_workspace_is_told_the_nearest_name(cli: Cli, acme: uuid.UUID) -> None:
    near, far = cli("workspaces", "show", "acmee"), cli("workspaces", "show", "Globex")

    assert "no workspace is named 'acmee'; did you mean 'Acme'; see `jobplatform workspaces ls`" in near.stderr
    assert "no workspace is named 'Globex'; see `jobplatform workspaces ls`" in far.stderr


def test_a_workspace_s_id_is_used_once(cli: Cli, acme: uuid.UUID) -> None:
    answer = cli("workspaces", "create", "Acme again", "--id", str(acme))

    assert answer.exit_code == 1
    assert "already" in answer.stderr


def test_a_workspace_of_a_name_that_there_is_is_made_when_that_is_meant(cli: Cli, acme: uuid.UUID) -> None:
    again = cli("workspaces", "create", "Acme")
    (listed,) = as_json(cli("workspaces", "ls", "--json"))

    assert (again.exit_code, again.stdout, listed["id"]) == (1, "", str(acme))
    assert f"a workspace is named 'Acme' already:\n  {acme}  made 2" in again.stderr
    assert "or make another one with --same-name" in again.stderr

    meant = (["--same-name"], ["--id", str(uuid.uuid4())])
    made = {cli("workspaces", "create", "Acme", *options).exit_code for options in meant}
    third = cli("workspaces", "create", "Acme", "--json")

    assert made == {0}
    assert "3 workspaces are named 'Acme' already" in json.loads(third.stderr)["error"]
