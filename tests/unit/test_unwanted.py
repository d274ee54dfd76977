"""What an installation brings along is not imported before somebody wants it: every process would pay for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = "import sys, jobplatform.api, jobplatform.cli, jobplatform.worker; print(*sys.modules)"


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The packages that all our processes together have imported when they begin."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "package",
    [
        pytest.param("opentelemetry", id="nobody traces"),
        pytest.param("prometheus_client", id="nobody counts"),
        pytest.param("cryptography", id="nobody encrypts"),
        pytest.param("alembic", id="nobody migrates"),
    ],
)
def test_what_nobody_has_asked_for_is_not_imported(imported: set[str], package: str) -> None:
    assert "jobplatform" in imported
    assert package not in imported
