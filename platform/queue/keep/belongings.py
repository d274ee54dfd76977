"""What belongs to a workspace: found in the models, so that a table which is added later cannot be forgotten.

Every table with a column ``workspace_id`` belongs to it by that; the workspace's own row, and rows that are about a
workspace only if they say so, are named here.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, MetaData, Table, literal, select
from sqlalchemy.orm import Session

from jobplatform.models import AuditEntry, Base, visit
from jobplatform.queue.callers import checks_arguments

#: Tables whose rows are about all kinds of things: those of a workspace say so in two columns.
BY_KIND = frozenset({"pauses", "buckets"})


class Belonging(NamedTuple):
    """A table, and which of its rows are the workspace's."""

    table: Table
    mine: ColumnElement[bool]


def belongings(workspace_id: uuid.UUID, metadata: MetaData = Base.metadata) -> Sequence[Belonging]:
    """Every table that can have something of a workspace, those that others refer to before those that refer."""
    found = []
    for table in metadata.sorted_tables:
        mine = _mine(table, workspace_id)
        if mine is not None and not table.info.get("is_view"):
            found.append(Belonging(table, mine))
    return found


@checks_arguments()
def owns_something(session: Session, workspace_id: uuid.UUID) -> bool:
    """Whether there is anything of this workspace, but for lines of the audit log. A misspelt id has nothing."""
    visit(session, workspace_id)
    found = [
        select(select(literal(1)).select_from(table).where(mine).exists())
        for table, mine in belongings(workspace_id)
        if table.name != AuditEntry.__tablename__
    ]
    return any(session.scalar(one) for one in found)


def _mine(table: Table, workspace_id: uuid.UUID) -> ColumnElement[bool] | None:
    if "workspace_id" in table.c:
        return table.c.workspace_id == workspace_id
    if table.name == "workspaces":
        return table.c.id == workspace_id
    if table.name in BY_KIND:
        return (table.c.kind == "workspace") & (table.c.key == str(workspace_id))
    return None
