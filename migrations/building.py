"""Indexes of tables that are in use.

**The rule for whoever writes a migration.** A table that the same migration makes gets its indexes with it, in plain
``create index``. On any other table an index is built by :func:`build_index`, and that comes first in ``upgrade()``::

    def upgrade() -> None:
        build_index("create index job_records_parent on jobplatform.job_records (workspace_id, parent_id, id)")
        op.execute(...)

Somebody works with such a table, and a plain ``create index`` lets nobody write to it until it is built. So it is
built concurrently, outside of a transaction. What stands before it in ``upgrade()`` would be committed without the
migration's version, and be done twice when the migration is run again: so nothing may. A column that the index needs is
added within :func:`committed`, ``if not exists``.

The rest of ``upgrade()`` is one transaction, and holds its locks until its end: nothing in it may take long. A check is
added ``not valid`` and then validated, both within :func:`committed`; a column has a constant default or none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from alembic import context, op
from sqlalchemy import text

from jobplatform.migrations import scripts
from jobplatform.migrations.scripts import going_on, has_owner
from jobplatform.migrations.turns import BRIEF
from jobplatform.models import SCHEMA, Role

#: Bytes of a table that is read before anybody notices. A concurrent build would wait for every transaction around.
SMALL = 2**20

#: A concurrent build stops nobody while it waits for somebody, and to give up is to begin anew.
PATIENCE = "10min"

#: Where a script notes that not all of it is within transactions.
OUTSIDE = "outside"

STATEMENT = re.compile(
    rf"\s*create (?P<unique>unique )?index (?P<name>\w+)\s+on (?P<table>{SCHEMA}\.\w+) (?P<rest>.+?)\s*", re.DOTALL
)

# An index that was not finished serves nobody, and `if not exists` would leave it so.
BROKEN = "exists (select from pg_index where indexrelid = to_regclass('{index}') and not indisvalid)"
DROP_BROKEN = f"""
do $$
begin
    if {BROKEN} then
        drop index {{index}};
    end if;
end
$$
"""


class Index(NamedTuple):
    """What an index is made by, in parts."""

    create: str
    name: str
    table: str
    rest: str

    @classmethod
    def read(cls, statement: str) -> Index:
        if (found := STATEMENT.fullmatch(statement)) is None:
            raise ValueError(f"not of the form `create index NAME on {SCHEMA}.TABLE (...)`: {statement}")
        return cls(f"create {found['unique'] or ''}index", found["name"], found["table"], found["rest"])

    @property
    def qualified(self) -> str:
        return f"{SCHEMA}.{self.name}"

    def building(self, how: str = "") -> str:
        return f"{self.create} {how}if not exists {self.name} on {self.table} {self.rest}"


def build_index(statement: str) -> None:
    """Run ``create index NAME on jobplatform.TABLE ...`` while others read and write the table.

    One of that name that is there is left as it is, unless its build was broken off: then it is built again.
    """
    index = Index.read(statement)
    if not is_beside_others():
        op.execute(index.building())
    elif context.is_offline_mode():
        _write_build(index)
    else:
        _build(index)


@contextmanager
def committed() -> Iterator[None]:
    """Beside others each statement of the block is a transaction of its own, so that none keeps the lock of another.

    Whatever is in it may be run again. Like :func:`build_index` it comes first.
    """
    if not is_beside_others():
        yield
    elif context.is_offline_mode():
        yield from _written_outside()
    else:
        _require_nothing_written()
        with op.get_context().autocommit_block():
            yield


def is_beside_others() -> bool:
    """Whether this migration changes a database that is in use, and does not belong to the making of one."""
    if context.is_offline_mode():
        return context.get_starting_revision_argument() is not None
    return bool(op.get_context().opts.get("transaction_per_migration"))


def _build(index: Index) -> None:
    is_small = _ask(f"pg_relation_size('{index.table}') <= {SMALL}")
    is_broken = _ask(BROKEN.format(index=index.qualified))
    how = "" if is_small else "concurrently "
    with committed(), _patience(BRIEF if is_small else PATIENCE):
        if is_broken:
            op.execute(f"drop index {how}{index.qualified}")
        op.execute(index.building(how))


@contextmanager
def _patience(duration: str) -> Iterator[None]:
    op.execute(f"set lock_timeout = '{duration}'")
    yield
    op.execute(f"set lock_timeout = '{BRIEF}'")


def _write_build(index: Index) -> None:
    """Of the table of whoever runs the SQL we know nothing: it may be large."""
    with committed():
        op.execute(DROP_BROKEN.format(index=index.qualified))
        op.execute(f"set lock_timeout = '{PATIENCE}'")
        op.execute(index.building("concurrently "))


def _written_outside() -> Iterator[None]:
    begins_at = str(context.get_starting_revision_argument())
    context.config.attributes[OUTSIDE] = True
    with op.get_context().autocommit_block():
        op.execute(f"set lock_timeout = '{scripts.PATIENCE}'")
        if has_owner(begins_at):
            op.execute(f"set role {Role.OWNER}")
        yield
        op.execute("reset role")
        op.execute("reset lock_timeout")
    for statement in going_on(begins_at):
        op.execute(statement)


def _require_nothing_written() -> None:
    if _ask("pg_current_xact_id_if_assigned() is not null"):
        raise RuntimeError("what stands before build_index() would be committed without its version: it comes first")


def _ask(question: str) -> bool:
    return bool(op.get_bind().scalar(text(f"select {question}")))
