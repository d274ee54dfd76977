"""The declarative base, the schema's name, and the one expression by which the platform tells the time."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from sqlalchemy import DateTime, MetaData, PrimaryKeyConstraint, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.compiler import DDLCompiler
from sqlalchemy.sql.functions import Function

SCHEMA = "jobplatform"

NAMING = {
    "ix": "%(table_name)s_%(column_0_N_name)s",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}


class Base(DeclarativeBase):
    """The base of our models. Its own metadata and schema, so that a host's autogenerate stays clean."""

    metadata = MetaData(schema=SCHEMA, naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime.datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }


class RoomyKey(PrimaryKeyConstraint):
    """A primary key whose index leaves its pages ``filled`` to so many percent, as ``fillfactor`` does for others."""

    def __init__(self, *columns: str, filled: int) -> None:
        super().__init__(*columns)
        self.filled = filled


@compiles(RoomyKey)
def _with_room(key: RoomyKey, compiler: DDLCompiler, **options: Any) -> str:
    return f"{compiler.visit_primary_key_constraint(key, **options)} WITH (fillfactor={key.filled})"


def clock() -> Function[datetime.datetime]:
    """The platform's time: the database's ``now()``, through one function that tests can move.

    ``jobplatform.clock()`` is a SQL function of one ``select``, which the planner inlines: in production it costs
    nothing, and a test that replaces its body moves the time of every process at once.
    """
    return func.jobplatform.clock(type_=DateTime(timezone=True))
