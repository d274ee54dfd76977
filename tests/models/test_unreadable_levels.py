"""Levels of resources that somebody had written by hand, and no claim could read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from jobplatform import migrations
from jobplatform.models import make_engine

WRITTEN = {"crm:1": "NaN", "crm:2": "infinity", "crm:3": "2147483648", "crm:4": "2147483647", "crm:5": "0.5"}
WRITE = "insert into jobplatform.resource_levels (resource, level) values (:resource, cast(:level as float8))"


@pytest.fixture
def before(empty_url: str) -> Iterator[Engine]:
    """A database of the version before, with what somebody had written there."""
    engine = make_engine(empty_url)
    migrations.upgrade(engine, "0037")
    with engine.begin() as connection:
        rows = [{"resource": resource, "level": level} for resource, level in WRITTEN.items()]
        connection.execute(text(WRITE), rows)
    yield engine
    engine.dispose()


def test_those_that_no_claim_could_read_are_forgotten_and_the_others_stay(before: Engine) -> None:
    migrations.upgrade(before, "0038")

    with before.connect() as connection:
        kept = connection.scalars(text("select resource from jobplatform.resource_levels order by 1")).all()
    assert kept == ["crm:4", "crm:5"]
