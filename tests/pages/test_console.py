"""Every page of the console with something on it, and everything that can be done there, without a script."""

from __future__ import annotations

import datetime
import re
import uuid
from typing import Any

import pytest
from sqlalchemy import text

from jobplatform.models import Connection, Hook, SyncLog, WebhookSubscription, Workspace, clock
from jobplatform.pages.console.overview import LEADS
from jobplatform.queue import (
    Cron,
    Every,
    Tasks,
    continue_bulk,
    count_endings,
    create_schedule,
    declare_resource_limits,
    end_late_jobs,
    list_jobs,
    pause,
    record,
    set_resource_limit,
)
from tests.api.conftest import Hand
from tests.pages.conftest import Enqueue, Sessions, Visitor, audited, complaint_about, notice_of, scalar

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"{{7*9001}}"


@pytest.fixture
def failed(enqueue: Enqueue, hand: Hand, acme: uuid.UUID) -> uuid.UUID:
    job_id = enqueue("fail")
    hand.fail(acme, str(job_id))
    return job_id


PAGES = (
    "/", "/?span=7d", "/jobs", "/jobs?q=task:echo&status=failed", "/errors", "/bulk", "/workspaces",
    "/workspaces?sort=share&q=acme", "/workspaces/plans", "/queues", "/schedules", "/schedules/new", "/workers",
    "/tasks", "/tasks/echo", "/tasks/echo/new", "/connections", "/connections/syncs",
    "/connections/hooks", "/connections/webhooks", "/audit",
    "/audit?action=job.retry", "/health", "/resources", "/alerts",
)  # fmt: skip


def test_every_page_of_an_empty_installation_says_so(operator: Visitor) -> None:
    for path in PAGES:
        answer = operator.get(path)
        # No worker has described a task yet.
        assert answer.status_code == (404 if path.startswith("/tasks/") else 200), path
        assert "<h1>" in answer.text, path


def test_workspaces_without_work_are_not_said_to_be_none(
    operator: Visitor, acme: uuid.UUID, sessions: Sessions
) -> None:
    for sort, words in {"backlog": "No job waits", "share": "No job ran in", "failed": "No job failed in"}.items():
        page = operator.get(f"/workspaces?sort={sort}")
        assert words in page.text
        assert "No workspaces yet" not in page.text
        assert 'href="/console/workspaces?sort=id">All workspaces</a>' in page.text

    assert str(acme) in operator.get("/workspaces?sort=id").text


def hook_of(workspace_id: uuid.UUID, name: str) -> Hook:
    of_its_own = {"key_hash": uuid.uuid4().bytes * 2, "secret": '{"$sealed": "v1"}'}
    return Hook(
        workspace_id=workspace_id, id=uuid.uuid4(), name=name, scheme="github", task="echo", made_by="x", **of_its_own
    )


def webhook_of(workspace_id: uuid.UUID, name: str) -> WebhookSubscription:
    return WebhookSubscription(
        workspace_id=workspace_id,
        id=uuid.uuid4(),
        name=name,
        url="https://crm.example.com/a-secret-path",
        events=["job.failed"],
        secret='{"$sealed": "v1"}',
        made_by="x",
    )


@pytest.fixture
def furnished(
    sessions: Sessions, tasks: Tasks, enqueue: Enqueue, hand: Hand, failed: uuid.UUID, acme: uuid.UUID
) -> uuid.UUID:
    """Something on every page, with names that mean harm."""
    with sessions.begin() as session:
        session.execute(text("update jobplatform.workspaces set name = :name"), {"name": EVIL})
        create_schedule(
            session, tasks["echo"], Every(datetime.timedelta(hours=1)), workspace_id=acme, name=EVIL, made_by=EVIL
        )
        session.add(Connection(workspace_id=acme, id=uuid.uuid4(), connector_type="http_json", name=EVIL, config={}))
        session.add(hook_of(acme, EVIL))
        session.add(webhook_of(acme, EVIL))
        session.execute(
            text("insert into jobplatform.pauses (kind, key, reason, actor) values ('resource', :what, :what, :what)"),
            {"what": EVIL},
        )
    enqueue("echo", {EVIL: EVIL}, tags=[EVIL], unique_key=EVIL)
    enqueue("add", {"left": 1, "right": 2}, delay=3600)
    done = enqueue("echo", {"password": "hunter2"})
    hand.complete(acme, str(done), '{"token": "hunter3", "said": "<b>bold</b>"}')
    hand.claim(acme, str(enqueue("sync")))
    return done


def test_every_page_shows_what_there_is_as_text(operator: Visitor, furnished: uuid.UUID) -> None:
    for path in PAGES:
        answer = operator.get(path)
        assert answer.status_code == 200 or path.startswith("/tasks/"), path
        assert not [harm for harm in ("<script>alert", "<img src=x", ">63007") if harm in answer.text], path
        ids = re.findall(r'\sid="([^"]+)"', answer.text)
        assert len(ids) == len(set(ids)), path


def test_a_job_s_page_shows_all_of_it_without_its_secrets(
    operator: Visitor, furnished: uuid.UUID, failed: uuid.UUID, acme: uuid.UUID
) -> None:
    page = operator.get(f"/jobs/{acme}/{furnished}").text

    assert "[redacted]" in page
    assert "hunter" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    page = operator.get(f"/jobs/{acme}/{failed}").text
    assert "the far side said no" in page
    assert "RuntimeError" in page
    assert "Traceback …" in page


def test_a_waiting_job_says_why(operator: Visitor, enqueue: Enqueue, acme: uuid.UUID) -> None:
    page = operator.get(f"/jobs/{acme}/{enqueue()}").text

    assert "Why it is not running yet" in page
    assert "worker" in page.split("Why it is not running yet")[1].split("</section>")[0]


def test_a_job_says_by_when_it_has_to_begin_and_afterwards_that_it_was_too_late(
    operator: Visitor, enqueue: Enqueue, acme: uuid.UUID, sessions: Sessions
) -> None:
    job_id = enqueue(start_within=datetime.timedelta(minutes=1))
    waiting = operator.get(f"/jobs/{acme}/{job_id}").text
    with sessions.begin() as session:
        session.execute(text("update jobplatform.job_queue set start_by = jobplatform.clock()"))
        end_late_jobs(session)
    over = operator.get(f"/jobs/{acme}/{job_id}").text

    assert "it will not be started after" in waiting
    assert "<dt>To start within</dt><dd>1 min" in waiting
    assert "TooLate" in over.split('id="errors"')[1].split("</section>")[0]
    assert "it was to begin by" in over


def test_of_a_job_that_went_well_its_page_says_where_it_ran(
    operator: Visitor, enqueue: Enqueue, hand: Hand, acme: uuid.UUID
) -> None:
    job_id = enqueue()
    hand.complete(acme, str(job_id))

    page = operator.get(f"/jobs/{acme}/{job_id}").text

    assert ">localhost:1</td>" in page
    assert "<dt>Worker</dt><dd>localhost:1</dd>" in page


def test_a_job_that_waits_for_another_leads_to_it(operator: Visitor, enqueue: Enqueue, acme: uuid.UUID) -> None:
    first = enqueue()

    page = operator.get(f"/jobs/{acme}/{enqueue(after=[first])}").text

    why = page.split("Why it is not running yet")[1].split("</section>")[0]
    assert f'href="/console/jobs/{acme}/{first}"' in why


