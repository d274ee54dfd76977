"""The stylesheet, the scripts and the icon: our own files, at addresses that change with what is in them."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources

from flask import Response

from jobplatform.pages.problems import AbsentError
from jobplatform.pages.shell import Section, url

TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
FOR_EVER = "public, max-age=31536000, immutable"


def make_assets() -> Section:
    """Each shell has its own, so that its pages ask for nothing outside its prefix."""
    section = Section("assets", __name__)
    section.open("/assets/<digest>/<name>")(asset)
    return section


def asset(digest: str, name: str) -> Response:
    """A file by its name. One that was asked for by another version of the pages is served, and not kept."""
    found = files().get(name)
    if found is None:
        raise AbsentError
    response = Response(found, content_type=TYPES[name.rsplit(".", 1)[1]])
    response.headers["Cache-Control"] = FOR_EVER if digest == digest_of_all() else "no-cache"
    return response


def asset_url(name: str) -> str:
    """Modules find each other beside themselves: all files share the digest of all."""
    return url("assets.asset", digest=digest_of_all(), name=name)


@functools.cache
def files() -> dict[str, bytes]:
    folder = resources.files("jobplatform.pages") / "static"
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name.rsplit(".", 1)[-1] in TYPES}


@functools.cache
def digest_of_all() -> str:
    whole = hashlib.sha256()
    for name, content in sorted(files().items()):
        whole.update(name.encode() + b"\0" + content)
    return whole.hexdigest()[:16]
