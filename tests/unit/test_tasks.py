"""Tasks: declared once, found by name, refused when they cannot work."""

from __future__ import annotations

import datetime
import json
import re
import sys
import types
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from jobplatform.errors import (
    InvalidJobError,
    InvalidPayloadError,
    InvalidScheduleError,
    SearchError,
    SettingsError,
    TaskDefinitionError,
    UnknownTaskError,
)
from jobplatform.queue import (
    Adaptive,
    AlertEvent,
    Cron,
    Items,
    JobChange,
    Retry,
    RetryPolicy,
    RunningJob,
    Tasks,
    chain,
    load_tasks,
    parse_search,
)

WORKSPACE = uuid.UUID(int=7)


@dataclass
class Greeting:
    name: str


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


def handler(job: RunningJob, payload: Greeting) -> str:
    """Say hello."""
    return f"hello {payload.name}"


def test_a_task_is_found_by_its_name(tasks: Tasks) -> None:
    task = tasks.task("greet")(handler)

    assert tasks["greet"] is task
    assert "greet" in tasks
    assert tasks.names() == ["greet"]


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(tasks: Tasks) -> None:
    tasks.task("workspace-sync")(handler)

    with pytest.raises(UnknownTaskError) as unknown:
        tasks["workspace-snyc"]

    assert unknown.value.suggestion == "workspace-sync"


def test_what_the_platform_does_for_itself_is_not_offered(tasks: Tasks) -> None:
    @tasks.on_alert
    def tell(job: RunningJob, event: AlertEvent) -> None: ...

    tasks.task("alert")(handler)

    with pytest.raises(UnknownTaskError) as unknown:
        tasks.offered("jobplatform.alert")

    assert str(unknown.value) == "no task is named 'jobplatform.alert'"
    assert (tasks.offered_names(), tasks.names()) == (["alert"], ["alert", "jobplatform.alert"])
    assert tasks.offered("alert") is tasks["alert"]


def test_a_name_like_no_other_is_answered_without_a_suggestion(tasks: Tasks) -> None:
    tasks.task("workspace-sync")(handler)

    with pytest.raises(UnknownTaskError) as unknown:
        tasks["zzz"]

    assert unknown.value.suggestion is None


def test_calling_a_task_is_an_ordinary_call_of_its_handler(tasks: Tasks) -> None:
    task = tasks.task("greet")(handler)

    assert task(None, Greeting("Ada")) == "hello Ada"  # type: ignore[arg-type]


def test_a_task_keeps_the_documentation_of_its_handler(tasks: Tasks) -> None:
    assert tasks.task("greet")(handler).__doc__ == "Say hello."


def test_the_annotation_of_the_handler_says_what_the_task_takes(tasks: Tasks) -> None:
    task = tasks.task("greet")(handler)

    with pytest.raises(InvalidPayloadError):
        task.new_job({"nam": "Ada"}, workspace_id=WORKSPACE)


def test_what_is_not_given_is_the_tasks_default(tasks: Tasks) -> None:
    task = tasks.task(
        "greet",
        queue="letters",
        priority=5,
        timeout=datetime.timedelta(seconds=9),
        max_attempts=7,
        payload_version=3,
    )(handler)

    job = task.new_job(Greeting("Ada"), workspace_id=WORKSPACE)

    assert (job.task, job.queue, job.priority, job.max_attempts, job.payload_version) == ("greet", "letters", 5, 7, 3)
    assert job.timeout == datetime.timedelta(seconds=9)
    assert job.payload == {"name": "Ada"}


def test_each_default_can_be_overridden(tasks: Tasks) -> None:
    task = tasks.task("greet", queue="letters", priority=5, max_attempts=7)(handler)

    job = task.new_job(
        Greeting("Ada"), workspace_id=WORKSPACE, queue="other", priority=0, max_attempts=1, unique_key="k"
    )

    assert (job.queue, job.priority, job.max_attempts, job.unique_key) == ("other", 0, 1, "k")


# Resources


@dataclass
class Account:
    id: int = field(metadata={"data_key": "accountId"})
    region: str = "eu"


def sync_account(job: RunningJob, payload: Account) -> None:
    """Sync an account."""


def sync_anything(job: RunningJob, payload: dict[str, Any]) -> None:
    """Sync whatever the payload says."""


