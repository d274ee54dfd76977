"""The real React, where it has been installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

#: What `make` installs by examples/tasks_service/requirements.txt.
REACT = Path(sys.prefix) / "react"
SCRIPTS = {
    "/react.js": REACT / "dash" / "deps" / "react@18.3.1.min.js",
    "/react-dom.js": REACT / "dash" / "deps" / "react-dom@18.3.1.min.js",
}

needs_react = pytest.mark.skipif(
    not REACT.exists(), reason="React is not here: see examples/tasks_service/requirements.txt"
)