def test_a_failed_job_leads_to_all_that_failed_like_it(
    operator: Visitor, sessions: Sessions, failed: uuid.UUID, enqueue: Enqueue, hand: Hand, acme: uuid.UUID
) -> None:
    other, waiting = enqueue("fail"), enqueue()
    hand.fail(acme, str(other))
    with sessions.begin() as session:
        count_endings(session)

    page = operator.get(f"/jobs/{acme}/{failed}").text
    (search,) = re.findall(r'href="/console(/jobs\?q=error[^"]+)"', page)

    found = operator.get(search).text
    assert str(failed) in found
    assert str(other) in found
    assert str(waiting) not in found


def test_a_timeline_says_what_its_colours_are(operator: Visitor, failed: uuid.UUID, acme: uuid.UUID) -> None:
    legend = (
        operator.get(f"/jobs/{acme}/{failed}").text.split('id="life"')[1].split('class="legend"')[1].split("</p>")[0]
    )

    assert "ran, and went wrong" in legend
    assert "ran, and went well" not in legend


def test_an_alert_leads_to_what_it_is_about(operator: Visitor, enqueue: Enqueue) -> None:
    enqueue()

    banner = operator.get("/").text.split('id="alerts"')[1].split("</div>")[0]

    assert "no worker is alive" in banner
    assert 'href="/console/workers"' in banner
    for view in {view for view, _ in LEADS.values()}:
        assert f"console.{view}" in operator.http.application.view_functions


def test_a_search_that_is_none_says_what_is_wrong_and_keeps_what_was_typed(operator: Visitor) -> None:
    answer = operator.get("/jobs?q=taks:sync+%3Cb%3E")

    assert answer.status_code == 400
    assert "task" in answer.text.split('id="q-complaint"')[1].split("</p>")[0]
    assert 'value="taks:sync &lt;b&gt;"' in answer.text


def test_jobs_are_found_by_state_and_by_what_is_searched_for(
    operator: Visitor, failed: uuid.UUID, enqueue: Enqueue, acme: uuid.UUID
) -> None:
    other = enqueue("add", {"left": 1, "right": 2})

    assert str(failed) in operator.get("/jobs?status=failed").text
    assert str(other) not in operator.get("/jobs?status=failed").text
    assert str(other) in operator.get(f"/jobs?q=workspace:{acme} task:add").text
    assert "No job fits" in operator.get("/jobs?q=task:nothing").text


def test_a_new_job_is_made_from_one_that_has_ended_where_the_form_says(
    operator: Visitor, enqueue: Enqueue, hand: Hand, acme: uuid.UUID, sessions: Sessions
) -> None:
    old = enqueue("echo", {"n": 1})
    assert "Fork</summary>" not in operator.get(f"/jobs/{acme}/{old}").text
    hand.fail(acme, str(old), steps={"one": 1, "<two>": 2})
    page = operator.get(f"/jobs/{acme}/{old}").text
    assert '<option value="step:&lt;two&gt;">again from &lt;two&gt;</option>' in page

    refused = operator.do("/fork", payload="{n")
    operator.get(f"/jobs/{acme}/{old}")
    assert operator.do("/fork", begin="step:<two>", payload='{"n": 2}') == "This is the new job."

    assert refused.startswith("The payload is not JSON")
    rows = "select payload, parent_id, (select array_agg(name) from jobplatform.job_steps where job_id = r.id) "
    with sessions() as session:
        (new,) = session.execute(text(rows + "from jobplatform.job_records r where parent_id is not null")).all()
    assert new == ({"n": 2}, old, ["one"])
    assert audited(sessions) == [("job.fork", "a test")]


def test_nobody_is_offered_another_job_of_the_platform_s_own(
    operator: Visitor, enqueue: Enqueue, hand: Hand, acme: uuid.UUID, sessions: Sessions
) -> None:
    old = enqueue("echo", {"n": 1})
    hand.fail(acme, str(old))
    page = operator.get(f"/jobs/{acme}/{old}").text
    assert "Fork</summary>" in page
    assert "Enqueue again" in page
    with sessions.begin() as session:
        session.execute(text("update jobplatform.job_records set task = 'jobplatform.webhook'"))

    page = operator.get(f"/jobs/{acme}/{old}").text

    assert "Retry" in page
    assert "Fork</summary>" not in page
    assert "Enqueue again" not in page