def test_a_resource_is_named_by_fields_of_the_payload(tasks: Tasks) -> None:
    task = tasks.task("sync", resource="crm:{accountId}", units=20)(sync_account)

    from_object = task.new_job(Account(4711), workspace_id=WORKSPACE)
    from_json = task.new_job({"accountId": 4712}, workspace_id=WORKSPACE)

    assert (from_object.resource, from_object.units) == ("crm:4711", 20)
    assert (from_json.resource, from_json.units) == ("crm:4712", 20)


def test_a_field_with_a_default_can_be_part_of_a_resource(tasks: Tasks) -> None:
    task = tasks.task("sync", resource="crm-{region}:{accountId}")(sync_account)

    assert task.new_job({"accountId": 1}, workspace_id=WORKSPACE).resource == "crm-eu:1"


def test_a_resource_can_be_one_for_all_jobs(tasks: Tasks) -> None:
    task = tasks.task("sync", resource="mail")(sync_anything)

    assert task.new_job(workspace_id=WORKSPACE).resource == "mail"


def test_a_function_of_the_payload_names_the_resource_or_none(tasks: Tasks) -> None:
    task = tasks.task("sync", resource=lambda account: f"crm:{account.id}" if account.id else None)(sync_account)

    assert task.new_job(Account(5), workspace_id=WORKSPACE).resource == "crm:5"
    assert task.new_job(Account(0), workspace_id=WORKSPACE).resource is None


@pytest.mark.parametrize(
    ("resource", "rule"),
    [
        ("crm:{accountId}", "crm:*"),
        ("crm:eu-{accountId}", "crm:*"),
        ("crm:{accountId}:{region}", "crm:*"),
        ("mail", "mail"),
        ("mail:{{out}}", "mail:{out}"),
    ],
)
def test_a_limit_for_each_resource_is_one_of_its_kind_or_of_the_only_one(
    tasks: Tasks, resource: str, rule: str
) -> None:
    tasks.task("sync", resource=resource, limit_per_resource=1)(sync_account)

    assert tasks.catalogue()[0]["resource_limits"] == {rule: 1}


@pytest.mark.parametrize(
    "resource", [None, "crm-{accountId}", "{region}:{accountId}", ":{accountId}", lambda _account: "crm:1"]
)
def test_a_limit_for_each_resource_needs_to_be_told_its_kind(tasks: Tasks, resource: Any) -> None:
    with pytest.raises(TaskDefinitionError, match="limit_per_resource needs a resource whose kind is in its text"):
        tasks.task("sync", resource=resource, limit_per_resource=1)(sync_account)


def test_an_adaptive_limit_is_told_with_its_least_and_its_most(tasks: Tasks) -> None:
    tasks.task("sync", resource="crm:{accountId}", limit_per_resource=Adaptive(1, 50))(sync_account)
    tasks.task("again", resource="crm:{accountId}", limit_per_resource=Adaptive(1, 50))(sync_account)

    assert json.loads(json.dumps(tasks.catalogue()))[0]["resource_limits"] == {"crm:*": [1, 50]}
    with pytest.raises(TaskDefinitionError, match=r"limit_per_resource=50 of crm:\* is 1\.\.50 in the task 'sync'"):
        tasks.task("other", resource="crm:{accountId}", limit_per_resource=50)(sync_account)


@pytest.mark.parametrize(
    "limit", [Adaptive(0, 5), Adaptive(6, 5), Adaptive(-1, -1), Adaptive(True, 5), Adaptive(1, 5.5)]
)  # type: ignore[arg-type]
def test_an_adaptive_limit_is_from_at_least_one_to_no_less(tasks: Tasks, limit: Adaptive) -> None:
    with pytest.raises(TaskDefinitionError, match="limit_per_resource must be from a whole number of at least 1"):
        tasks.task("sync", resource="crm:{accountId}", limit_per_resource=limit)(sync_account)


def test_two_tasks_that_use_the_same_kind_of_resource_say_the_same_of_it_or_one_says_nothing(tasks: Tasks) -> None:
    tasks.task("sync", resource="crm:{accountId}", limit_per_resource=1)(sync_account)
    tasks.task("again", resource="crm:{accountId}", limit_per_resource=1)(sync_account)
    tasks.task("silent", resource="crm:{accountId}")(sync_account)
    tasks.task("only", resource="crm:0", limit_per_resource=5)(sync_account)

    with pytest.raises(TaskDefinitionError, match=r"limit_per_resource=2 of crm:\* is 1 in the task 'sync'"):
        tasks.task("other", resource="crm:{accountId}", limit_per_resource=2)(sync_account)


