"""The console in a real browser, beside a real worker."""

from __future__ import annotations

import datetime
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from jobplatform.models import Connection, Hook, WebhookSubscription
from jobplatform.queue import Every, create_schedule, pause, resume, set_queue_limit
from jobplatform.queue.numbers.count import count_endings
from jobplatform.testing import wait_until
from tests.browser.conftest import CORPUS, EVIL, WIDE, Stage, examine, examine_everywhere, harm_of, wait_for, walk
from tests.browser.haunting import haunt
from tests.browser.shop_tasks import tasks


@pytest.fixture(scope="module")
def haunted(stage: Stage) -> list[str]:
    """Harm in every field that a tenant, an application or a source can write; the addresses of every page."""
    resource = {"resource": EVIL[:190]}
    failed = stage.enqueue(
        "invoice.send", {"number": 1, "recipient": EVIL}, max_attempts=1, tags=(CORPUS[0], CORPUS[2])
    )
    later = stage.enqueue(
        "webhook.deliver", {EVIL: [EVIL]}, delay=datetime.timedelta(hours=1), unique_key=EVIL[:200], tags=(CORPUS[1],)
    )
    done = stage.enqueue("webhook.deliver", {"url": EVIL})
    stage.wait_for_status(failed, "failed")
    stage.wait_for_status(done, "completed")
    with stage.sessions.begin() as session:
        session.execute(text("update jobplatform.workspaces set name = :evil"), {"evil": EVIL})
        session.execute(
            text(
                "update jobplatform.job_records set error = :evil, error_type = :short, request_id = :evil, "
                "result = to_jsonb(cast(:evil as text)), trace_parent = :evil, "
                "progress = jsonb_build_object('current', 1, 'total', 2, 'message', cast(:evil as text)) "
                "where status in (3, 4)"
            ),
            {"evil": EVIL, "short": CORPUS[1]},
        )
        session.execute(
            text("update jobplatform.job_attempts set error = :evil, error_type = :short, traceback = :evil"),
            {"evil": EVIL, "short": CORPUS[1]},
        )
        mine = {"workspace_id": stage.workspace_id, "job_id": failed}
        session.execute(
            text(
                "insert into jobplatform.job_logs (workspace_id, job_id, epoch, line, level, message) "
                "values (:workspace_id, :job_id, 1, 100, :level, :evil)"
            ),
            {**mine, "level": CORPUS[1][:20], "evil": EVIL},
        )
        schedule = create_schedule(
            session,
            tasks["sync"],
            Every(datetime.timedelta(hours=1)),
            workspace_id=stage.workspace_id,
            name=CORPUS[1] + CORPUS[2] + CORPUS[3],
            made_by=EVIL,
            payload={EVIL: 1},
        )
        session.add(
            Connection(
                workspace_id=stage.workspace_id, id=uuid.uuid4(), connector_type=CORPUS[1], name=EVIL, config={EVIL: 1}
            )
        )
        sealed = {"secret": '{"$sealed": "v1"}', "made_by": EVIL, "workspace_id": stage.workspace_id}
        session.add(Hook(id=uuid.uuid4(), name=EVIL, scheme=CORPUS[0], task=CORPUS[1], key_hash=bytes(32), **sealed))
        # Told of what no job of these tests does: nothing is to be sent.
        session.add(
            WebhookSubscription(
                id=uuid.uuid4(),
                name=EVIL,
                url=f"https://{'a' * 60}.example.com/{CORPUS[0]}",
                events=["batch.completed", "batch.failed", "batch.cancelled", "alert.raised", "alert.resolved"],
                tasks=[CORPUS[1], CORPUS[2], "report.build"],
                **sealed,
            )
        )
        session.execute(
            text(
                "insert into jobplatform.sync_logs "
                "(workspace_id, id, job_id, reference, mode, status, errors, ended_at) values "
                "(:workspace_id, :id, :job_id, :evil, 'initial', 'failed', "
                "jsonb_build_array(cast(:evil as text)), now())"
            ),
            {**mine, "id": uuid.uuid4(), "evil": EVIL},
        )
        session.execute(text("insert into jobplatform.plans (name, weight) values (:name, 3)"), {"name": CORPUS[1]})
        pause(session, "resource", resource["resource"], reason=EVIL[:400], actor=EVIL)
        schedule_id = schedule.id
    with stage.sessions.begin() as session:
        # A worker does it too, within fifteen seconds.
        count_endings(session)
    wait_until(
        lambda: stage.scalar("select count(*) from jobplatform.platform_error_groups") > 0,
        what="the failure to be counted",
        seconds=60,
    )
    fingerprint = stage.scalar("select fingerprint from jobplatform.platform_error_groups limit 1")
    here = stage.workspace_id
    return [
        "/", "/?span=24h", "/jobs", "/jobs?status=failed", "/jobs?q=task:nothing", "/jobs?q=nonsense:1",
        f"/jobs/{here}/{failed}", f"/jobs/{here}/{later}", f"/jobs/{here}/{done}", "/errors", f"/errors/{fingerprint}",
        "/bulk", "/bulk/preview?deed=retry&q=status:failed", "/bulk/preview?deed=change&q=status:pending",
        "/workspaces", f"/workspaces/{here}",
        f"/workspaces/{here}?span=7d", "/workspaces/plans", "/queues", "/schedules", f"/schedules/{here}/{schedule_id}",
        "/schedules/new", f"/schedules/{here}/{schedule_id}/edit", "/workers", "/tasks", "/tasks/report.build",
        "/tasks/report.build/new", "/connections", "/connections/syncs", "/connections/hooks",
        "/connections/webhooks", "/audit", "/health", "/alerts",
        f"/workspaces/{here}/alerts", "/nowhere",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def page(stage: Stage) -> Any:
    """One that is signed in, for tests that only look."""
    return stage.page()


def test_no_text_of_anybody_becomes_a_program_and_the_policy_has_nothing_to_report(
    stage: Stage, page: Any, haunted: list[str]
) -> None:
    harm, shown = {}, 0
    for path in haunted:
        page.goto(stage.url + path)
        page.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
        shown += page.content().count("alert(")
        if found := harm_of(page):
            harm[path] = found

    assert harm == {}
    assert shown > 100


@pytest.mark.thorough
def test_no_text_that_only_the_tables_take_becomes_a_program(stage: Stage, haunted: list[str]) -> None:
    waits = stage.enqueue("report.build", {}, delay=datetime.timedelta(hours=1))
    failed = stage.scalar("select id from jobplatform.jobs where status = 'failed' order by id limit 1")
    with stage.sessions.begin() as session:
        further = haunt(session, stage.workspace_id, waits=waits, failed=failed)
    page, harm = stage.page(), {}

    for path in (*haunted, f"/jobs/{stage.workspace_id}/{waits}", *further):
        answer = page.goto(stage.url + path)
        page.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
        if found := harm_of(page) or answer.status >= 500:
            harm[path] = found

    assert harm == {}
    page.context.close()


def test_every_page_can_be_read_heard_and_held_in_a_hand(stage: Stage, page: Any, haunted: list[str]) -> None:
    found = {
        (path, where): what
        for path in ("/sign-in", *haunted)
        for where, what in examine_everywhere(page, stage.url + path).items()
    }

    assert {where: what for where, what in found.items() if what} == {}


def test_what_can_be_done_is_in_sight_on_a_laptop(stage: Stage, page: Any, haunted: list[str]) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    beyond = """() => {
      const right = (element) => element.getBoundingClientRect().right;
      const buttons = [...document.querySelectorAll(".do .button")];
      return buttons.filter((one) => right(one) > right(one.closest(".scroll"))).length;
    }"""
    cut = {}
    for path in ("/queues", "/connections", "/connections/hooks", "/connections/webhooks", "/schedules", "/resources"):
        page.goto(stage.url + path)
        assert page.evaluate("document.querySelectorAll('.do .button').length") > 0, path
        cut[path] = page.evaluate(beyond)
    page.set_viewport_size(WIDE)

    assert {path: count for path, count in cut.items() if count} == {}


def test_the_examination_finds_what_is_wrong(stage: Stage, page: Any) -> None:
    """Or the test above could not fail."""
    page.goto(stage.url + "/queues")
    page.evaluate(
        """() => {
          const main = document.querySelector("main");
          main.append(document.createElement("button"), document.createElement("input"), document.createElement("h4"));
          const faint = document.createElement("p");
          faint.className = "muted chip info";
          faint.textContent = "faint";
          main.append(faint);
          const sheet = new CSSStyleSheet();
          sheet.replaceSync("p.muted.chip { color: #999; background: #aaa; width: 3000px }");
          document.adoptedStyleSheets.push(sheet);
        }"""
    )

    found = " ".join(examine(page))

    for complaint in ("it has no name", "it has no label", "the contrast is", "wider than its window"):
        assert complaint in found


def test_a_keyboard_reaches_everything_and_shows_where_it_is(stage: Stage, page: Any, haunted: list[str]) -> None:
    wanted, reached, unseen = walk(page, stage.url + "/jobs")

    assert (reached, unseen) == (wanted, [])


def test_a_job_s_page_follows_a_worker_and_leaves_the_reader_alone(stage: Stage, tmp_path: Path) -> None:
    page = stage.page()
    with stage.sessions.begin() as session:
        pause(session, "task", "sync", reason="nothing is missed", actor="a test")
    job_id = stage.enqueue("sync", {"pages": 12, "pause": 0.05, "until": str(tmp_path / "go")})
    page.goto(f"{stage.url}/jobs/{stage.workspace_id}/{job_id}")
    page.evaluate("window.here = true; document.querySelector('#fold-payload').open = false")
    page.focus("form[action$='/sign-out'] button")
    with stage.sessions.begin() as session:
        resume(session, "task", "sync")

    wait_for(page, "document.querySelector('#head .chip.running')")
    (tmp_path / "go").touch()
    wait_for(page, "document.querySelector('#head .chip.completed')")
    wait_for(page, "document.querySelectorAll('#log .line').length === 12")
    wait_for(page, "document.querySelector('#fold-result')")
    assert page.evaluate("document.querySelector('#why')") is None

    assert page.evaluate("window.here")
    assert page.evaluate("document.querySelector('#fold-payload').open") is False
    assert page.evaluate("document.activeElement.closest('form').action").endswith("/sign-out")
    wait_for(page, "!document.querySelector('.live-bar')")
    assert harm_of(page) == []
    page.context.close()


def test_a_list_follows_too_unless_somebody_types_picks_or_pauses(stage: Stage) -> None:
    page = stage.page()
    first = stage.enqueue("webhook.deliver", {}, tags=("followed",))
    page.goto(stage.url + "/jobs?q=tag:followed")
    page.evaluate("window.here = true")
    page.evaluate("document.querySelector('main').dataset.live = '0.3'")
    page.fill("#q", "tag:follo")

    second = stage.enqueue("webhook.deliver", {}, tags=("followed",))
    wait_for(page, f"document.getElementById('job-{second}')")
    assert page.input_value("#q") == "tag:follo"
    assert page.evaluate("document.activeElement.id") == "q"

    # On a box that is not ticked, and on a link like those of the other rows: what has the focus keeps it, in its row.
    for control in ("input[type=checkbox]", ".strong", "a[href*='workspace']"):
        page.focus(f"tr:has([id='job-{first}']) {control}")
        third = stage.enqueue("webhook.deliver", {}, tags=("followed",))
        wait_for(page, f"document.getElementById('job-{third}')")
        assert page.evaluate(f"document.activeElement.matches(\"tr:has([id='job-{first}']) {control}\")"), control

    page.check(f"input[value$='{first}']")
    fourth = stage.enqueue("webhook.deliver", {}, tags=("followed",))
    stage.wait_for_status(fourth, "completed")
    wait_for(page, "document.querySelector('#tabs').textContent.includes('6')")
    assert page.is_checked(f"input[value$='{first}']")
    assert page.evaluate(f"document.getElementById('job-{fourth}')") is None
    assert page.text_content("[data-selected-count]") == "1 selected:"

    page.click(".live-switch")
    assert page.text_content(".live-switch") == "Paused"
    page.reload()
    assert page.text_content(".live-switch") == "Paused"
    assert harm_of(page) == []
    page.context.close()


PARTS = "[...document.querySelectorAll('[data-live-part]')].map((part) => part.id)"
#: From here on it looks every 0.3 seconds, whatever its stream says.
OFTEN = """() => {
  document.querySelector("main").dataset.live = "0.3";
  for (const _ of [1, 2]) document.querySelector(".live-switch").click();
}"""


def test_a_page_that_was_followed_is_the_page_that_is_loaded(stage: Stage, page: Any) -> None:
    """What is new stands where it belongs, and what is over is gone."""
    with stage.sessions.begin() as session:
        pause(session, "task", "invoice.send", reason="nothing is missed", actor="a test")
    job_id = stage.enqueue("invoice.send", {"number": 1, "recipient": "x"}, max_attempts=1)
    page.goto(f"{stage.url}/jobs/{stage.workspace_id}/{job_id}")
    assert "why" in page.evaluate(PARTS)
    with stage.sessions.begin() as session:
        resume(session, "task", "invoice.send")
    wait_for(page, "document.querySelector('#head .chip.failed')")
    wait_for(page, "!document.querySelector('.live-bar')")

    followed = page.evaluate(PARTS)
    page.reload()

    assert followed == page.evaluate(PARTS)
    assert "errors" in followed


def test_what_somebody_types_below_a_row_stays_with_that_row(stage: Stage, page: Any) -> None:
    for queue in ("m-first", "n-second"):
        stage.enqueue("report.build", {}, queue=queue, delay=datetime.timedelta(hours=1))
    page.goto(stage.url + "/queues")
    row = "tr:has(form[action$='/n-second/pause'])"
    page.click(f"{row} details[id^=pause] summary")
    # Over the table, which stays as wide as it was: nothing is cut off at its edge.
    assert page.evaluate("document.querySelector('.pop[open] .pop-body').getBoundingClientRect().right < innerWidth")
    assert page.evaluate("[...document.querySelectorAll('table')].every((one) => one.offsetWidth < innerWidth - 216)")
    page.fill(f"{row} [name=reason]", "the CRM is down")
    page.select_option(f"{row} [name=lasting]", "3600")
    page.focus(f"{row} .pop-body button.primary >> nth=-1")
    page.evaluate(OFTEN)

    stage.enqueue("report.build", {}, queue="a-new-one", delay=datetime.timedelta(hours=1))
    wait_for(page, "document.querySelector(\"form[action$='/a-new-one/pause']\")")

    assert page.input_value(f"{row} [name=reason]") == "the CRM is down"
    assert page.input_value(f"{row} [name=lasting]") == "3600"
    assert page.evaluate("document.querySelectorAll('details[open] [name=reason]').length") == 1
    assert page.evaluate("document.activeElement.textContent") == "Pause"
    assert page.evaluate("document.activeElement.closest('form').action").endswith("/n-second/pause")


def test_what_somebody_types_while_another_saves_does_not_take_that_back(stage: Stage, page: Any) -> None:
    """The page goes on showing what is there. A form in which something is typed is as old as it was."""
    stage.enqueue("report.build", {}, queue="typed-at", delay=datetime.timedelta(hours=1))
    page.goto(stage.url + "/queues")
    form = "form[action$='/typed-at/limit']"
    page.click(f"td:has({form}) details[id^=limit] summary")
    page.fill(f"{form} [name=max_running]", "5")
    page.focus(f"{form} button")
    page.evaluate(OFTEN)

    with stage.sessions.begin() as session:
        set_queue_limit(session, "typed-at", 7)
    wait_for(page, f"document.querySelector(\"td:has({form}) details[id^=limit] summary\").textContent == '7'")
    page.click(f"{form} button")
    page.wait_for_load_state()

    assert "Somebody else has changed this" in page.text_content(form)
    assert "It is 7 now." in page.text_content(form)
    assert page.input_value(f"{form} [name=max_running]") == "5"
    with stage.sessions.begin() as session:
        set_queue_limit(session, "typed-at", None)


def test_a_job_that_is_deleted_while_somebody_looks_is_said_to_be_gone(stage: Stage, page: Any) -> None:
    job_id = stage.enqueue("report.build", {}, delay=datetime.timedelta(hours=1))
    page.goto(f"{stage.url}/jobs/{stage.workspace_id}/{job_id}")
    page.evaluate(OFTEN)

    for table in ("job_queue", "job_records"):
        with stage.sessions.begin() as session:
            session.execute(text(f"delete from jobplatform.{table} where id = :id"), {"id": job_id})
    wait_for(page, "document.querySelector('main > .notice')")

    assert page.text_content("main > .notice").startswith("This is not there any more")
    assert page.evaluate("document.querySelector('.live-bar')") is None
    assert "report.build" in page.text_content("h1")


def test_a_page_that_cannot_be_updated_says_so_and_goes_on_when_it_can(stage: Stage, page: Any) -> None:
    page.goto(stage.url + "/workers")
    page.route("**/console/workers", lambda route: route.abort())
    page.evaluate(OFTEN)
    wait_for(page, "document.querySelector('.live-switch').textContent === 'No answer'")

    page.unroute("**/console/workers")

    wait_for(page, "document.querySelector('.live-switch').textContent === 'Live'")


def test_a_session_that_ends_takes_nothing_that_was_typed(stage: Stage) -> None:
    page = stage.page()
    page.goto(f"{stage.url}/workspaces/{stage.workspace_id}")
    page.fill("#max_running", "17")
    page.context.clear_cookies()

    page.evaluate(OFTEN)
    wait_for(page, "document.querySelector('main > .notice')")

    assert page.text_content("main > .notice").startswith("Your session is over.")
    assert page.input_value("#max_running") == "17"
    page.context.close()


def test_a_form_that_is_sent_twice_by_an_impatient_hand_is_sent_once(stage: Stage, page: Any) -> None:
    page.goto(stage.url + "/queues")

    prevented = page.evaluate(
        """() => {
          const seen = [];
          addEventListener("submit", (event) => {
            seen.push(event.defaultPrevented);
            event.preventDefault();
          });
          for (const _ of [1, 2]) document.querySelector("form.theme").requestSubmit();
          return seen;
        }"""
    )

    assert prevented == [False, True]


def test_a_form_that_comes_back_has_its_first_mistake_in_sight_and_in_focus(stage: Stage, page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 500})
    page.goto(stage.url + "/schedules/new")
    page.fill("#task", "report.build")
    page.fill("#workspace", str(stage.workspace_id))
    page.fill("#payload", "{")
    page.fill("#cron", "0 6 * * *")

    page.click("main form .button.primary")
    wait_for(page, "document.querySelector('[aria-invalid]')")

    assert page.evaluate("document.activeElement.id") == "payload"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top < innerHeight")
    assert page.evaluate("scrollY") > 0
    page.set_viewport_size(WIDE)


