"""A real browser, where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "there is no Chromium on this machine (Debian: apt install chromium)"


@contextmanager
def open_browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def sign_in(page: Any, url: str, token: str) -> None:
    page.goto(f"{url}/console/sign-in")
    give_token(page, token)


def sign_in_to_portal(page: Any, url: str, token: str) -> None:
    page.goto(f"{url}/w/sign-in")
    give_token(page, token)


def give_token(page: Any, token: str) -> None:
    """On the page that asks for one."""
    page.fill("#token", token)
    page.click("form[action$='/sign-in'] button")