def test_a_resource_and_units_given_at_enqueue_win_over_the_tasks(tasks: Tasks) -> None:
    task = tasks.task("sync", resource="crm:{accountId}", units=2)(sync_account)

    job = task.new_job(Account(5), workspace_id=WORKSPACE, resource="crm:other", units=3)

    assert (job.resource, job.units) == ("crm:other", 3)


@pytest.mark.parametrize(
    ("payload", "message"),
    [({}, "is missing"), ({"account": None}, "must be"), ({"account": True}, "must be"), ({"account": [1]}, "must be")],
)
def test_a_payload_that_cannot_name_its_resource_is_refused_by_place(
    tasks: Tasks, payload: dict[str, Any], message: str
) -> None:
    task = tasks.task("sync", resource="crm:{account}")(sync_anything)

    with pytest.raises(InvalidPayloadError) as refused:
        task.new_job(payload, workspace_id=WORKSPACE)

    (problem,) = refused.value.problems
    assert problem.path == "/account"
    assert problem.message.startswith(message)


def test_a_resource_that_no_job_can_have_is_refused_when_it_is_named(tasks: Tasks) -> None:
    task = tasks.task("sync", resource="crm:{account}")(sync_anything)

    with pytest.raises(InvalidJobError) as refused:
        task.new_job({"account": "x" * 200}, workspace_id=WORKSPACE)

    assert [problem.path for problem in refused.value.problems] == ["/resource"]