def test_what_cannot_be_taken_back_asks_first(stage: Stage) -> None:
    page = stage.page()
    job_id = stage.enqueue("report.build", {}, delay=datetime.timedelta(hours=1))
    page.goto(f"{stage.url}/jobs/{stage.workspace_id}/{job_id}")
    asked: list[str] = []

    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.click("form[action$='/cancel'] button")
    assert stage.scalar("select status from jobplatform.jobs where id = :id", id=job_id) == "pending"
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.click("form[action$='/cancel'] button")
    page.wait_for_selector(".notice.done")

    assert page.text_content(".notice.done").strip() == "The job is cancelled."
    assert asked == ["Cancel this job?"] * 2
    page.context.close()


def test_all_rows_of_a_page_are_picked_at_once_and_the_filter_stays(stage: Stage) -> None:
    page = stage.page()
    for _ in range(3):
        stage.enqueue("report.build", {}, delay=datetime.timedelta(hours=1), tags=("picked",))
    page.goto(stage.url + "/jobs?q=tag:picked&status=pending")
    page.check("[data-select-all]")
    assert page.text_content("[data-selected-count]") == "3 selected:"

    page.click("button[name=deed][value=cancel]")
    page.wait_for_selector(".notice.done")

    assert page.text_content(".notice.done").strip() == "3 jobs cancelled or told to stop."
    assert page.url.endswith("/jobs?q=tag:picked&status=pending")
    page.context.close()


