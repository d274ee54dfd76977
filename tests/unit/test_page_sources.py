"""What must not be in the pages' own files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "platform" / "pages"

FORBIDDEN = {
    "*.html": (r"\|\s*safe\b", r"autoescape", r"<script(?![^>]*\bsrc=)", r"\sstyle=", r"\son[a-z]+=", r"javascript:", r"https?://(?!www\.w3\.org/)"),
    "*.js": (r"innerHTML", r"outerHTML", r"insertAdjacentHTML", r"document\.write", r"\beval\b", r"new Function", r"https?://"),
    "*.css": (r"@import", r"url\(", r"https?://"),
    "*.py": (r"\bMarkup\b", r"render_template_string", r"autoescape\s*=\s*False"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "form"), [(pattern, form) for pattern, forms in FORBIDDEN.items() for form in forms]
)
def test_nothing_is_called_safe_and_nothing_comes_from_elsewhere(pattern: str, form: str) -> None:
    found = [path.name for path in sorted(PAGES.rglob(pattern)) if re.search(form, path.read_text("utf-8"))]

    assert list(PAGES.rglob(pattern))
    assert found == []