@pytest.mark.parametrize(
    "options",
    [
        {"resource": "crm:{account"},
        {"resource": "crm:{}"},
        {"resource": "crm:{account.id}"},
        {"resource": "crm:{account!r}"},
        {"resource": "crm:{account:>5}"},
        {"resource": ""},
        {"units": 0},
        {"units": 10_001},
    ],
)
def test_a_resource_that_cannot_work_is_refused_when_the_task_is_declared(
    tasks: Tasks, options: dict[str, Any]
) -> None:
    with pytest.raises(TaskDefinitionError):
        tasks.task("sync", **options)(sync_anything)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"unique": 5}, "unique=5 must be"),
        ({"resource": 4711}, "resource=4711 is neither a text nor a function of the payload"),
        ({"tags": None}, "tags=None is no list of texts"),
        ({"keep": 7}, "keep must be a Keep"),
        ({"encrypted": "false"}, "encrypted must be a bool"),
        ({"description": 5}, "description must be a text"),
        ({"upgrade": 2}, "upgrade must be a function"),
        ({"payload_version": 1.0}, "payload_version must be from"),
        ({"limit": True}, "limit must be a whole number"),
        ({"priority": True}, "/priority: must be a whole number"),
        ({"timeout": 10**400}, "is no duration: write timedelta"),
    ],
)
def test_an_option_of_another_kind_is_refused_when_the_task_is_declared(
    tasks: Tasks, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(TaskDefinitionError) as refused:
        tasks.task("greet", **options)(handler)

    assert "'greet'" in str(refused.value)
    assert said in str(refused.value)


def test_what_is_no_function_is_no_task(tasks: Tasks) -> None:
    with pytest.raises(TaskDefinitionError, match="'greet': a function is declared, and not a str"):
        tasks.task("greet")("handler")  # type: ignore[arg-type]
    with pytest.raises(TaskDefinitionError, match="a function of the batch is declared, and not a NoneType"):
        tasks.batch_task("greet", size=5)(None)  # type: ignore[arg-type]
    with pytest.raises(TaskDefinitionError, match="size must be a whole number"):
        tasks.batch_task("greet", size=5.0)(handler)  # type: ignore[arg-type]


def test_tasks_have_one_of_two_modes() -> None:
    with pytest.raises(TaskDefinitionError, match="mode='snyc' must be"):
        Tasks(mode="snyc")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("say", "kind"),
    [
        (lambda: Cron(None), InvalidScheduleError),  # type: ignore[arg-type]
        (lambda: Cron("* * * * *", 5), InvalidScheduleError),  # type: ignore[arg-type]
        (lambda: Tasks().alert(None, "backlog", above=1), TaskDefinitionError),  # type: ignore[arg-type]
        (lambda: Tasks().alert("many", "backlog", above="x"), TaskDefinitionError),  # type: ignore[arg-type]
        (lambda: Tasks().alert("many", ["backlog"], above=1), TaskDefinitionError),  # type: ignore[arg-type]
        (lambda: JobChange(priority=True), InvalidJobError),
        (lambda: JobChange(queue=5), InvalidJobError),  # type: ignore[arg-type]
        (lambda: parse_search(None), SearchError),  # type: ignore[arg-type]
        (lambda: load_tasks(None), SettingsError),  # type: ignore[arg-type]
        (lambda: chain("abc"), InvalidJobError),  # type: ignore[arg-type]
        (lambda: chain([None]), InvalidJobError),  # type: ignore[list-item]
        (lambda: Tasks()[None], UnknownTaskError),  # type: ignore[index]
    ],
)
def test_what_is_of_another_kind_is_refused_in_our_words(say: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        say()


@pytest.mark.parametrize(
    ("payloads", "said"),
    [
        (Greeting("Ada"), "a list of payloads is asked for, and this is a Greeting"),
        ({"name": "Ada"}, "a list of payloads is asked for, and this is a dict"),
        ("Ada", "a list of payloads is asked for, and this is a str"),
        (None, "a list of payloads is asked for, and this is a NoneType"),
    ],
)
def test_many_payloads_that_are_one_are_refused(tasks: Tasks, payloads: Any, said: str) -> None:
    task = tasks.task("greet")(handler)

    with pytest.raises(InvalidJobError, match=said):
        task.enqueue_many(Session(), payloads, workspace_id=WORKSPACE)


def test_many_jobs_that_are_one_or_none_are_refused(tasks: Tasks) -> None:
    job = tasks.task("greet")(handler).new_job(Greeting("Ada"), workspace_id=WORKSPACE)

    with pytest.raises(InvalidJobError, match="a list of jobs is asked for, and this is a NewJob"):
        tasks.enqueue_many(Session(), job)  # type: ignore[arg-type]
    with pytest.raises(InvalidJobError, match="/1: is a dict, and not a job"):
        tasks.enqueue_many(Session(), [job, {"name": "Ada"}])  # type: ignore[list-item]
    with pytest.raises(InvalidJobError, match="/0: is a str, and not a job"):
        tasks.enqueue(Session(), "greet")  # type: ignore[arg-type]


@pytest.mark.parametrize("session", [None, "postgresql://", {}])
def test_jobs_are_enqueued_in_a_session_and_nothing_else(tasks: Tasks, session: Any) -> None:
    job = tasks.task("greet")(handler).new_job(Greeting("Ada"), workspace_id=WORKSPACE)

    with pytest.raises(TypeError, match="the first argument is the Session in whose transaction to enqueue"):
        tasks.enqueue(session, job)


def test_one_a_workspace_means_the_tasks_name_as_the_key(tasks: Tasks) -> None:
    task = tasks.task("greet", unique="workspace")(handler)

    assert task.new_job(Greeting("Ada"), workspace_id=WORKSPACE).unique_key == "greet"


def test_a_key_made_from_the_payload_belongs_to_the_task(tasks: Tasks) -> None:
    task = tasks.task("greet", unique=lambda payload: payload.name)(handler)

    assert task.new_job(Greeting("Ada"), workspace_id=WORKSPACE).unique_key == "greet:Ada"


def test_a_key_function_that_answers_nothing_means_the_whole_workspace(tasks: Tasks) -> None:
    task = tasks.task("greet", unique=lambda _payload: "")(handler)

    assert task.new_job(Greeting("Ada"), workspace_id=WORKSPACE).unique_key == "greet"


def test_a_key_function_may_answer_that_there_is_no_guard(tasks: Tasks) -> None:
    task = tasks.task("greet", unique=lambda _payload: None)(handler)

    assert task.new_job(Greeting("Ada"), workspace_id=WORKSPACE).unique_key is None


@dataclass
class Stream:
    account_id: int = field(metadata={"data_key": "accountId"})
    stream: str = "contacts"
    full: bool = False


def sync_stream(job: RunningJob, payload: Stream) -> None: ...


def test_fields_of_the_payload_make_a_key_by_their_names_in_python_or_json(tasks: Tasks) -> None:
    one = tasks.task("one", unique=("account_id", "stream"))(sync_stream)
    other = tasks.task("other", unique=["accountId", "stream"])(sync_stream)

    keys = [
        one.new_job(Stream(7, full=True), workspace_id=WORKSPACE).unique_key,
        one.new_job({"accountId": 7}, workspace_id=WORKSPACE).unique_key,
        other.new_job({"accountId": 7, "stream": "contacts"}, workspace_id=WORKSPACE).unique_key,
    ]

    assert keys == ['one:[7,"contacts"]', 'one:[7,"contacts"]', 'other:[7,"contacts"]']


def test_fields_that_look_alike_together_are_still_told_apart(tasks: Tasks) -> None:
    task = tasks.task("sync", unique=("a", "b"))(sync_anything)

    keys = {
        task.new_job({"a": a, "b": b}, workspace_id=WORKSPACE).unique_key
        for a, b in [("x,y", "z"), ("x", "y,z"), (1, "1"), ("1", 1), (None, "null"), ("null", None)]
    }

    assert len(keys) == 6


def test_a_key_of_long_fields_is_short_enough_to_be_kept(tasks: Tasks) -> None:
    task = tasks.task("sync", unique=("a",))(sync_anything)

    first = task.new_job({"a": "x" * 10_000}, workspace_id=WORKSPACE).unique_key
    second = task.new_job({"a": "x" * 9_999 + "y"}, workspace_id=WORKSPACE).unique_key

    assert first != second
    assert len(first or "") < 100


def test_a_payload_without_a_field_of_its_key_is_refused_by_place(tasks: Tasks) -> None:
    task = tasks.task("sync", unique=("a",))(sync_anything)

    with pytest.raises(InvalidPayloadError) as refused:
        task.new_job({}, workspace_id=WORKSPACE)

    assert [problem.path for problem in refused.value.problems] == ["/a"]


def test_what_a_task_says_once_need_not_be_said_at_each_enqueue(tasks: Tasks) -> None:
    task = tasks.task("greet", tags=["letters", "slow"])(handler)

    assert task.new_job(Greeting("Ada"), workspace_id=WORKSPACE).tags == ("letters", "slow")
    assert task.new_job(Greeting("Ada"), workspace_id=WORKSPACE, tags=("fast",)).tags == ("fast",)
    assert task.new_job(Greeting("Ada"), workspace_id=WORKSPACE, tags=()).tags == ()


def test_a_task_is_described_by_what_it_says_or_by_its_handler(tasks: Tasks) -> None:
    assert tasks.task("greet")(handler).description == "Say hello."
    assert tasks.task("meet", description="Meet people.")(handler).description == "Meet people."


def test_the_former_name_of_a_retry_policy_still_makes_one(tasks: Tasks) -> None:
    task = tasks.task("greet", retry=Retry(max_attempts=5, base=3))(handler)

    assert task.retry == RetryPolicy(max_attempts=5, base=3)
    assert tasks.task("meet", retry=Retry(), max_attempts=2)(handler).retry == RetryPolicy(max_attempts=2)


def test_an_outcome_is_no_retry_policy(tasks: Tasks) -> None:
    with pytest.raises(TaskDefinitionError, match="RetryPolicy"):
        tasks.task("greet", retry=Retry(after=5))(handler)
    with pytest.raises(TypeError, match="RetryPolicy"):
        Retry(5, max_attempts=3)


def test_a_function_of_attempt_and_exception_comes_with_a_number_of_attempts(tasks: Tasks) -> None:
    task = tasks.task("greet", retry=lambda attempt, _error: 60 * attempt, max_attempts=9)(handler)

    assert task.retry == RetryPolicy(max_attempts=9)


def test_a_payload_that_contains_itself_is_refused_where_it_is_declared(tasks: Tasks) -> None:
    with pytest.raises(TaskDefinitionError, match="contains itself"):
        tasks.task("tree", payload=Tree)(sync_anything)


@dataclass
class Tree:
    children: list[Tree]


def test_many_payloads_that_do_not_fit_are_named_by_their_positions(tasks: Tasks) -> None:
    task = tasks.task("greet")(handler)

    with pytest.raises(InvalidPayloadError) as refused:
        task.enqueue_many(Session(), [{"name": "Ada"}, {"nam": "x"}, {"name": 5}], workspace_id=WORKSPACE)

    assert [problem.path for problem in refused.value.problems] == ["/1/name", "/1/nam", "/2/name"]


def test_a_workspace_is_needed_where_no_job_runs(tasks: Tasks) -> None:
    task = tasks.task("greet")(handler)

    with pytest.raises(InvalidJobError) as refused:
        task.enqueue(Session(), Greeting("Ada"))

    assert [problem.path for problem in refused.value.problems] == ["/workspaceId"]


@pytest.mark.parametrize(
    "first", [Greeting("Ada"), {"name": "Ada"}, create_engine("postgresql+psycopg://"), AsyncSession()]
)
def test_what_is_no_session_is_named_instead_of_a_problem_of_the_payload(tasks: Tasks, first: Any) -> None:
    task = tasks.task("greet")(handler)

    with pytest.raises(TypeError, match=f"Session .* is a {type(first).__name__}"):
        task.enqueue(first, workspace_id=WORKSPACE)


def test_a_task_declared_without_its_name_is_refused(tasks: Tasks) -> None:
    with pytest.raises(TaskDefinitionError, match=r'@tasks.task\("'):
        tasks.task(handler)  # type: ignore[arg-type]


def test_two_tasks_of_one_name_are_refused(tasks: Tasks) -> None:
    tasks.task("greet")(handler)

    with pytest.raises(TaskDefinitionError, match=f"two tasks .* {handler.__module__}.handler is one already"):
        tasks.task("greet")(handler)


def test_a_batch_task_of_the_same_name_is_told_with_where_it_is(tasks: Tasks) -> None:
    @tasks.batch_task("greet", size=2)
    def many(batch: Items[dict[str, Any]]) -> None: ...

    with pytest.raises(TaskDefinitionError, match=f"{__name__}.*many is one already"):
        tasks.task("greet")(handler)


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "Not A Queue"},
        {"priority": 5000},
        {"timeout": datetime.timedelta(days=30)},
        {"timeout": datetime.timedelta(0)},
        {"start_within": datetime.timedelta(0)},
        {"max_attempts": 0},
        {"limit": -1},
        {"limit": 2**31},
        {"limit_per_workspace": True},
        {"resource": "crm:{name}", "limit_per_resource": -1},
        {"resource": "crm:{name}", "limit_per_resource": True},
        {"resource": "crm:{name}", "limit_per_resource": 2**31},
        {"resource": "crm:{name}", "limit_per_resource": Adaptive(1, 2**31)},
        {"payload_version": 0},
        {"payload_version": 40_000},
        {"isolation": "container"},
        {"unique": "everywhere"},
        {"unique": ()},
        {"unique": ("surname",)},
        {"unique": "workspace", "if_active": "refuse"},
        {"if_active": "replace"},
        {"unique_for": datetime.timedelta(minutes=1)},
        {"unique": "workspace", "unique_for": datetime.timedelta(0)},
        {"unique": "workspace", "unique_for": datetime.timedelta(minutes=1), "if_active": "replace"},
        {"retry": 5},
        {"result": int},
        {"tags": ["x"] * 21},
        {"tags": "nightly"},
    ],
)
def test_options_that_no_job_could_have_are_refused_where_they_are_declared(
    tasks: Tasks, options: dict[str, Any]
) -> None:
    with pytest.raises(TaskDefinitionError):
        tasks.task("greet", **options)(handler)