def test_a_failed_job_is_retried_cancelled_run_now_and_enqueued_again(
    operator: Visitor, failed: uuid.UUID, enqueue: Enqueue, acme: uuid.UUID, sessions: Sessions
) -> None:
    here = f"/jobs/{acme}/{failed}"
    operator.get(here)
    assert operator.do("/retry") == "The job is pending again, with all its attempts ahead of it."
    assert operator.do("/cancel") == "The job is cancelled."
    later = enqueue("echo", {"n": 2**60}, delay=3600, priority=3, tags=["x"], start_within=datetime.timedelta(hours=1))
    operator.get(f"/jobs/{acme}/{later}")
    assert operator.do("/run-now") == "The job is ready to run."
    form = operator.form("/enqueue-again")
    for _ in range(2):
        # Sent twice, by an impatient hand.
        answer = operator.http.post(form.action, data=form.fields, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 303

    with sessions() as session:
        rows = session.execute(
            text("select payload, priority, tags, start_within_ms from jobplatform.job_records where task = 'echo'")
        ).all()
    assert rows == [({"n": 2**60}, 3, ["x"], 3_600_000)] * 2
    by = {actor for _, actor in audited(sessions)}
    assert [action for action, _ in audited(sessions)] == ["job.retry", "job.cancel", "job.run_now", "job.enqueue"]
    assert by == {"a test"}


def test_a_job_that_waits_is_changed(
    operator: Visitor, enqueue: Enqueue, hand: Hand, acme: uuid.UUID, sessions: Sessions
) -> None:
    job_id = enqueue("echo", priority=3)
    page = operator.get(f"/jobs/{acme}/{job_id}").text
    assert 'placeholder="3"' in page

    assert operator.do("/change", priority="-7", queue="slow", run_after="2031-01-01T06:00") == "The job is changed."

    with sessions() as session:
        rows = session.execute(text("select priority, queue, run_after::text from jobplatform.jobs")).all()
    assert rows == [(-7, "slow", "2031-01-01 06:00:00+00")]
    assert operator.do("/change", at_once="true") == "The job is changed."
    form = operator.form("/change")
    hand.claim(acme, str(job_id))
    assert notice_of(operator.follow(operator.http.post(
        form.action, data={**form.fields, "priority": "1"}, headers={"Sec-Fetch-Site": "same-origin"}
    ))) == "The job is running and cannot be changed."  # fmt: skip
    assert 'id="change"' not in operator.get(f"/jobs/{acme}/{job_id}").text
    assert audited(sessions) == [("job.change", "a test")] * 2


def test_what_a_waiting_job_cannot_be_changed_to_is_said_beside_what_was_typed(
    operator: Visitor, enqueue: Enqueue, acme: uuid.UUID, sessions: Sessions
) -> None:
    job_id = enqueue("echo")
    here = f"/jobs/{acme}/{job_id}"

    operator.get(here)
    operator.page = operator.send("/change", priority="2.5", queue="No", run_after="tomorrow")
    assert (operator.page.status_code, '<details class="pop" name="pop" id="change" open>' in operator.page.text) == (
        422,
        True,
    )
    assert "Must be a whole number." in complaint_about("change-priority", operator)
    assert "Must be lower-case letters" in complaint_about("change-queue", operator)
    assert "Write it as 2031-01-01T06:00, in UTC." in complaint_about("change-run_after", operator)
    fields = operator.form("/change").fields
    assert (fields["priority"], fields["queue"], fields["run_after"]) == ("2.5", "No", "tomorrow")
    # As somebody sends it for whom the page is the form again.
    assert (
        operator.do("/change", priority="2", queue="yes", run_after="2031-01-01T06:00+02:00") == "The job is changed."
    )
    with sessions() as session:
        rows = session.execute(text("select priority, queue, run_after::text from jobplatform.jobs")).all()
    assert rows == [(2, "yes", "2031-01-01 04:00:00+00")]

    operator.get(here)
    operator.page = operator.send("/change")
    assert "Say what is to be different: the priority, the queue or the moment." in operator.page.text
    operator.page = operator.send("/change", run_after="2031-01-01T06:00", at_once="true")
    assert "At once, or not before a moment" in complaint_about("change-run_after", operator)
    operator.send("/cancel")
    late = operator.send("/change", priority="2.5")
    assert (late.status_code, "The job is cancelled and cannot be changed." in late.text) == (422, True)
    assert [action for action, _ in audited(sessions)] == ["job.change", "job.cancel"]


def test_what_cannot_be_done_is_said(
    operator: Visitor, enqueue: Enqueue, hand: Hand, acme: uuid.UUID, sessions: Sessions
) -> None:
    job_id = enqueue()
    operator.get(f"/jobs/{acme}/{job_id}")
    hand.complete(acme, str(job_id))

    assert operator.do("/cancel") == "The job is completed and cannot be cancelled."
    assert audited(sessions) == []


def test_selected_jobs_are_retried_and_the_rest_is_explained(
    operator: Visitor, failed: uuid.UUID, enqueue: Enqueue, acme: uuid.UUID, sessions: Sessions
) -> None:
    alive = enqueue()
    operator.get("/jobs?q=workspace:" + str(acme))

    said = operator.do("/jobs/selected", deed="retry", job=[f"{acme}/{failed}", f"{acme}/{alive}"])

    assert said == "1 job pending again. 1 job left: The job is pending and cannot be retried."
    assert operator.page is not None
    assert operator.page.request.query_string.decode() == f"q=workspace:{acme}"
    assert audited(sessions) == [("job.retry", "a test")]


def test_all_that_match_are_shown_first_and_then_handed_to_workers(
    operator: Visitor, failed: uuid.UUID, sessions: Sessions
) -> None:
    operator.get("/bulk/preview?deed=retry&q=task:fail")
    assert operator.page is not None
    assert "Retry 1 job?" in " ".join(operator.page.text.split())

    answer = operator.follow(operator.send("/bulk/begin"))

    assert "waiting" in answer.text
    assert audited(sessions) == [("bulk.retry", "a test")]
    assert operator.do("/stop") == "No more jobs are taken."
    assert audited(sessions)[1:] == [("bulk.stop", "a test")]
    assert "Retry" in operator.get("/bulk").text


def test_all_that_wait_are_shown_first_and_then_changed_by_workers(
    operator: Visitor, enqueue: Enqueue, sessions: Sessions
) -> None:
    enqueue("echo", queue="slow")
    assert "/bulk/preview?deed=change" in operator.get("/jobs?q=queue:slow&status=pending").text
    operator.get("/bulk/preview?deed=change&q=queue:slow")
    assert operator.page is not None
    assert "Change 1 job?" in " ".join(operator.page.text.split())

    assert "Change 1 job<" in operator.page.text
    nothing = operator.send("/bulk/begin")
    wrong = operator.page = operator.send("/bulk/begin", priority="2.5", queue="No")
    assert "Must be a whole number." in complaint_about("change-priority", operator)
    assert "Must be lower-case letters" in complaint_about("change-queue", operator)
    assert operator.form("/bulk/begin").fields["queue"] == "No"
    answer = operator.follow(operator.send("/bulk/begin", priority="5", queue="fast", run_after="2031-01-01T06:00"))

    assert (nothing.status_code, wrong.status_code) == (422, 422)
    assert "Say what is to be different: the priority, the queue or the moment." in nothing.text
    said = "priority 5, queue fast, not before 2031-01-01T06:00:00+00:00"
    assert said in answer.text
    assert said in operator.get("/bulk").text
    assert audited(sessions) == [("bulk.change", "a test")]
    with sessions() as session:
        while continue_bulk(session):
            session.commit()
        session.commit()
        rows = session.execute(text("select priority, queue, run_after::text from jobplatform.jobs")).all()
    assert rows == [(5, "fast", "2031-01-01 06:00:00+00")]


def test_selected_jobs_are_deleted_by_workers(
    operator: Visitor, failed: uuid.UUID, acme: uuid.UUID, sessions: Sessions
) -> None:
    operator.get("/jobs")

    page = operator.follow(operator.send("/jobs/selected", deed="delete", job=f"{acme}/{failed}"))

    assert f"id:{failed}" in page.text
    assert audited(sessions) == [("bulk.delete", "a test")]


def test_a_bulk_action_that_cannot_be_says_why(operator: Visitor) -> None:
    for query in ("deed=retry&q=nonsense:1", "deed=explode&q=", "deed=retry&q=status:running"):
        answer = operator.get("/bulk/preview?" + query)
        assert (answer.status_code, "Nothing to do" in answer.text) == (400, True), query


def test_a_workspace_s_limits_are_changed_and_what_is_wrong_with_them_is_said(
    operator: Visitor, enqueue: Enqueue, acme: uuid.UUID, sessions: Sessions
) -> None:
    enqueue()
    operator.get(f"/workspaces/{acme}")

    assert operator.do("/limits", max_running="20", weight="5") == "The limits count from the next claim on."
    operator.page = operator.send("/limits", max_running="many", weight="6")
    assert operator.page.status_code == 422
    assert "whole number" in complaint_about("max_running", operator)
    assert (operator.form("/limits").fields["max_running"], operator.form("/limits").fields["weight"]) == ("many", "6")
    with sessions() as session:
        limits = session.execute(text("select weight, max_running from jobplatform.workspace_limits")).one()
    assert limits == (5, 20)
    assert operator.do(f"/workspaces/{acme}/pause", reason="unpaid").startswith("Nothing more of this workspace")
    # Also from the page that showed the form again, it is the workspace's own page that one comes back to.
    assert operator.page.request.path == f"/console/workspaces/{acme}"
    assert "unpaid" in operator.page.text
    assert operator.do(f"/workspaces/{acme}/resume") == "The workspace goes on."
    assert [action for action, _ in audited(sessions)] == ["workspace.limit", "workspace.pause", "workspace.resume"]


def test_a_queue_is_limited_paused_and_resumed(operator: Visitor, enqueue: Enqueue, sessions: Sessions) -> None:
    enqueue()
    operator.get("/queues")

    assert operator.do("/queues/default/limit", max_running="3") == "At most 3 jobs of default run at a time."
    assert operator.do("/queues/default/limit", max_running="") == "default has no limit."
    operator.page = operator.send("/queues/default/limit", max_running="x")
    assert operator.page.status_code == 422
    assert operator.form("/queues/default/limit").fields["max_running"] == "x"
    assert 'role="alert"' in operator.page.text
    assert operator.do("/queues/default/pause", reason="r") == (
        "Nothing more of default is started. What runs goes on to its end."
    )
    assert operator.do("/queues/default/resume") == "default goes on."
    assert [action for action, _ in audited(sessions)] == ["queue.limit", "queue.limit", "queue.pause", "queue.resume"]


def test_a_task_is_limited_in_all_and_in_each_workspace(operator: Visitor, described: None, sessions: Sessions) -> None:
    operator.get("/tasks/add")

    assert operator.do("/tasks/add/limits", max_running="7", max_running_per_workspace="1") == (
        "The limits count from the next claim on."
    )
    assert operator.form("/tasks/add/limits").fields["max_running"] == "7"
    operator.page = operator.send("/tasks/add/limits", max_running="some")
    assert "whole number" in complaint_about("max_running", operator)
    assert operator.form("/tasks/add/limits").fields["max_running"] == "some"
    operator.do("/tasks/add/limits", max_running="")

    limits = "select row(max_running, max_running_per_workspace)::text from jobplatform.task_limits where task = 'add'"
    assert scalar(sessions, limits) == "(,1)"
    assert [action for action, _ in audited(sessions)] == ["task.limit", "task.limit"]


def test_a_resource_gets_a_rate_that_is_changed_and_lifted_and_is_paused(operator: Visitor, sessions: Sessions) -> None:
    operator.get("/resources")
    assert operator.do("/resources", resource="hub spot/é:*", units="1,000", period_ms="10 s") == (
        "hub spot/é:* has a rate now."
    )
    assert operator.page is not None
    assert "1,000 in 10 s" in " ".join(operator.page.text.split())
    assert operator.form("/rate").fields["period_ms"] == "10 s"
    operator.page = operator.send("/resources", resource="hub spot/é:*", units="1", period_ms="1 s")
    assert (operator.page.status_code, "has a rate already" in operator.page.text) == (422, True)
    operator.page = operator.send("/resources", resource="other:*", units="none")
    assert operator.page.status_code == 422
    assert 'value="none"' in operator.page.text

    operator.get("/resources")
    assert operator.do("/rate", units="50", burst="5").endswith("counts from the next claim on.")
    refused = operator.page = operator.send("/rate", units="", burst="some")
    assert refused.status_code == 422
    assert refused.text.count('aria-invalid="true"') == 2
    assert "This is needed." in refused.text
    assert operator.form("/rate").fields["burst"] == "some"
    assert operator.do("/resources/pause", reason="it is down").startswith("Nothing more of hub spot/é:* is started.")
    assert "it is down" in operator.page.text
    assert operator.do("/resources/resume") == "hub spot/é:* goes on."
    rate = "select row(units, period_ms, burst)::text from jobplatform.rate_limits"
    assert scalar(sessions, rate) == "(50,10000,5)"
    assert operator.do("/rate/delete") == "Jobs may use hub spot/é:* as often as they like."
    assert scalar(sessions, "select count(*) from jobplatform.rate_limits") == 0
    actions = ["rate.set", "rate.set", "resource.pause", "resource.resume", "rate.clear"]
    assert [action for action, _ in audited(sessions)] == actions


@pytest.mark.parametrize("period", ["1000", "10 weeks", "1.5 s", "-1 s", "0 s", "400 d", "s"])
def test_a_period_is_written_with_its_unit_and_how_is_said(
    operator: Visitor, acme: uuid.UUID, sessions: Sessions, period: str
) -> None:
    operator.get("/resources")
    operator.page = operator.send("/resources", resource="other:*", units="--5", period_ms=period)
    assert operator.page.status_code == 422
    assert "Must be a whole number." in complaint_about("new-units", operator)
    assert "Write it as 90 s, 15 min, 2 h or 1 d." in complaint_about("new-period_ms", operator)
    assert operator.form("/resources").fields["period_ms"] == period

    operator.get(f"/workspaces/{acme}")
    operator.page = operator.send("/limits", rate_units="5", rate_period_ms=period)
    assert "Write it as 90 s, 15 min, 2 h or 1 d." in complaint_about("rate_period_ms", operator)
    assert operator.do("/limits", rate_units="5", rate_period_ms="90 s") == "The limits count from the next claim on."
    assert scalar(sessions, "select rate_period_ms from jobplatform.workspace_limits") == 90_000
    assert operator.form("/limits").fields["rate_period_ms"] == "90 s"


def test_a_comma_counts_between_thousands_and_is_never_left_out_of_another_number(
    operator: Visitor, described: None, acme: uuid.UUID, sessions: Sessions
) -> None:
    operator.get("/tasks/add")
    wrong = operator.page = operator.send("/tasks/add/limits", max_running="1,5")
    assert (wrong.status_code, "Must be a whole number" in complaint_about("max_running", operator)) == (422, True)
    assert 'value="1,5"' in wrong.text
    assert operator.send("/tasks/add/limits", max_running="12,345").status_code == 303

    rules = f"/workspaces/{acme}/alerts"
    operator.get(rules)
    wrong = operator.page = operator.send(rules, name="slow", metric="oldest_ready_seconds", above="0,5")
    assert (wrong.status_code, "Not a valid number" in complaint_about("new-above", operator)) == (422, True)
    operator.get(rules)
    assert operator.send(rules, name="slow", metric="oldest_ready_seconds", above="1,234.5").status_code == 303

    assert scalar(sessions, "select max_running from jobplatform.task_limits") == 12_345
    assert scalar(sessions, "select above from jobplatform.workspace_alert_rules") == 1234.5


def test_a_resource_gets_a_limit_that_is_changed_and_cleared(operator: Visitor, sessions: Sessions) -> None:
    operator.get("/resources")
    assert operator.do("/resources/limit", resource="account/é:*", max_running="1") == "account/é:* has a limit now."
    taken = operator.page = operator.send("/resources/limit", resource="account/é:*", max_running="2")
    assert (taken.status_code, "has a limit already" in taken.text) == (422, True)
    refused = operator.page = operator.send("/resources/limit", resource="other:*", max_running="some")
    assert refused.status_code == 422
    assert operator.form("/resources/limit").fields["max_running"] == "some"

    operator.get("/resources")
    assert operator.do("/limit/change", max_running="3").endswith("counts from the next claim on.")
    limit = "select row(resource, max_running)::text from jobplatform.resource_limits"
    assert scalar(sessions, limit) == "(account/é:*,3)"
    refused = operator.page = operator.send("/limit/change", max_running="-1")
    assert (refused.status_code, refused.text.count('aria-invalid="true"')) == (422, 1)
    operator.get("/resources")
    operator.do("/limit/change", max_running="")
    assert scalar(sessions, limit) == "(account/é:*,)"
    operator.do("/limit/clear")
    assert scalar(sessions, "select count(*) from jobplatform.resource_limits") == 0
    actions = ["resource.limit", "resource.limit", "resource.limit", "resource.clear_limit"]
    assert [action for action, _ in audited(sessions)] == actions


def test_a_resource_s_limit_is_made_adaptive_and_shows_what_it_has_come_to(
    operator: Visitor, sessions: Sessions
) -> None:
    operator.get("/resources")
    assert operator.do("/resources/limit", resource="crm:*", max_running="50", min_running="1").endswith("a limit now.")
    lowered = "insert into jobplatform.resource_levels values ('crm:1', 7.9, now(), now(), 'too often')"
    with sessions.begin() as session:
        session.execute(text(lowered))

    page = operator.get("/resources").text

    assert "1 to 50" in page
    assert "7 now, between 1 and 50; lowered" in page
    assert "too often" in page
    refused = operator.page = operator.send("/limit/change", max_running="5", min_running="6")
    assert (refused.status_code, refused.text.count('aria-invalid="true"')) == (422, 1)
    operator.get("/resources")
    operator.do("/limit/change", max_running="5", min_running="")
    assert scalar(sessions, "select min_running from jobplatform.resource_limits") is None


def test_a_resource_s_limit_in_code_is_brought_back_by_a_click(operator: Visitor, sessions: Sessions) -> None:
    with sessions.begin() as session:
        declare_resource_limits(session, {"account:*": 1}, "app:tasks")
        set_resource_limit(session, "account:*", 5)

    page = operator.get("/resources").text

    assert "the code says 1" in page
    operator.do("/limit/clear")
    assert scalar(sessions, "select max_running from jobplatform.resource_limits") == 1
    assert "As in the code" not in operator.get("/resources").text


def test_a_resource_that_is_not_to_be_asked_says_until_when(operator: Visitor, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(
            text(
                "insert into jobplatform.buckets (kind, key, tokens, filled_at, closed_until, failures) "
                "values ('resource', 'crm:1', 0, now(), now() + interval '1 hour', 3)"
            )
        )

    page = operator.get("/resources").text

    assert "crm:1" in page
    assert "not to be asked" in page
    assert 'data-th="Failures in a row">3</td>' in page


def test_a_schedule_is_paused_resumed_and_run_now(
    operator: Visitor, tasks: Tasks, acme: uuid.UUID, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        create_schedule(
            session, tasks["echo"], Every(datetime.timedelta(hours=1)), workspace_id=acme, name="hourly", made_by="x"
        )
    operator.get("/schedules")

    assert operator.do("/pause") == "It is paused: no more of its ticks are done."
    assert operator.do("/resume") == "Its ticks are done again, from now on."
    assert operator.do("/run-now") == "A job was enqueued."
    actions = ["schedule.pause", "schedule.resume", "schedule.run_now"]
    assert [action for action, _ in audited(sessions)] == actions
    page = operator.get(operator.get("/schedules").text.split('class="strong" href="')[1].split('"')[0])
    assert "every hour" in page.text.lower()
    assert page.text.count("<li>") == 5


def test_a_schedule_whose_rule_cannot_be_read_here_hides_no_other_and_gets_another_rule(
    operator: Visitor, member: Visitor, tasks: Tasks, acme: uuid.UUID, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        for name in ("broken", "hourly"):
            create_schedule(session, tasks["echo"], Cron("0 * * * *"), workspace_id=acme, name=name, made_by="x")
        session.execute(text("update jobplatform.schedules set timezone = 'Mars/Olympus' where name = 'broken'"))

    for lists in (operator.get("/schedules"), member.get("/schedules")):
        assert (lists.status_code, "hourly" in lists.text) == (200, True)
        assert "rule cannot be read: /timezone: &#39;Mars/Olympus&#39; is not a time zone" in lists.text
    page = operator.get(operator.get("/schedules").text.split('class="strong" href="')[1].split('"')[0])
    assert (page.status_code, "None while its rule cannot be read." in page.text) == (200, True)

    operator.get(page.text.split("/edit")[0].rpartition('"')[2] + "/edit")
    page = operator.follow(operator.send("/edit", timezone="Europe/Berlin"))
    assert "The schedule is changed." in page.text
    assert page.text.count("<li>") == 5


def test_a_workspace_s_charts_go_back_as_far_as_those_of_all(
    operator: Visitor, enqueue: Enqueue, acme: uuid.UUID
) -> None:
    enqueue()

    for span, said in (("24h", "last 24 hours"), ("7d", "last 7 days"), ("30d", "last 30 days")):
        page = operator.get(f"/workspaces/{acme}?span={span}").text
        assert f"Throughput, {said}" in page
        assert f'span={span}" aria-current="true"' in page


def test_plans_are_made_changed_and_deleted(operator: Visitor, acme: uuid.UUID, sessions: Sessions) -> None:
    operator.get("/workspaces/plans")
    assert operator.do("/plans", name="gold & silver", weight="5", max_running="1,000") == (
        "There is a plan gold & silver now."
    )
    operator.page = operator.send("/plans", name="gold & silver", weight="6")
    assert operator.page.status_code == 422
    assert "There is a plan gold &amp; silver already." in operator.page.text
    operator.page = operator.send("/plans", name="gold/silver", weight="6")
    assert (operator.page.status_code, "no / in it" in operator.page.text) == (422, True)
    operator.page = operator.send("/plans", name="odd", weight="heavy")
    assert operator.page.status_code == 422
    assert 'value="heavy"' in operator.page.text

    operator.get("/workspaces/plans")
    assert operator.do("/plans/gold%20&%20silver", weight="7") == (
        "gold & silver counts at once for every workspace on it."
    )
    operator.page = operator.send("/plans/gold%20&%20silver", weight="light")
    assert operator.page.status_code == 422
    assert operator.form("/plans/gold%20&%20silver").fields["weight"] == "light"
    assert operator.form("/workspaces/plans").fields["weight"] == ""
    operator.get(f"/workspaces/{acme}")
    operator.do("/limits", plan="gold & silver")
    operator.get("/workspaces/plans")
    assert operator.do("/delete").startswith("1 workspace is on the plan gold & silver; put it on another first")

    assert scalar(sessions, "select weight from jobplatform.plans") == 7
    assert scalar(sessions, "select max_running from jobplatform.plans") == 1000
    operator.get(f"/workspaces/{acme}")
    operator.do("/limits", plan="")
    operator.get("/workspaces/plans")
    assert operator.do("/delete") == "gold & silver is deleted."
    assert [action for action, _ in audited(sessions)] == [
        "plan.set", "plan.set", "workspace.limit", "workspace.limit", "plan.delete",
    ]  # fmt: skip


def test_a_schedule_is_looked_at_before_it_is_made(operator: Visitor, acme: uuid.UUID, sessions: Sessions) -> None:
    operator.get(f"/schedules/new?workspace={acme}")
    typed = {"task": "echo", "name": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin"}

    operator.page = operator.send("/schedules/new", **typed, payload='{"n": 1}', preview="yes")

    assert operator.page.status_code == 200
    assert "At 02:30" in operator.page.text
    assert operator.page.text.count("<li>") == 5
    assert operator.form("/schedules/new").fields["payload"] == '{"n": 1}'
    assert scalar(sessions, "select count(*) from jobplatform.schedules") == 0
    page = operator.follow(operator.send("/schedules/new", tags="a, b"))
    assert "The schedule is made." in page.text
    with sessions() as session:
        row = session.execute(
            text("select workspace_id, name, task, cron, timezone, payload, tags, made_by from jobplatform.schedules")
        ).one()
    assert row == (acme, "nightly", "echo", "30 2 * * *", "Europe/Berlin", {"n": 1}, ["a", "b"], "a test")
    assert audited(sessions) == [("schedule.create", "a test")]


#: What somebody typed, and what stands beside which field.
WRONG = (
    ({"task": ""}, "task", "Say which task"),
    ({"cron": "every day"}, "cron", ""),
    ({"timezone": "Mars/Phobos"}, "timezone", ""),
    ({"rule": "every", "every": "often"}, "every", "90 s, 15 min"),
    ({"rule": "every"}, "every", "Say how often"),
    ({"rule": "once", "at": "soon"}, "at", "Say when"),
    ({"payload": "{"}, "payload", "not JSON"),
    ({"payload": "[" * 100_000}, "payload", "not JSON"),
    ({"priority": "high"}, "priority", "not a whole number"),
    ({"priority": "--5"}, "priority", "not a whole number"),
    ({"spread": "1 week"}, "spread", "90 s, 15 min"),
    ({"start_within": "soon"}, "start_within", "90 s, 15 min"),
    ({"start_within": "366 d"}, "start_within", ""),
    ({"workspace": "no one"}, "workspace", "No workspace has this name or id."),
    ({"workspace": "acme\0"}, "workspace", "No workspace has this name or id."),
    ({"workspace": " "}, "workspace", "Say which workspace"),
    ({"whose": "mine"}, "whose", "whose jobs"),
    ({"tags": "x" * 300}, "tags", ""),
)


def test_what_is_wrong_with_a_schedule_stands_beside_its_field_and_nothing_typed_is_lost(
    operator: Visitor, acme: uuid.UUID, sessions: Sessions
) -> None:
    right = {"whose": "workspace", "workspace": str(acme), "task": "echo", "rule": "cron", "cron": "@daily"}
    for wrong, field, said in WRONG:
        operator.get("/schedules/new")
        operator.page = operator.send("/schedules/new", **(right | wrong))
        assert operator.page.status_code == 422, wrong
        complaint = operator.page.text.split(f'id="{field}-wrong"')[1].split("</span>")[0]
        assert said in complaint, (wrong, complaint)
        kept = operator.form("/schedules/new").fields
        assert {name: kept[name] for name in wrong if name != "whose"} == {
            name: value for name, value in wrong.items() if name != "whose"
        }
    assert scalar(sessions, "select count(*) from jobplatform.schedules") == 0


def test_a_workspace_is_typed_by_its_name_where_only_one_has_it(
    operator: Visitor, acme: uuid.UUID, sessions: Sessions, described: None
) -> None:
    typed = {"workspace": " Acme & Sons ", "task": "echo", "rule": "every", "every": "2 h"}
    operator.get("/schedules/new")
    assert "The schedule is made." in operator.follow(operator.send("/schedules/new", **typed)).text
    assert scalar(sessions, "select workspace_id from jobplatform.schedules") == acme
    operator.get("/tasks/add/new")
    made = operator.send("/tasks/add/new", workspace="Acme & Sons", payload='{"left": 1, "right": 2}')
    assert f"/jobs/{acme}/" in made.headers["Location"]
    assert "schedule.create" in operator.get("/audit?workspace=Acme+%26+Sons").text

    operator.get("/schedules/new")
    operator.page = operator.send("/schedules/new", **(typed | {"workspace": "Acme & Son"}))
    assert "Did you mean Acme &amp; Sons?" in complaint_about("workspace", operator)

    with sessions.begin() as session:
        session.add(Workspace(id=uuid.UUID(int=7), name="Acme & Sons"))
    operator.get("/schedules/new")
    operator.page = operator.send("/schedules/new", **typed)
    complaint = complaint_about("workspace", operator)
    assert complaint.startswith("2 workspaces are named Acme &amp; Sons.", complaint.index(">") + 1)
    assert str(acme) in complaint
    assert str(uuid.UUID(int=7)) in complaint
    assert scalar(sessions, "select count(*) from jobplatform.schedules") == 1


@pytest.mark.parametrize(("whose", "every_workspace"), [("every", True), ("platform", False)])
def test_a_schedule_is_made_for_every_workspace_or_for_the_platform(
    operator: Visitor, sessions: Sessions, whose: str, every_workspace: bool
) -> None:
    operator.get("/schedules/new")

    typed = {"task": "echo", "rule": "every", "every": "2 h", "spread": "10 min", "start_within": "90 min"}
    operator.follow(operator.send("/schedules/new", whose=whose, **typed))

    with sessions() as session:
        columns = "every_ms, spread_ms, start_within_ms, every_workspace"
        row = session.execute(text(f"select {columns} from jobplatform.schedules")).one()
    assert row == (7_200_000, 600_000, 5_400_000, every_workspace)


def test_of_a_schedule_only_what_is_different_is_changed(
    operator: Visitor, tasks: Tasks, acme: uuid.UUID, sessions: Sessions
) -> None:
    secret = {"password": "hunter2"}
    with sessions.begin() as session:
        rule = Every(datetime.timedelta(hours=1))
        options = {"workspace_id": acme, "name": "hourly", "made_by": "x"}
        made = create_schedule(session, tasks["echo"], rule, payload=secret, **options)
        here = f"/schedules/{acme}/{made.id}"
        before = made.next_tick_at
    page = operator.get(here + "/edit").text
    assert "hunter2" not in page
    assert operator.form("/edit").fields["every"] == "1 h"

    assert operator.do("/edit") == "It was as it is: nothing has changed."
    operator.get(here + "/edit")
    assert operator.do("/edit", name="each hour", priority="5") == "The schedule is changed."
    operator.get(here + "/edit")
    typed = operator.form("/edit").fields["payload"]
    operator.page = operator.send("/edit", payload=typed.replace("{", '{"n": 1,'))
    assert (operator.page.status_code, 'id="payload-wrong"' in operator.page.text) == (422, True)

    with sessions() as session:
        row = session.execute(
            text("select name, priority, payload, next_tick_at, every_ms from jobplatform.schedules")
        ).one()
    assert row == ("each hour", 5, secret, before, 3_600_000)
    operator.get(here)
    assert operator.do("/delete") == "The schedule is deleted. The jobs that it enqueued stay."
    assert [action for action, _ in audited(sessions)] == ["schedule.change", "schedule.delete"]
    assert scalar(sessions, "select count(*) from jobplatform.schedules") == 0


def test_a_rule_takes_the_place_of_another(
    operator: Visitor, tasks: Tasks, acme: uuid.UUID, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        rule = Every(datetime.timedelta(hours=1))
        made = create_schedule(session, tasks["echo"], rule, workspace_id=acme, name="hourly", made_by="x")
        here = f"/schedules/{acme}/{made.id}/edit"
    for fields in (
        {"rule": "cron", "cron": "0 5 * * *", "timezone": "Europe/Berlin"},
        {"rule": "cron", "timezone": "UTC"},
        {"rule": "once", "at": "2099-01-01T06:00:00"},
    ):
        operator.get(here)
        assert operator.do("/edit", **fields) == "The schedule is changed."

    assert scalar(sessions, "select run_at from jobplatform.schedules").isoformat() == "2099-01-01T06:00:00+00:00"
    assert scalar(sessions, "select cron from jobplatform.schedules") is None


def test_a_pause_says_until_when(operator: Visitor, enqueue: Enqueue, sessions: Sessions) -> None:
    enqueue()
    operator.get("/queues")

    said = operator.do("/queues/default/pause", reason="the CRM is down", lasting="3600")

    assert re.fullmatch(r"Nothing more of default is started until 20.+ UTC\. What runs goes on to its end\.", said)
    assert scalar(sessions, "select until - paused_at between '50 min' and '1 h' from jobplatform.pauses")
    assert operator.page is not None
    assert "ends <time" in " ".join(operator.page.text.split())
    for nonsense in ("-1", "soon", "9" * 30, "999999999"):
        operator.do("/queues/default/resume")
        assert "until" not in operator.do("/queues/default/pause", reason="x", lasting=nonsense), nonsense


def test_a_pause_that_somebody_else_has_ended_is_said_to_be_none(
    operator: Visitor, enqueue: Enqueue, sessions: Sessions
) -> None:
    enqueue()
    operator.get("/queues")
    operator.do("/queues/default/pause", reason="x")
    with sessions.begin() as session:
        session.execute(text("delete from jobplatform.pauses"))

    assert operator.do("/queues/default/resume") == "It was not paused any more."


def test_whatever_else_is_paused_is_resumed_from_the_page_of_queues(
    operator: Visitor, enqueue: Enqueue, acme: uuid.UUID, sessions: Sessions
) -> None:
    enqueue()
    with sessions.begin() as session:
        for kind, key in (("task", "echo"), ("workspace", str(acme)), ("resource", "crm:1")):
            pause(session, kind, key, reason="x", actor="somebody")

    page = operator.get("/queues").text.split('id="others"')[1]
    assert "Acme &amp; Sons</a>" in page
    for ending in ("/tasks/echo/resume", f"/workspaces/{acme}/resume", "/resources/resume"):
        assert operator.do(ending).endswith("goes on."), ending

    assert 'id="others"' not in operator.get("/queues").text


def test_schedules_connections_and_syncs_of_one_workspace_are_listed_by_themselves(
    operator: Visitor, tasks: Tasks, acme: uuid.UUID, sessions: Sessions
) -> None:
    other = uuid.uuid4()
    with sessions.begin() as session:
        session.add(Workspace(id=other, name="Rival"))
        for whose, name in ((acme, "ours"), (other, "theirs")):
            rule = Every(datetime.timedelta(hours=1))
            create_schedule(session, tasks["echo"], rule, workspace_id=whose, name=name, made_by="x")
            session.add(Connection(workspace_id=whose, id=uuid.uuid4(), connector_type="x", name=name, config={}))
            session.add(hook_of(whose, name))
            session.add(webhook_of(whose, name))
            session.add(
                SyncLog(workspace_id=whose, id=uuid.uuid4(), job_id=uuid.uuid4(), reference=name, mode="initial")
            )

    for path in ("/schedules", "/connections", "/connections/syncs", "/connections/hooks", "/connections/webhooks"):
        everybodys, one = operator.get(path).text, operator.get(f"{path}?workspace={acme}").text
        assert "theirs" in everybodys, path
        assert "ours" in one, path
        assert "theirs" not in one, path
        assert "Only those of" in one, path
        assert operator.get(f"{path}?workspace=nonsense").text.count("theirs") == everybodys.count("theirs"), path
    assert f'href="/console/schedules?workspace={acme}"' in operator.get(f"/workspaces/{acme}").text


def test_a_connection_that_needs_attention_says_why(operator: Visitor, acme: uuid.UUID, sessions: Sessions) -> None:
    facts: dict[str, Any] = {"workspace_id": acme, "config": {}, "connector_type": "hubspot"}
    with sessions.begin() as session:
        session.add(Connection(id=uuid.uuid4(), name="empty", **facts))
        refused = {"attention": "its token is not accepted", "attention_at": clock()}
        session.add(Connection(id=uuid.uuid4(), name="refused", **facts, **refused))

    page = operator.get("/connections").text

    assert page.count("the connection has no credentials; give it some (bearer, oauth2)") == 1
    assert page.count("its token is not accepted") == 1


def test_a_hook_is_disabled_and_enabled_on_its_line(operator: Visitor, acme: uuid.UUID, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(hook_of(acme, "from the shop"))
    operator.get("/connections/hooks")

    said = operator.follow(operator.send("/disable"))
    assert notice_of(said) == "It is disabled: providers are told to come again later."
    assert "</svg>disabled</span>" in said.text
    said = operator.follow(operator.send("/enable"))
    assert notice_of(said) == "Its deliveries are taken again."


def test_a_url_of_which_nothing_can_be_made_breaks_the_page_of_webhooks_for_nobody(
    operator: Visitor, sessions: Sessions, acme: uuid.UUID
) -> None:
    with sessions.begin() as session:
        odd = webhook_of(acme, "the odd one")
        odd.url = "https://a[b]/"
        session.add_all([odd, webhook_of(acme, "the CRM")])

    page = operator.get("/connections/webhooks")

    assert page.status_code == 200
    assert "the odd one" in page.text
    assert "the CRM" in page.text


def test_that_nothing_is_delivered_is_said_once_and_not_on_each_line(
    operator: Visitor, sessions: Sessions, acme: uuid.UUID, hand: Hand
) -> None:
    with sessions.begin() as session:
        picky = webhook_of(acme, "the picky one")
        picky.tasks = ["snyc"]
        session.add_all([picky, webhook_of(acme, "the CRM"), webhook_of(acme, "the other one")])

    nobodys = operator.get("/connections/webhooks").text
    assert nobodys.count("no live worker delivers webhooks") == 1
    assert "add_webhooks(tasks)" in nobodys.split("<table", maxsplit=1)[0]
    assert nobodys.count(">not told<") == 3
    assert "told too little" not in nobodys

    with sessions.begin() as session:
        statement = "update jobplatform.workers set tasks = array['jobplatform.webhook'] where id = :id"
        session.execute(text(statement), {"id": hand.worker_id})
    delivered = operator.get("/connections/webhooks").text
    assert "no live worker delivers" not in delivered
    assert delivered.count("told too little") == 1
    assert delivered.count("</svg>is told") == 2


def test_a_webhook_is_tried_on_its_line_and_not_while_it_is_disabled(
    operator: Visitor, acme: uuid.UUID, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        session.add(webhook_of(acme, "the CRM"))
    page = operator.get("/connections/webhooks").text
    assert "https://crm.example.com" in page
    assert "a-secret-path" not in page

    tried = operator.follow(operator.send("/test"))
    assert notice_of(tried) == "This job delivers the event webhook.test."
    assert "jobplatform.webhook" in tried.text
    operator.get("/connections/webhooks")
    disabled = operator.follow(operator.send("/disable"))
    assert notice_of(disabled).startswith("It is disabled")
    assert "by hand" in disabled.text
    assert "/test" not in disabled.text


def test_a_delivery_that_was_taken_is_sent_again_from_the_page_of_its_job(
    operator: Visitor, acme: uuid.UUID, sessions: Sessions, hand: Hand
) -> None:
    with sessions.begin() as session:
        session.add(webhook_of(acme, "the CRM"))
    operator.get("/connections/webhooks")
    operator.follow(operator.send("/test"))
    with sessions() as session:
        (job,) = list_jobs(session, acme)
    hand.complete(acme, str(job.id), '{"status": 204}')
    operator.get(f"/jobs/{acme}/{job.id}")

    again = operator.follow(operator.send(f"/redeliver/{job.id}"))

    assert notice_of(again) == "This job delivers it again."
    assert str(job.id) not in again.request.path


def test_a_source_is_synced_from_its_line_and_a_second_time_leads_to_the_first(
    operator: Visitor, acme: uuid.UUID, sessions: Sessions
) -> None:
    connection_id = uuid.uuid4()
    with sessions.begin() as session:
        session.add(Connection(workspace_id=acme, id=connection_id, connector_type="x", name="CRM", config={}))
    operator.get("/connections")

    began = operator.send("/sync")
    assert notice_of(operator.follow(began)) == "The sync is enqueued."
    operator.get("/connections")
    again = operator.send("/sync")

    assert again.headers["Location"] == began.headers["Location"]
    assert notice_of(operator.follow(again)) == "Such a sync is under way already: this one."
    with sessions() as session:
        payload = session.scalar(text("select payload from jobplatform.job_records where task = 'sync'"))
    assert payload == {"connectionId": str(connection_id)}
    assert audited(sessions) == [("job.enqueue", "a test")]


def test_a_worker_is_drained(operator: Visitor, hand: Hand, sessions: Sessions) -> None:
    operator.get("/workers")

    assert operator.do("/drain") == "It takes nothing new, finishes what it runs, and stops."
    assert scalar(sessions, "select drain_requested_at is not null from jobplatform.workers")
    assert "asked to drain" in operator.get("/workers").text
    assert audited(sessions) == [("worker.drain", "a test")]


def test_a_test_job_is_enqueued_by_a_form_that_loses_nothing(
    operator: Visitor, described: None, acme: uuid.UUID, sessions: Sessions
) -> None:
    operator.get(f"/tasks/add/new?workspace={acme}")
    assert operator.form("/new").fields["payload"] == '{\n  "left": 0,\n  "right": 0\n}'

    operator.page = operator.send("/new", workspace="?", payload='{"left": 1', priority="high")
    assert operator.page.status_code == 422
    assert operator.form("/new").fields["payload"] == '{"left": 1'
    for complaint in ("No workspace has this name", "not JSON", "not a whole number"):
        assert complaint in operator.page.text
    for payload, priority in (("[" * 100_000, "1"), ("{}", "--1")):
        assert operator.send("/new", workspace=str(acme), payload=payload, priority=priority).status_code == 422
    operator.page = operator.send("/new", workspace=str(acme), payload='{"left": "x"}', priority="")
    assert operator.page.status_code == 422
    assert 'id="payload-wrong"' in operator.page.text
    page = operator.follow(operator.send("/new", workspace=str(acme), payload='{"left": 1, "right": 2}', priority="7"))

    assert "The job is enqueued." in page.text
    assert scalar(sessions, "select priority from jobplatform.job_records where 'test' = any(tags)") == 7


@pytest.mark.parametrize("made_up", ["a\nX-Evil: 1", "a\r\nb", "\u20ac", "é", "x" * 256, " "])
def test_a_key_that_was_made_up_is_said_to_be_none_and_nothing_typed_is_lost(
    operator: Visitor, described: None, enqueue: Enqueue, acme: uuid.UUID, sessions: Sessions, made_up: str
) -> None:
    job_id = enqueue("echo", {"n": 1})
    operator.get("/tasks/add/new")
    operator.page = operator.send("/tasks/add/new", workspace=str(acme), payload='{"left": 7}', once=made_up)
    assert operator.page.status_code == 422
    assert "is not the key that it was shown with" in operator.page.text
    assert operator.form("/tasks/add/new").fields["payload"] == '{"left": 7}'
    assert operator.form("/tasks/add/new").fields["once"] != made_up

    operator.get(f"/jobs/{acme}/{job_id}")
    refused = operator.send("/enqueue-again", once=made_up)

    assert refused.status_code == 400
    assert "is not the key that it was shown with" in refused.text
    assert scalar(sessions, "select count(*) from jobplatform.jobs") == 1


@pytest.mark.parametrize("written", [" {} ", "{{{}}}", "urn:uuid:{}", "{}\n"])
def test_a_test_job_leads_to_its_page_however_its_workspace_was_written(
    operator: Visitor, described: None, acme: uuid.UUID, written: str
) -> None:
    operator.get("/tasks/add/new")

    answer = operator.send("/tasks/add/new", workspace=written.format(acme), payload='{"left": 2, "right": 3}')

    assert answer.headers["Location"].startswith(f"/console/jobs/{acme}/")
    assert operator.follow(answer).status_code == 200


def test_the_audit_log_is_searched_by_who_and_what(operator: Visitor, enqueue: Enqueue) -> None:
    enqueue()
    operator.get("/queues")
    operator.do("/queues/default/pause", reason="because")

    assert "because" in operator.get("/audit?actor=a+test&action=queue.pause").text
    assert "No line fits" in operator.get("/audit?actor=nobody").text


@pytest.mark.parametrize("unknown", ["nobody", str(uuid.UUID(int=1))])
def test_of_a_workspace_that_there_is_not_the_audit_log_says_so_and_shows_nobody_else_s_lines(
    operator: Visitor, enqueue: Enqueue, acme: uuid.UUID, unknown: str
) -> None:
    enqueue()
    operator.get("/queues")
    operator.do("/queues/default/pause", reason="because")

    page = operator.get("/audit", query_string={"workspace": unknown}).text

    assert "No workspace has this name or id." in page
    assert ("because" in page, "No line fits" in page) == (False, False)
    known = operator.get("/audit", query_string={"workspace": str(acme)}).text
    assert ("No workspace has" in known, "No line fits" in known) == (False, True)


def test_what_was_done_to_a_workspace_that_is_not_there_any_more_is_found_by_its_id(
    operator: Visitor, sessions: Sessions
) -> None:
    gone = uuid.uuid4()
    with sessions.begin() as session:
        record(session, actor="x", action="workspace.erase", target=f"workspace:{gone}", workspace_id=gone)

    page = operator.get("/audit", query_string={"workspace": str(gone)}).text

    assert ("workspace.erase" in page, "No workspace has" in page) == (True, False)


def test_the_doctor_s_findings_are_a_page(
    operator: Visitor, enqueue: Enqueue, hand: Hand, acme: uuid.UUID, sessions: Sessions
) -> None:
    assert "nothing is wrong" in operator.get("/health").text
    hand.claim(acme, str(enqueue()))
    with sessions.begin() as session:
        session.execute(text("update jobplatform.workers set heartbeat_at = heartbeat_at - interval '1 hour'"))

    page = operator.get("/health").text

    assert "something is wrong" in page
    assert "<code>stuck_lease</code>" in page