def test_all_that_match_are_cancelled_by_workers_while_somebody_watches(stage: Stage) -> None:
    page = stage.page()
    for _ in range(5):
        stage.enqueue("report.build", {}, delay=datetime.timedelta(hours=1), tags=("many",))
    page.goto(stage.url + "/jobs?q=tag:many")
    page.click("a[href*='/bulk/preview?deed=cancel']")
    assert "Cancel 5 jobs?" in page.text_content("h1")

    page.click("form[action$='/bulk/begin'] button")
    wait_for(page, "document.querySelector('#head .chip.completed')", "the bulk action to be done")

    assert page.text_content("#far .stat dd").strip() == "5"
    statement = "select count(*) from jobplatform.jobs where status = 'cancelled' and 'many' = any(tags)"
    assert stage.scalar(statement) == 5
    page.context.close()


def test_colours_are_chosen_without_a_button(stage: Stage) -> None:
    page = stage.page(color_scheme="light")
    page.goto(stage.url + "/queues")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.select_option("#theme", "dark")
    wait_for(page, "document.documentElement.dataset.theme === 'dark'")

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
    assert page.url == stage.url + "/queues"
    page.context.close()


def test_without_scripts_everything_is_done_all_the_same(stage: Stage) -> None:
    page = stage.page(java_script_enabled=False)
    job_id = stage.enqueue("report.build", {}, delay=datetime.timedelta(hours=1), tags=("plain",))

    page.goto(stage.url + "/jobs?q=tag:plain")
    page.check(f"input[value$='{job_id}']")
    page.click("button[name=deed][value=cancel]")
    page.select_option("#theme", "dark")
    page.click("form.theme button")

    assert page.get_attribute("html", "data-theme") == "dark"
    assert stage.scalar("select status from jobplatform.jobs where id = :id", id=job_id) == "cancelled"
    page.context.close()


@pytest.mark.thorough
def test_the_api_s_document_is_read_and_tried_with_nothing_from_elsewhere(stage: Stage) -> None:
    page = stage.page(signed_in=False)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    public = "#operations-docs_page-showStart"

    page.goto(f"{stage.server.url}/api/docs")
    wait_for(page, "document.querySelector('#operations-syncs-startSync')", "the page to list what there is")
    # What is out of sight is drawn when somebody comes to it.
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    for button in ("button.opblock-summary-control", "button.try-out__btn", "button.execute"):
        page.click(f"{public} {button}")
    answer = f"{public} .live-responses-table .response .response-col_status"

    assert page.text_content(answer).strip().startswith("200")
    assert {url.removeprefix(f"{stage.server.url}/api") for url in asked if not url.startswith("data:")} == {
        "/docs", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js", "/openapi.json",
    }  # fmt: skip
    assert harm_of(page) == []
    page.context.close()