def test_a_name_that_no_task_can_have_is_refused(tasks: Tasks) -> None:
    with pytest.raises(TaskDefinitionError, match="task"):
        tasks.task("Not A Name")(handler)


def test_a_handler_of_another_shape_is_refused(tasks: Tasks) -> None:
    with pytest.raises(TaskDefinitionError, match="two arguments"):
        tasks.task("greet")(lambda _payload: None)  # type: ignore[arg-type, misc]


def test_a_refused_task_is_not_registered(tasks: Tasks) -> None:
    with pytest.raises(TaskDefinitionError):
        tasks.task("greet", payload=int)(handler)

    assert "greet" not in tasks


def test_the_number_of_attempts_replaces_only_that_of_the_policy(tasks: Tasks) -> None:
    task = tasks.task("greet", retry=RetryPolicy(wait="fibo"), max_attempts=9)(handler)

    assert task.retry == RetryPolicy(wait="fibo", max_attempts=9)


def test_the_catalogue_says_what_a_worker_needs_without_importing_a_task(tasks: Tasks) -> None:
    async def slow(job: RunningJob, payload: dict[str, Any]) -> None: ...

    minute_and_a_half = datetime.timedelta(seconds=90)
    tasks.task("slow", queue="big", timeout=datetime.timedelta(seconds=1.5), start_within=minute_and_a_half)(slow)
    tasks.task("greet")(handler)

    assert tasks.catalogue() == [
        {
            "name": "greet",
            "queue": "default",
            "timeout_ms": 600_000,
            "start_within_ms": None,
            "retry": RetryPolicy().as_dict(),
            "payload_version": 1,
            "limit": None,
            "limit_per_workspace": None,
            "resource_limits": {},
            "isolation": "thread",
            "batch": None,
            "priority": 0,
            "encrypted": False,
            "if_active": "return",
            "unique_for": None,
            "is_async": False,
            "keep": {"completed": None, "failed": None, "cancelled": None},
            "description": "Say hello.",
            "tags": [],
            "payload_schema": {
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
                "additionalProperties": False,
            },
        },
        {
            "name": "slow",
            "queue": "big",
            "timeout_ms": 1500,
            "start_within_ms": 90_000,
            "retry": RetryPolicy().as_dict(),
            "payload_version": 1,
            "limit": None,
            "limit_per_workspace": None,
            "resource_limits": {},
            "isolation": "thread",
            "batch": None,
            "priority": 0,
            "encrypted": False,
            "if_active": "return",
            "unique_for": None,
            "is_async": True,
            "keep": {"completed": None, "failed": None, "cancelled": None},
            "description": None,
            "tags": [],
            "payload_schema": {"type": "object"},
        },
    ]


