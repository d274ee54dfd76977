"""The checker of the chaos run: it finds what is broken, and accuses nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from jobplatform.testing import Databases
from tests.chaos.mutants import MUTANTS, Mutant, Scene, play, prepare
from tests.chaos.variants import VARIANTS


@pytest.fixture(scope="module")
def databases(jobplatform_databases: Databases) -> Iterator[Databases]:
    """They keep their history. One goes from scene to scene, as long as no variant breaks it."""
    databases = jobplatform_databases.altered(prepare)
    yield databases
    databases.close()


@pytest.fixture
def database_url(databases: Databases, reach: Callable[[str], str]) -> Iterator[str]:
    yield reach(databases.reused())
    databases.clean()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.variant)
def test_the_checker_finds_a_broken_platform(mutant: Mutant, database_url: str) -> None:
    findings = play(mutant.scene, database_url, mutant.variant)

    assert mutant.rule in {finding.rule for finding in findings}


@pytest.mark.parametrize("scene", dict.fromkeys(mutant.scene for mutant in MUTANTS), ids=lambda scene: scene.__name__)
def test_the_checker_accuses_no_healthy_platform(scene: Scene, database_url: str) -> None:
    findings = play(scene, database_url)

    assert findings == []


def test_every_variant_has_a_scene_in_which_it_shows() -> None:
    assert {mutant.variant for mutant in MUTANTS} == set(VARIANTS)
