"""Whoever acts, reads or listens stays where they are: after a form, and while the page goes on by itself."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from jobplatform.queue import Every, create_schedule
from tests.browser.conftest import PHONE, Stage, harm_of, wait_for
from tests.browser.shop_tasks import tasks

#: So low that a page of a few rows does not fit.
LOW = {"width": 1360, "height": 300}
ON_ITS_NAME = "document.activeElement.getAttribute('href')?.endsWith('q=queue:row-5')"
#: From here on it looks every 0.3 seconds, whatever its stream says.
OFTEN = """() => {
  document.querySelector("main").dataset.live = "0.3";
  for (const _ of [1, 2]) document.querySelector(".live-switch").click();
}"""


@pytest.fixture(scope="module")
def page(stage: Stage) -> Any:
    return stage.page(viewport=LOW)


def test_whoever_pauses_a_row_far_down_is_in_that_row_again_and_sees_and_hears_what_became_of_it(
    stage: Stage, page: Any
) -> None:
    for number in range(6):
        stage.enqueue("report.build", {}, queue=f"row-{number}", delay=datetime.timedelta(hours=1))
    page.goto(stage.url + "/queues")
    row = "tr:has(a[href$='row-5'])"
    page.focus(f"{row} details[id^=pause] summary")
    page.keyboard.press("Enter")
    page.fill(f"{row} [name=reason]", "the CRM is down")
    was_at = page.evaluate("scrollY")

    page.press(f"{row} [name=reason]", "Enter")
    wait_for(page, f'document.querySelector("{row} .chip.paused")')

    # Not on "Resume", which stands there now: a second Enter of the same hand would take it back.
    wait_for(page, ON_ITS_NAME)
    assert page.evaluate("scrollY") == was_at > 50
    assert page.evaluate("document.querySelector('main > .notice').getBoundingClientRect().top") >= 0
    wait_for(page, "document.querySelector('#said').textContent.startsWith('Nothing more of row-5 is started')")

    page.focus(f"{row} .do button")
    page.keyboard.press("Enter")
    wait_for(page, f'!document.querySelector("{row} .chip.paused")')
    wait_for(page, ON_ITS_NAME)
    # Once: somebody who comes by a link begins at the top.
    page.click("nav.menu a[aria-current]")
    wait_for(page, "document.activeElement === document.body && scrollY === 0")


def test_whoever_uses_what_is_still_there_is_on_it_again(stage: Stage) -> None:
    """Also one who chooses colours with the arrows of a keyboard: each step loads the page."""
    workspace_id = stage.workspace("The Deli")
    with stage.sessions.begin() as session:
        for name in ("first", "second"):
            create_schedule(
                session, tasks["sync"], Every(datetime.timedelta(days=1)), workspace_id=workspace_id, name=name,
                made_by="x",
            )  # fmt: skip
    page = stage.portal(workspace_id, viewport=PHONE, color_scheme="light")
    page.goto(f"{stage.server.url}/w/{workspace_id}/schedules")

    page.click("article:has-text('second') button:has-text('Run now')")
    wait_for(page, "document.querySelector('.notice') && document.activeElement.textContent.trim() === 'Run now'")
    assert page.evaluate("document.activeElement.closest('article').querySelector('h2').textContent") == "second"

    page.focus("#theme")
    for theme in ("light", "dark"):
        page.keyboard.press("ArrowDown")
        wait_for(page, f"document.documentElement.dataset.theme === '{theme}'")
        wait_for(page, "document.activeElement.id === 'theme'")
    assert harm_of(page) == []
    page.context.close()


def test_whoever_reads_far_down_a_list_goes_on_reading_while_it_grows_above(stage: Stage, page: Any) -> None:
    later = {"delay": datetime.timedelta(hours=1), "tags": ("grows",)}
    jobs = [stage.enqueue("report.build", {}, **later) for _ in range(20)]
    page.goto(stage.url + "/jobs?q=tag:grows")
    page.evaluate(OFTEN)
    read = f"document.getElementById('job-{jobs[4]}')"
    page.evaluate(f"{read}.scrollIntoView({{ block: 'center' }})")
    stood = page.evaluate(f"{read}.getBoundingClientRect().top")

    newest = [stage.enqueue("report.build", {}, **later) for _ in range(3)][-1]
    wait_for(page, f"document.getElementById('job-{newest}')")

    assert abs(page.evaluate(f"{read}.getBoundingClientRect().top") - stood) < 2


def test_whoever_reads_a_long_payload_goes_on_reading_while_the_job_makes_progress(
    stage: Stage, page: Any, tmp_path: Path
) -> None:
    payload = {"pages": 3, "pause": 0.05, "until": str(tmp_path / "go"), "numbers": list(range(100))}
    job_id = stage.enqueue("sync", payload, workspace_id=stage.workspace("Long Letters"))
    stage.wait_for_status(job_id, "running")
    workspace_id = stage.scalar("select workspace_id from jobplatform.jobs where id = :id", id=job_id)
    page.goto(f"{stage.url}/jobs/{workspace_id}/{job_id}")
    page.evaluate("document.querySelector('#fold-payload pre').scrollTop = 300")

    (tmp_path / "go").touch()
    wait_for(page, "document.querySelector('#fold-result')")

    assert page.evaluate("document.querySelector('#fold-payload pre').scrollTop") == 300


def test_whoever_listens_is_told_how_a_job_ends_and_not_each_of_its_lines(
    stage: Stage, page: Any, tmp_path: Path
) -> None:
    workspace_id = stage.workspace("The Listeners")
    payload = {"pages": 3, "pause": 0.05, "until": str(tmp_path / "go")}
    job_id = stage.enqueue("sync", payload, workspace_id=workspace_id)
    stage.wait_for_status(job_id, "running")
    page.goto(f"{stage.url}/jobs/{workspace_id}/{job_id}")
    portal = stage.portal(workspace_id)
    portal.goto(f"{stage.server.url}/w/{workspace_id}/jobs/{job_id}")
    remember = """() => {
      window.told = [];
      const said = document.getElementById("said");
      new MutationObserver(() => told.push(said.textContent)).observe(said, { childList: true });
    }"""
    for one in (page, portal):
        one.evaluate(remember)

    (tmp_path / "go").touch()
    for one in (page, portal):
        wait_for(one, "told.length")
        wait_for(one, "!document.querySelector('.live-bar')")

    assert page.evaluate("told") == ["sync is completed"]
    assert portal.evaluate("told") == ["Sync: Done"]
    live = "[...document.querySelectorAll('[role=log], [aria-live], [role=status]')].map((one) => one.id)"
    assert [page.evaluate(live), portal.evaluate(live)] == [["said"], ["said"]]
    portal.context.close()


def test_whoever_prints_a_page_has_all_of_it_and_nothing_to_press_on_white_paper(stage: Stage) -> None:
    workspace_id = stage.workspace("The Printers")
    payload = {"pages": 1, "pause": 0, "numbers": list(range(100))}
    job_id = stage.enqueue("sync", payload, workspace_id=workspace_id, delay=datetime.timedelta(hours=1))
    page = stage.page(color_scheme="dark")
    page.context.add_cookies([{"name": "jobplatform_theme", "value": "dark", "url": stage.url}])
    page.goto(f"{stage.url}/jobs/{workspace_id}/{job_id}")
    cut = "[...document.querySelectorAll('.code')].filter((one) => one.scrollHeight > one.clientHeight + 1).length"
    buttons = "[...document.querySelectorAll('.button')].filter((one) => one.checkVisibility()).length"
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(14, 19, 26)"
    assert page.evaluate(cut) == 1

    page.emulate_media(media="print")

    assert page.evaluate(ground) == "rgb(245, 246, 248)"
    assert page.evaluate(cut) == 0
    assert page.evaluate(buttons) == 0
    page.context.close()


@pytest.mark.parametrize("scripts", [True, False])
def test_whoever_has_no_scripts_is_told_that_a_page_stands_still(stage: Stage, scripts: bool) -> None:
    page = stage.page(java_script_enabled=scripts)
    words = "text=Without scripts this page stays as it is now"
    page.goto(stage.url + "/queues")
    assert page.is_visible(words) is not scripts

    page.goto(stage.url + "/audit")
    assert page.locator(words).count() == 0
    page.context.close()