def test_the_queues_are_those_that_the_tasks_name_and_the_default(tasks: Tasks) -> None:
    tasks.task("greet", queue="letters")(handler)

    assert tasks.queues() == ["default", "letters"]


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("an_application")
    monkeypatch.setitem(sys.modules, "an_application", module)
    return module


def test_tasks_are_loaded_from_where_the_application_keeps_them(application: types.ModuleType, tasks: Tasks) -> None:
    application.tasks = tasks  # type: ignore[attr-defined]

    assert load_tasks("an_application:tasks") is tasks


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("x = 1\n1 / 0\n", r"failed, \S+some_tasks\.py, line 2: ZeroDivisionError: division by zero"),
        ("x = 1\n\ndef f(:\n", r"failed, \S+some_tasks\.py, line 3: SyntaxError: "),
        ("[].append_all(1)\n", r"failed, \S+some_tasks\.py, line 1: AttributeError: "),
        ("import no_such_module_anywhere\n", r"cannot import some_tasks: No module named 'no_such_module_anywhere'\Z"),
    ],
)
def test_a_module_of_tasks_that_fails_when_it_is_imported_is_named_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, what: str
) -> None:
    (tmp_path / "some_tasks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(SettingsError, match=what):
        load_tasks("some_tasks:tasks")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("no_such_module_anywhere:tasks", "cannot import no_such_module_anywhere"),
        ("an_application:taks", "has no attribute 'taks'; did you mean 'tasks'?"),
        ("an_application:number", "is a int, not a Tasks; did you mean 'tasks'?"),
    ],
)
def test_tasks_that_cannot_be_loaded_say_what_to_correct(
    application: types.ModuleType, tasks: Tasks, name: str, what: str
) -> None:
    application.number = 5  # type: ignore[attr-defined]
    application.tasks = tasks  # type: ignore[attr-defined]

    with pytest.raises(SettingsError, match=re.escape(what)):
        load_tasks(name)


@pytest.mark.parametrize("name", ["no_such_module_anywhere", "no_such_package.tasks", "jobplatform.no_such_module"])
def test_a_module_of_tasks_that_is_not_there_is_told_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SettingsError) as refused:
        load_tasks(f"{name}:tasks")

    assert f"in the current folder, {tmp_path}, and in what {sys.executable} has installed" in str(refused.value)


def test_a_current_folder_that_is_gone_is_no_reason_to_say_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "release-1"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(SettingsError, match=r"cannot import no_such_module_anywhere.*not there any more"):
        load_tasks("no_such_module_anywhere:tasks")
