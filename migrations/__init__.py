"""The schema's history, and the few things that are done with it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from jobplatform.errors import MigrationError
from jobplatform.models import SCHEMA, make_engine

__all__ = ["check", "current", "downgrade", "head", "upgrade", "upgrade_sql"]


def upgrade(target: Engine | str, revision: str = "head") -> None:
    """Bring the database to ``revision``, in one transaction. Safe to call from several processes at once."""
    with _transaction(target) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(target: Engine | str, revision: str) -> None:
    """Take the database back to ``revision`` (``"base"`` removes every table of ours, with what is in it)."""
    with _transaction(target) as connection:
        command.downgrade(_config(connection), revision)


def upgrade_sql() -> str:
    """The SQL of every migration, for a database that only its administrators may change."""
    buffer = io.StringIO()
    config = _config(None)
    config.output_buffer = buffer
    command.upgrade(config, "head", sql=True)
    return buffer.getvalue()


def head() -> str:
    """The revision that this code expects."""
    revision = ScriptDirectory.from_config(_config(None)).get_current_head()
    assert revision is not None, "there is at least one migration"
    return revision


def current(target: Engine) -> str | None:
    """The revision that the database is at; None for a database without our schema."""
    with target.connect() as connection:
        if not inspect(connection).has_table("alembic_version", schema=SCHEMA):
            return None
        context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
        return context.get_current_revision()


def check(target: Engine) -> None:
    """Raise :class:`MigrationError` unless the database is at the revision this code expects."""
    found, expected = current(target), head()
    if found != expected:
        raise MigrationError(
            f"the database is at revision {found or '(none)'}, this version of jobplatform needs {expected}; "
            "run `jobplatform migrate`"
        )


@contextmanager
def _transaction(target: Engine | str) -> Iterator[Connection]:
    """A transaction on ``target``. An engine made here leaves no connection open."""
    engine = make_engine(target, application_name="jobplatform-migrate") if isinstance(target, str) else target
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        if engine is not target:
            engine.dispose()


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
