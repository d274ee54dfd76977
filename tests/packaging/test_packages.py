from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]
MAPPED = [
    "jobplatform.api",
    "jobplatform.api.access",
    "jobplatform.api.operator",
    "jobplatform.api.schemas",
    "jobplatform.api.streams",
    "jobplatform.cli",
    "jobplatform.cli.serving",
    "jobplatform.connectors",
    "jobplatform.models",
    "jobplatform.pages",
    "jobplatform.pages.console",
    "jobplatform.proof",
    "jobplatform.queue",
    "jobplatform.queue.after",
    "jobplatform.queue.attempts",
    "jobplatform.queue.by_hand",
    "jobplatform.queue.chores",
    "jobplatform.queue.health",
    "jobplatform.queue.hooks",
    "jobplatform.queue.keep",
    "jobplatform.queue.limits",
    "jobplatform.queue.numbers",
    "jobplatform.queue.pages",
    "jobplatform.queue.reading",
    "jobplatform.queue.run",
    "jobplatform.queue.schedules",
    "jobplatform.queue.tasks",
    "jobplatform.queue.why",
    "jobplatform.worker",
]
MAP = """Doors, and what is behind them.

Where to look, by what is asked:

    how it begins    opening, rooms/ (a folder, with
                     a map of its own)
    how it ends      closing

Come in by the door.
"""


def folder_of(package: str) -> Path:
    """Where a package's files are in the repository."""
    _, _, rest = package.partition(".")
    start = "migrations" if rest.split(".")[0] == "migrations" else "platform"
    below = rest.split(".")[1:] if start == "migrations" else rest.split(".")
    return ROOT.joinpath(start, *(part for part in below if part))


def test_every_folder_with_python_files_is_a_listed_package() -> None:
    folders = {
        path.parent
        for start in ("platform", "migrations")
        for path in (ROOT / start).rglob("*.py")
        if "__pycache__" not in path.parts
    }

    assert folders == {folder_of(package) for package in PACKAGES}


@pytest.mark.parametrize("package", [name for name in PACKAGES if not name.endswith(".versions")])
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (folder_of(package) / "py.typed").exists()


def test_the_folder_platform_does_not_hide_the_standard_librarys_module() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_type_checkers_see_the_folders_under_their_import_names() -> None:
    assert (ROOT / ".link/jobplatform").resolve() == ROOT / "platform"
    assert (ROOT / ".link/alembic/jobplatform/migrations").resolve() == ROOT / "migrations"


def map_of(package: str) -> str:
    door = folder_of(package) / "__init__.py"
    return (door.exists() and ast.get_docstring(ast.parse(door.read_text()))) or ""


def modules_of(package: str) -> set[str]:
    """What a package's map is to name: its modules, and its folders with a slash."""
    paths = [path for path in folder_of(package).iterdir() if not path.name.startswith("_")]
    modules = {path.stem for path in paths if path.suffix == ".py"}
    return modules | {f"{path.name}/" for path in paths if (path / "__init__.py").exists()}


def faults_of(docstring: str, modules: set[str]) -> dict[str, list[str]]:
    """What a map leaves out, names twice, or names although it is not there. What is in brackets explains a name."""
    _, _, below = docstring.partition("Where to look")
    rows = [re.sub(r"^ {4}\S.*? {2,}", "", row) for row in below.splitlines() if row.startswith(" " * 4)]
    named = Counter(re.findall(r"[^\s,]+", re.sub(r"\([^)]*\)", "", " ".join(rows))))
    return {
        "missing": sorted(modules - named.keys()),
        "twice": sorted(name for name, times in named.items() if times > 1),
        "not there": sorted(named.keys() - modules),
    }


@pytest.mark.parametrize("package", MAPPED)
def test_the_map_of_a_package_names_each_of_its_modules_once(package: str) -> None:
    assert faults_of(map_of(package), modules_of(package)) == {"missing": [], "twice": [], "not there": []}


def test_every_package_with_a_map_is_checked() -> None:
    assert [package for package in sorted(PACKAGES) if "Where to look" in map_of(package)] == MAPPED


def test_a_map_that_leaves_something_out_or_names_it_twice_is_found_out() -> None:
    assert not any(faults_of(MAP, {"opening", "rooms/", "closing"}).values())
    assert faults_of(MAP, {"opening", "rooms/", "closing", "locking"})["missing"] == ["locking"]
    assert faults_of(MAP, {"opening", "rooms", "closing"})["not there"] == ["rooms/"]
    assert faults_of(MAP.replace("closing", "closing, opening"), set())["twice"] == ["opening"]


def test_the_constraints_pin_everything_that_is_installed_and_name_no_index() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {
        line.split("==")[0].lower(): line.split("==")[1].split(";")[0].strip()
        for line in lines
        if line and not line.startswith("#")
    }

    assert not [line for line in lines if line.startswith("-") or "://" in line]
    for name in _needed("jobplatform", {"dev", "embedded"}, set()):
        assert pins.get(name), f"{name} is installed and not pinned"


def _needed(distribution: str, extras: set[str], seen: set[str]) -> set[str]:
    """Everything that an installation brings along on this Python and system, normalised names."""
    from packaging.requirements import Requirement

    for text in metadata.requires(distribution) or []:
        requirement = Requirement(text)
        name = requirement.name.lower().replace("_", "-").replace(".", "-")
        wanted = any(
            requirement.marker is None or requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras}
        )
        if wanted and name != "jobplatform" and name not in seen:
            seen.add(name)
            _needed(requirement.name, set(requirement.extras), seen)
    return seen
