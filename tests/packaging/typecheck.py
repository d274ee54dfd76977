"""mypy, and a look at whether it looked: one that finds no files is green too."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN = ("platform", "migrations")


def main() -> int:
    """Run mypy on the package; fail when it checked fewer files than there are."""
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    sys.stdout.write(done.stdout + done.stderr)
    if done.returncode:
        return done.returncode
    there = sum(1 for folder in OWN for path in (ROOT / folder).rglob("*.py") if path.stem.isidentifier())
    counted = re.search(r"in (\d+) source files", done.stdout)
    checked = int(counted[1]) if counted else 0
    if checked < there:
        sys.stdout.write(f"mypy checked {checked} files and there are {there}: does .link lead to them?\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
