"""Two people have the same form open: what one of them has saved the other does not take back unawares."""

from __future__ import annotations

import datetime
import json
import uuid
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from flask import Flask
from sqlalchemy import text

from jobplatform.models import PLATFORM_WORKSPACE
from jobplatform.queue import (
    Every,
    Tasks,
    create_schedule,
    delete_plan,
    delete_schedule,
    find_schedule,
    set_plan,
    set_queue_limit,
    set_rate_limit,
    set_resource_limit,
    set_workspace_limits,
    set_workspace_rule,
)
from tests.api.conftest import MintToken
from tests.pages.conftest import Enqueue, Forms, Sessions, Visitor, scalar


class Edited(NamedTuple):
    """A form, and what stands where in the database."""

    page: str
    ending: str
    field: str
    mine: str
    theirs: str
    stored: str


FORMS = {
    "workspace": Edited(
        "/workspaces/{acme}", "/limits", "max_running", "5", "7", "select max_running from jobplatform.workspace_limits"
    ),
    "plan": Edited(
        "/workspaces/plans", "/plans/gold", "max_running", "5", "7", "select max_running from jobplatform.plans"
    ),
    "queue": Edited(
        "/queues", "/queues/default/limit", "max_running", "5", "7", "select max_running from jobplatform.queue_limits"
    ),
    "task": Edited(
        "/tasks/add", "/tasks/add/limits", "max_running", "5", "7", "select max_running from jobplatform.task_limits"
    ),
    "rate": Edited(
        "/resources", "/resources/rate", "period_ms", "5 min", "7 min",
        "select period_ms / 60000 from jobplatform.rate_limits",
    ),
    "resource": Edited(
        "/resources", "/limit/change", "max_running", "5", "7", "select max_running from jobplatform.resource_limits"
    ),
    "rule": Edited("/alerts", "/alerts/rules/backlog", "above", "5", "7", "select above from jobplatform.health_rules"),
    "rule of a workspace": Edited(
        "/workspaces/{acme}/alerts", "/alerts/backlog", "above", "5", "7",
        "select above from jobplatform.workspace_alert_rules",
    ),
    "schedule": Edited(
        "/schedules/{acme}/{schedule}/edit", "/edit", "priority", "5", "7",
        "select priority from jobplatform.schedules",
    ),
}  # fmt: skip


@pytest.fixture
def schedule(sessions: Sessions, tasks: Tasks, acme: uuid.UUID) -> uuid.UUID:
    with sessions.begin() as session:
        rule = Every(datetime.timedelta(hours=1))
        return create_schedule(session, tasks["echo"], rule, workspace_id=acme, payload={"password": "p"}).id


@pytest.fixture
def second(app: Flask, mint: MintToken) -> Visitor:
    """Another operator, with a browser of their own."""
    visitor = Visitor(app.test_client())
    assert visitor.sign_in(mint(None, ("operator",))).status_code == 303
    return visitor


@pytest.fixture(params=FORMS)
def form(
    request: pytest.FixtureRequest,
    sessions: Sessions,
    enqueue: Enqueue,
    described: None,
    acme: uuid.UUID,
    schedule: uuid.UUID,
) -> Edited:
    enqueue()
    with sessions.begin() as session:
        set_plan(session, "gold", {"weight": 2})
        set_rate_limit(session, "crm:*", {"units": 1, "period_ms": 60_000})
        set_resource_limit(session, "crm:*", 1)
        set_workspace_rule(session, acme, "backlog", above=1)
    found = FORMS[request.param]
    return found._replace(page=found.page.format(acme=acme, schedule=schedule))


def test_a_form_that_is_older_than_what_is_there_is_shown_again_with_both(
    operator: Visitor, second: Visitor, form: Edited, sessions: Sessions
) -> None:
    operator.get(form.page)
    second.get(form.page)
    assert second.send(form.ending, **{form.field: form.theirs}).status_code == 303

    operator.page = operator.send(form.ending, **{form.field: form.mine})

    assert operator.page.status_code == 412
    assert str(scalar(sessions, form.stored)).removesuffix(".0") == form.theirs.split()[0]
    assert operator.form(form.ending).fields[form.field] == form.mine
    said = " ".join("".join(Forms(operator.page.text).words).split())
    assert "Somebody else has changed this since it was shown to you" in said
    assert f"{form.theirs} now." in said or f"now: {form.theirs}." in said
    # Now it has been seen what is there, and saved it is all the same.
    assert operator.send(form.ending).status_code == 303
    assert str(scalar(sessions, form.stored)).removesuffix(".0") == form.mine.split()[0]


