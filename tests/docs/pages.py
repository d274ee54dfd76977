"""The pages of the documentation, as the tests read them.

Every fenced block of Python must compile and every one of SQL must run. A block whose fence says ``python run`` is
executed: those of a page one after the other, in one namespace. ``sql no-run`` is for administrators' statements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block: its page, the line it begins at, the words after the fence, and its text."""

    page: Path
    line: int
    words: tuple[str, ...]
    text: str

    @property
    def language(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def label(self) -> str:
        return f"{name(self.page)}:{self.line}"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(language: str) -> list[Block]:
    """Every block in this language, of all pages."""
    return [block for page in PAGES for block in blocks_of(page) if block.language == language]


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in _FENCE.finditer(text):
        indent, words, body = match.groups()
        line = text.count("\n", 0, match.start()) + 2
        lines = (row.removeprefix(indent) for row in body.splitlines(keepends=True))
        yield Block(page, line, tuple(words.split()), "".join(lines))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def inline_code(page: Path) -> list[str]:
    """What stands between backticks in the prose of a page."""
    return _INLINE.findall(prose(page))


def table_rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the rows of the first table below a heading."""
    below = f"\n{page.read_text()}".split(f"\n{heading}\n", 1)[1]
    rows: list[list[str]] = []
    for line in below.splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split(" | ")])
        elif rows:
            break
    return rows[2:]
