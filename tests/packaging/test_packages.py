from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]


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