def test_a_form_that_is_corrected_is_as_old_as_it_was(
    operator: Visitor, second: Visitor, form: Edited, sessions: Sessions
) -> None:
    operator.get(form.page)
    second.get(form.page)
    operator.page = operator.send(form.ending, **{form.field: "no number"})
    assert operator.page.status_code == 422
    assert second.send(form.ending, **{form.field: form.theirs}).status_code == 303
    operator.page = operator.send(form.ending)
    assert operator.page.status_code == (412 if form.ending == "/edit" else 422)
    if form.ending != "/edit":
        operator.page = operator.send(form.ending, **{form.field: form.mine})

    assert operator.page.status_code == 412
    assert str(scalar(sessions, form.stored)).removesuffix(".0") == form.theirs.split()[0]


@pytest.mark.parametrize("form", ["queue"], indirect=True)
@pytest.mark.parametrize("made_up", ["nonsense", "a\nb: c", '"', "é", "*"])
def test_a_tag_that_was_made_up_is_that_of_nothing(operator: Visitor, form: Edited, made_up: str) -> None:
    operator.get(form.page)

    operator.page = operator.send(form.ending, max_running="5", seen=made_up)

    assert operator.page.status_code == 412


@pytest.mark.parametrize("form", ["queue"], indirect=True)
def test_what_somebody_else_has_changed_to_the_same_is_said_to_be_so(
    operator: Visitor, form: Edited, sessions: Sessions
) -> None:
    operator.get(form.page)
    with sessions.begin() as session:
        set_queue_limit(session, "default", 5)

    operator.page = operator.send(form.ending, max_running="5")

    assert operator.page.status_code == 412
    assert "differs from what you typed in nothing that stands here" in operator.page.text


def test_of_a_schedule_that_was_changed_meanwhile_all_that_differs_is_said_and_no_secret(
    operator: Visitor, second: Visitor, acme: uuid.UUID, schedule: uuid.UUID
) -> None:
    here = f"/schedules/{acme}/{schedule}/edit"
    operator.get(here)
    second.get(here)
    theirs = {"rule": "cron", "cron": "0 5 * * *", "catch_up": "all", "payload": json.dumps({"password": "q", "n": 1})}
    assert second.send("/edit", **theirs).status_code == 303

    operator.page = operator.send("/edit", name="mine")

    assert operator.page.status_code == 412
    wrong = {name: operator.page.text.split(f'id="{name}-wrong"')[1].split("</span>")[0] for name in theirs}
    assert wrong["rule"].endswith("It is now: By a cron line.")
    assert wrong["cron"].endswith("It is now: 0 5 * * *.")
    assert wrong["catch_up"].endswith("It is now: Make up for each.")
    assert "&#34;n&#34;: 1" in wrong["payload"]
    assert "password&#34;: &#34;q" not in operator.page.text
    assert operator.form("/edit").fields["name"] == "mine"


@pytest.mark.parametrize("of_platform", [False, True])
def test_of_a_schedule_that_was_deleted_meanwhile_what_was_typed_makes_another(
    operator: Visitor, sessions: Sessions, tasks: Tasks, acme: uuid.UUID, of_platform: bool
) -> None:
    workspace_id = PLATFORM_WORKSPACE if of_platform else acme
    with sessions.begin() as session:
        rule = Every(datetime.timedelta(hours=1))
        schedule_id = create_schedule(session, tasks["echo"], rule, workspace_id=workspace_id).id
    operator.get(f"/schedules/{workspace_id}/{schedule_id}/edit")
    with sessions.begin() as session:
        found = find_schedule(session, workspace_id, schedule_id)
        assert found is not None
        delete_schedule(session, found)

    operator.page = operator.send("/edit", name="mine")

    assert operator.page.status_code == 404
    assert "was deleted" in operator.page.text
    assert operator.send("/schedules/new").status_code == 303
    assert scalar(sessions, "select workspace_id from jobplatform.schedules where name = 'mine'") == workspace_id


