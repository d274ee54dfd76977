"""The pages of alerts: what is wrong and was, of all workspaces and of one, and rules that are changed in forms."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import text

from jobplatform.models import Role, confine
from jobplatform.pages.console.rules import FACTS, MEASURES
from jobplatform.queue import (
    METRICS,
    list_rules,
    list_workspace_rules,
    set_rule,
    set_workspace_rule,
    settle_alerts,
    settle_workspace_alerts,
)
from jobplatform.queue.health.rules import PLAIN, declare_rules
from tests.pages.conftest import Enqueue, Sessions, Visitor, audited, complaint_about, scalar


def row_of(page: str, name: str) -> str:
    """A rule's line, as one sees it."""
    return page.split(f'class="strong">{name}<')[1].split("</tr>")[0]


def test_what_is_wrong_leads_to_where_it_is_and_what_is_over_is_remembered(
    operator: Visitor, enqueue: Enqueue, sessions: Sessions
) -> None:
    enqueue()
    with sessions.begin() as session:
        settle_alerts(session, now=True)

    page = operator.get("/alerts").text

    raised = page.split('id="raised"')[1].split("</section>")[0]
    assert "no worker is alive" in raised
    assert 'href="/console/workers"' in raised
    assert "since" in raised
    assert "fires" in row_of(page, "no_worker")
    assert "quiet" in row_of(page, "stuck")
    with sessions.begin() as session:
        session.execute(text("delete from jobplatform.job_queue"))
        settle_alerts(session, now=True)
    page = operator.get("/alerts").text
    assert "Nothing is wrong" in page
    assert "no worker is alive" in page.split('id="over"')[1].split("</table>")[0]


def test_a_rule_is_changed_and_its_changes_are_taken_back(operator: Visitor, sessions: Sessions) -> None:
    page = operator.get("/alerts").text
    assert "15 min" in row_of(page, "stuck")
    assert "20 %" in row_of(page, "failing")
    assert operator.form("/rules/failing").fields["above"] == "0.2"

    assert operator.do("/rules/failing", above="0.5") == "failing fires above the new number from now on."

    page = operator.get("/alerts").text
    assert "50 %" in row_of(page, "failing")
    assert ">changed<" in row_of(page, "failing")
    assert ">changed<" not in row_of(page, "stuck")
    assert operator.do("/rules/failing/clear") == "failing is as it was before anybody changed it."
    with sessions() as session:
        assert list_rules(session)["failing"].above == 0.2
    assert audited(sessions) == [("rule.set", "a test"), ("rule.clear", "a test")]


@pytest.mark.parametrize("above", [1_234_567.0, 0.1 + 0.2, 1e12, 5.0])
def test_a_form_that_is_saved_as_it_stands_changes_no_threshold(
    operator: Visitor, acme: uuid.UUID, sessions: Sessions, above: float
) -> None:
    with sessions.begin() as session:
        set_rule(session, "backlog", above=above)
        set_workspace_rule(session, acme, "backlog", above=above)
    operator.get("/alerts")
    operator.do("/rules/backlog")
    operator.get(f"/workspaces/{acme}/alerts")
    operator.do("/backlog")

    with sessions() as session:
        assert list_rules(session)["backlog"].above == above
        assert list_workspace_rules(session, acme)["backlog"].above == above


@pytest.mark.parametrize(
    ("name", "above", "said"),
    [("backlog", 1_234_567, "1,234,567"), ("failing", 0.205, "20.5 %"), ("failing", 0.07, "7 %")],
)
def test_a_threshold_is_shown_with_all_its_digits(
    operator: Visitor, sessions: Sessions, name: str, above: float, said: str
) -> None:
    with sessions.begin() as session:
        set_rule(session, name, above=above)

    assert f">{said}</td>" in row_of(operator.get("/alerts").text, name)


@pytest.mark.parametrize("typed", ["many", "", "-1", "nan", "1e400"])
def test_what_is_no_threshold_is_said_beside_its_field_and_kept(
    operator: Visitor, sessions: Sessions, typed: str
) -> None:
    operator.get("/alerts")

    operator.page = operator.send("/rules/backlog", above=typed)

    assert operator.page.status_code == 422
    assert complaint_about("rule-backlog-above", operator)
    assert operator.form("/rules/backlog").fields["above"] == typed
    assert 'id="rule-backlog" open' in operator.page.text
    assert scalar(sessions, "select count(*) from jobplatform.health_rules") == 0


