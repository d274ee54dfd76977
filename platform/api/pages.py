"""The pages for people, in the application that has the API. They stand above this package, which must not know them:
they are loaded by name, where they are wanted."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from flask import Flask

from jobplatform.api.mounted import Mounted
from jobplatform.settings import Settings

PAGES = "jobplatform.pages"


def mount_pages(app: Flask, mounted: Mounted, settings: Settings, access: Callable[..., Any] | None = None) -> None:
    """Serve them where the application's configuration, or else the environment, says; not at all where it says "".

    They work with what the API works with, so both count the same followers.
    """

    def wanted(name: str, default: Any) -> Any:
        return app.config.get(f"JOBPLATFORM_{name}", default)

    console = wanted("PAGES_PREFIX", settings.pages_prefix)
    portal = wanted("PORTAL_PREFIX", settings.portal_prefix)
    if not (console or portal):
        return
    pages = importlib.import_module(PAGES)
    options = pages.PagesOptions(
        read_only=wanted("PAGES_READ_ONLY", settings.pages_read_only),
        session_hours=wanted("PAGES_SESSION_HOURS", settings.pages_session_hours),
        frame_ancestors=wanted("PORTAL_FRAME_ANCESTORS", settings.portal_frame_ancestors),
    )
    pages.mount_pages(app, mounted, console_prefix=console, portal_prefix=portal, access=access, options=options)
