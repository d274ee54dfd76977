"""What is nowhere: the answer of these pages for every path below their prefix that is not one of theirs."""

from __future__ import annotations

from typing import NoReturn

from jobplatform.pages.problems import nothing_here
from jobplatform.pages.shell import Section


def make_nothing() -> Section:
    section = Section("nothing", __name__)
    section.page("/<path:_path>")(show_nothing)
    return section


def show_nothing(_path: str) -> NoReturn:
    raise nothing_here()
