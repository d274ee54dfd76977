"""A host application's own Alembic, whose autogenerate leaves our schema alone."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Engine, Integer, MetaData, Table
from sqlalchemy.schema import CreateSchema

from jobplatform.migrations import include_name
from jobplatform.models import SCHEMA


@pytest.fixture
def models(engine: Engine) -> MetaData:
    """The tables of a host, in the default schema and in one of its own, as they are in the database."""
    metadata = MetaData()
    Table("orders", metadata, Column("id", Integer, primary_key=True))
    Table("invoices", metadata, Column("id", Integer, primary_key=True), schema="billing")
    with engine.begin() as connection:
        connection.execute(CreateSchema("billing"))
        metadata.create_all(connection)
    return metadata


def proposed(engine: Engine, models: MetaData, **options: Any) -> list[tuple[str, str]]:
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts=options), models)
    return [(change[0], str(change[1])) for change in found if isinstance(change, tuple)]


def test_it_does_not_see_our_schema_where_it_looks_at_the_default_one(engine: Engine) -> None:
    models = MetaData()
    Table("orders", models, Column("id", Integer, primary_key=True))
    models.create_all(engine)

    assert proposed(engine, models) == []


def test_it_proposes_nothing_of_ours_where_it_looks_at_all_schemas(engine: Engine, models: MetaData) -> None:
    assert ("remove_table", f"{SCHEMA}.workspaces") in proposed(engine, models, include_schemas=True)

    assert proposed(engine, models, include_schemas=True, include_name=include_name) == []


def test_it_goes_on_seeing_what_the_host_changes_in_its_own_schemas(engine: Engine, models: MetaData) -> None:
    Table("customers", models, Column("id", Integer, primary_key=True))
    Table("receipts", models, Column("id", Integer, primary_key=True), schema="billing")
    models.remove(models.tables["billing.invoices"])

    changes = proposed(engine, models, include_schemas=True, include_name=include_name)

    assert sorted(changes) == [
        ("add_table", "billing.receipts"),
        ("add_table", "customers"),
        ("remove_table", "billing.invoices"),
    ]