def test_what_somebody_else_took_back_meanwhile_is_said_to_be_gone(
    operator: Visitor, acme: uuid.UUID, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        set_rule(session, "backlog", above=5)
        set_workspace_rule(session, acme, "backlog", above=5)
    operator.get("/alerts")
    here = operator.page
    operator.get(f"/workspaces/{acme}/alerts")
    with sessions.begin() as session:
        session.execute(text("delete from jobplatform.health_rules"))
        session.execute(text("delete from jobplatform.workspace_alert_rules"))

    assert operator.do("/backlog/delete") == "There is no rule backlog any more."
    operator.page = here
    assert operator.do("/rules/backlog/clear") == "Of backlog nothing is changed any more."


def test_a_rule_that_compares_nothing_has_no_threshold_and_is_switched_off_and_on(
    operator: Visitor, enqueue: Enqueue
) -> None:
    enqueue()
    page = operator.get("/alerts").text
    assert f"{FACTS['no_worker']}</span>" in row_of(page, "no_worker")
    assert 'data-th="Fires above">–<' in row_of(page, "no_worker")

    assert operator.do("/rules/no_worker/switch") == "Nobody is told of no_worker any more."

    page = operator.get("/alerts").text
    assert ">off<" in row_of(page, "no_worker")
    assert 'data-th="Fires above">–<' in row_of(page, "no_worker")
    assert "no worker is alive" not in page
    assert operator.do("/rules/no_worker/switch") == "no_worker counts again."
    assert "fires" in row_of(operator.get("/alerts").text, "no_worker")


def test_a_workspace_has_a_rule_of_all_with_a_number_of_its_own(
    operator: Visitor, enqueue: Enqueue, acme: uuid.UUID, sessions: Sessions
) -> None:
    enqueue()
    enqueue()
    here = f"/workspaces/{acme}/alerts"
    assert f'href="/console{here}"' in operator.get(f"/workspaces/{acme}").text
    assert "No rules of its own" in operator.get(here).text

    assert operator.do("/alerts", name="backlog", above="1") == "backlog counts for this workspace by itself."
    with sessions.begin() as session:
        confine(session, Role.OPERATOR)
        settle_workspace_alerts(session, now=True)

    page = operator.get(here).text
    assert "2 jobs are ready" in page.split('id="raised"')[1].split("</section>")[0]
    assert "fires" in row_of(page, "backlog")
    elsewhere = operator.get("/alerts").text.split('id="elsewhere"')[1].split("</section>")[0]
    assert f'href="/console{here}">Acme &amp; Sons</a>' in elsewhere
    assert "2 jobs are ready" in elsewhere
    with sessions.begin() as session:
        session.execute(text("update jobplatform.job_queue set state = 0, run_after = run_after + interval '1 hour'"))
        settle_alerts(session, now=True)
    assert "Nothing is wrong with the platform" in operator.get("/alerts").text
    operator.get(here)
    assert operator.do("/backlog", above="5") == "backlog fires above the new number from the next look on."
    assert operator.do("/backlog/switch") == "Nobody is told of backlog any more."
    assert ">off<" in row_of(operator.get(here).text, "backlog")
    assert operator.do("/backlog/delete") == "backlog does not count for this workspace by itself any more."
    with sessions.begin() as session:
        confine(session, Role.OPERATOR)
        settle_workspace_alerts(session, now=True)
    assert "2 jobs are ready" in operator.get(here).text.split('id="over"')[1].split("</table>")[0]
    assert [action for action, _ in audited(sessions)] == ["rule.set", "rule.set", "rule.set", "rule.clear"]


def test_a_workspace_has_a_rule_that_is_only_its_own(
    operator: Visitor, enqueue: Enqueue, acme: uuid.UUID, sessions: Sessions
) -> None:
    enqueue()
    operator.get(f"/workspaces/{acme}/alerts")

    operator.do("/alerts", name="late", metric="oldest_ready_seconds", above="1,300", queue="exports", task="export")

    with sessions() as session:
        rule = list_workspace_rules(session, acme)["late"]
    assert (rule.metric, rule.above, rule.queue, rule.task) == ("oldest_ready_seconds", 1300.0, "exports", "export")
    line = row_of(operator.get(f"/workspaces/{acme}/alerts").text, "late")
    assert "how long the oldest ready job has waited, of the queue exports, of the task export" in line
    assert "21 min 40 s" in line


@pytest.mark.parametrize(
    ("typed", "field", "complaint"),
    [
        ({"name": "two words", "above": "1"}, "new-name", "letters, digits and underscores"),
        ({"name": "a/b", "above": "1"}, "new-name", "letters, digits and underscores"),
        ({"name": "no_worker"}, "new-name", "about the installation"),
        ({"name": "backlgo", "above": "1"}, "new-name", "did you mean"),
        ({"name": "mine", "metric": "ready"}, "new-above", "above which number"),
        ({"name": "mine", "metric": "ready", "above": "-1"}, "new-above", "0"),
        ({"name": "mine", "metric": "ready", "above": "1", "queue": "no such !"}, "new-queue", "is not a name of one"),
    ],
)
def test_what_is_wrong_with_a_workspace_s_rule_stands_beside_its_field_and_nothing_typed_is_lost(
    operator: Visitor, enqueue: Enqueue, acme: uuid.UUID, typed: dict[str, str], field: str, complaint: str
) -> None:
    enqueue()
    operator.get(f"/workspaces/{acme}/alerts")

    operator.page = operator.send("/alerts", **typed)

    assert operator.page.status_code == 422
    assert complaint in complaint_about(field, operator)
    fields = operator.form("/alerts").fields
    assert {name: fields[name] for name in typed} == typed


def test_a_rule_that_a_workspace_has_is_not_replaced_by_a_new_one(
    operator: Visitor, enqueue: Enqueue, acme: uuid.UUID, sessions: Sessions
) -> None:
    enqueue()
    with sessions.begin() as session:
        set_workspace_rule(session, acme, "backlog", above=7)
    operator.get(f"/workspaces/{acme}/alerts")

    operator.page = operator.send("/alerts", name="backlog", above="1")

    assert "There is a rule backlog already." in complaint_about("new-name", operator)
    with sessions() as session:
        assert list_workspace_rules(session, acme)["backlog"].above == 7


def test_alerts_of_a_workspace_that_is_none_are_nowhere(operator: Visitor) -> None:
    assert operator.get(f"/workspaces/{uuid.uuid4()}/alerts").status_code == 404


def test_what_a_rule_looks_at_has_words_whatever_it_is() -> None:
    assert MEASURES.keys() == METRICS.keys()
    assert FACTS.keys() == set(PLAIN)


@pytest.mark.parametrize("name", ["a%3Fb%3D1", "%23", "..%2F.."])
def test_a_rule_whose_name_was_made_up_is_none(operator: Visitor, enqueue: Enqueue, acme: uuid.UUID, name: str) -> None:
    enqueue()
    operator.get("/alerts")
    sent = {**operator.form("/alerts/rules/backlog").fields, "above": "5", "enabled": "true"}

    for path in (f"/alerts/rules/{name}", f"/workspaces/{acme}/alerts/{name}"):
        for deed in ("", "/switch", "/clear", "/delete"):
            answer = operator.http.post(f"/console{path}{deed}", data=sent, headers={"Sec-Fetch-Site": "same-origin"})
            assert answer.status_code in (303, 404, 405, 412, 422), (path, deed)


@pytest.mark.parametrize("says_what_it_showed", [True, False])
def test_a_rule_that_the_code_does_not_declare_any_more_is_said_to_be_gone(
    operator: Visitor, sessions: Sessions, says_what_it_showed: bool
) -> None:
    with sessions.begin() as session:
        declare_rules(session, [{"name": "late", "metric": "ready", "queue": None, "task": None, "above": 5}], "shop")
    operator.get("/alerts")
    sent = {**operator.form("/alerts/rules/late").fields, "above": "7"}
    with sessions.begin() as session:
        declare_rules(session, [], "shop")
    if not says_what_it_showed:
        del sent["seen"]

    answer = operator.http.post("/console/alerts/rules/late", data=sent, headers={"Sec-Fetch-Site": "same-origin"})

    assert answer.status_code in (412, 422)
    assert "There is no rule late any more." in answer.text
