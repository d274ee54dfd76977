"""What a user gets: the wheel, installed into an empty environment, without this repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.package, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Below the system's folder for such things: for root the database's own user has to get through."""
    with tempfile.TemporaryDirectory(prefix="jobplatform-wheel-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(ROOT)], check=True, capture_output=True
    )
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}

    folders = _expected("platform", "jobplatform") | _expected("migrations", "jobplatform/migrations")
    assert inside == folders | {"jobplatform_pytest.py"}


def _expected(start: str, name: str) -> set[str]:
    return {
        f"{name}/{path.relative_to(ROOT / start).as_posix()}"
        for path in (ROOT / start).rglob("*")
        # The ES module and its types are what a browser is served.
        if path.suffix in (".py", ".js", ".ts", ".css", ".svg", ".html") or path.name == "py.typed"
    }


def test_a_project_that_turns_warnings_into_errors_can_use_the_wheel_under_pytest_xdist(
    wheel: Path, tmp_path: Path
) -> None:
    """pytest-xdist has imported `queue` of the standard library before pytest looks at what plugins ship. A plugin
    whose files are taken for modules of such names is a warning in each run."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    program = "import queue, sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]

    ran = subprocess.run(
        [sys.executable, "-c", program, *options, "test_nothing.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def command(wheel: Path, folder: Path) -> Path:
    """Installed without any tool of ours."""
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", f"{wheel}[embedded]"],
        check=True,
        cwd=folder,
    )
    folder.chmod(0o711)
    return folder / "env" / "bin" / "jobplatform"


def run(command: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "data").mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    settings = {"JOBPLATFORM_DATA_DIR": str(folder / "data"), "JOBPLATFORM_PORT": "0"}
    return subprocess.run(
        [command, *arguments],
        cwd=folder,
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_the_main_job_runs_from_the_wheel_in_an_empty_environment(command: Path, folder: Path) -> None:
    demo = run(command, folder, "demo", "--fast")

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "in jobplatform.records: 1000" in demo.stdout
    assert str(ROOT) not in demo.stdout + (folder / "data" / "demo.log").read_text()


def test_the_storm_and_its_judge_run_from_the_wheel_too(command: Path, folder: Path) -> None:
    proof = run(command, folder, "prove", "--minutes", "0.1", "--jobs", "150", "--workers", "1", "--json")

    # So short a storm leaves some promises untested.
    certificate = json.loads(proof.stdout)
    assert certificate["violations"] == [], proof.stderr
    assert certificate["happened"]["completed"] > 100
    assert str(ROOT) not in proof.stdout + proof.stderr
