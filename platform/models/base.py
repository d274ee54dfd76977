"""The declarative base, the schema's name, and the one expression by which the platform tells the time."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from sqlalchemy import DateTime, MetaData, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase
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


def clock() -> Function[datetime.datetime]:
    """The platform's time: the database's ``now()``, through one function that tests can move.

    ``jobplatform.clock()`` is a SQL function of one ``select``, which the planner inlines: in production it costs
    nothing, and a test that replaces its body moves the time of every process at once.
    """
    return func.jobplatform.clock(type_=DateTime(timezone=True))