def test_of_a_plan_that_was_deleted_meanwhile_what_was_typed_makes_another(
    operator: Visitor, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        set_plan(session, "gold", {"weight": 2})
    operator.get("/workspaces/plans")
    with sessions.begin() as session:
        delete_plan(session, "gold")

    operator.page = operator.send("/plans/gold", weight="7")

    assert operator.page.status_code == 404
    assert "There is no plan gold any more" in operator.page.text
    assert operator.send("/workspaces/plans").status_code == 303
    assert scalar(sessions, "select weight from jobplatform.plans where name = 'gold'") == 7


@pytest.mark.parametrize(
    ("form", "table"),
    [("rate", "rate_limits"), ("resource", "resource_limits"), ("rule of a workspace", "workspace_alert_rules")],
    indirect=["form"],
)
def test_of_what_was_cleared_meanwhile_the_form_is_one_for_a_new_one(
    operator: Visitor, form: Edited, table: str, sessions: Sessions
) -> None:
    operator.get(form.page)
    with sessions.begin() as session:
        session.execute(text(f"delete from jobplatform.{table}"))

    operator.page = operator.send(form.ending, **{form.field: form.mine})

    assert operator.page.status_code == 412
    assert "any more" in operator.page.text
    assert f'value="{form.mine}"' in operator.page.text
    assert scalar(sessions, f"select count(*) from jobplatform.{table}") == 0


@pytest.mark.parametrize("form", ["workspace"], indirect=True)
def test_what_has_changed_and_is_in_no_field_is_said_to_be_so(
    operator: Visitor, form: Edited, acme: uuid.UUID, sessions: Sessions
) -> None:
    operator.get(form.page)
    with sessions.begin() as session:
        set_workspace_limits(session, acme, {"shed": True})

    operator.page = operator.send(form.ending)

    assert operator.page.status_code == 412
    assert "in nothing that stands here" in operator.page.text
    assert operator.send(form.ending, max_running="5").status_code == 303
    limits = "select row(shed, max_running)::text from jobplatform.workspace_limits"
    assert scalar(sessions, limits) == "(t,5)"


RATE = {"resource": "crm:*", "units": "5", "period_ms": "1 s"}
NEW = {
    "plan": ("/workspaces/plans", "/workspaces/plans", {"name": "gold"}, "There is a plan gold already"),
    "rate": ("/resources", "/resources", RATE, "crm:* has a rate already"),
    "limit": ("/resources", "/resources/limit", {"resource": "crm:*", "max_running": "5"}, "crm:* has a limit already"),
}


@pytest.mark.parametrize("what", NEW)
def test_what_somebody_else_makes_just_before_is_not_replaced(
    operator: Visitor, sessions: Sessions, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """They do so after the page has looked whether there is one."""
    page, ending, typed, said = NEW[what]
    operator.get(page)
    with sessions.begin() as session:
        set_plan(session, "gold", {"weight": 2})
        set_rate_limit(session, "crm:*", {"units": 1, "period_ms": 60_000})
        set_resource_limit(session, "crm:*", 1)
    saw_nothing = SimpleNamespace(resource_lines=lambda _session: ())
    monkeypatch.setattr("jobplatform.pages.console.plans.list_plans", lambda _session: [])
    monkeypatch.setattr("jobplatform.pages.console.resources.pages", saw_nothing)

    answer = operator.send(ending, **typed)

    assert answer.status_code == 422
    assert said in answer.text
    assert scalar(sessions, "select weight from jobplatform.plans") == 2
    assert scalar(sessions, "select units from jobplatform.rate_limits") == 1
    assert scalar(sessions, "select max_running from jobplatform.resource_limits") == 1


def test_a_queue_that_is_not_there_any_more_is_said_to_be_gone(operator: Visitor, sessions: Sessions) -> None:
    with sessions.begin() as session:
        set_queue_limit(session, "spare", 3)
    operator.get("/queues")
    with sessions.begin() as session:
        set_queue_limit(session, "spare", None)

    answer = operator.send("/queues/spare/limit", max_running="5")

    assert answer.status_code == 412
    assert "There is no queue spare any more, and nothing was changed." in answer.text
    assert scalar(sessions, "select count(*) from jobplatform.queue_limits") == 0
