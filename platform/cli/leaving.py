"""``jobplatform workspaces encrypt``, ``export`` and ``erase``: what happens to a workspace's data as a whole."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.cli.acting import actor, audit
from jobplatform.cli.amounts import Duration
from jobplatform.cli.database import find_workspace, open_session
from jobplatform.cli.show import as_json_option, tell
from jobplatform.models import ExportFile, Role, confine
from jobplatform.queue import (
    begin_erasing,
    count_running,
    erase_some,
    export_files,
    export_workspace,
    finish_erasing,
    owns_something,
    set_encrypting,
    stop_running,
)
from jobplatform.settings import Settings
from jobplatform.wording import agreeing, plural

LOOK_EVERY = 0.2


@click.command()
@click.argument("workspace")
@click.option("--off", is_flag=True, help="Seal only the jobs of tasks that ask for it.")
@as_json_option
def encrypt(workspace: str, off: bool, as_json: bool) -> None:
    """Seal every job that is enqueued for a workspace from now on. Jobs that are there stay as they are."""
    with open_session() as session:
        # An id that nobody used yet is fine here: nothing of it should ever be written in the clear.
        workspace_id = find_workspace(session, workspace)
        set_encrypting(session, workspace_id, not off)
        audit(session, "workspace.encrypt", f"workspace:{workspace_id}", workspace_id, encrypts=not off)
    sentence = f"new jobs of {workspace_id} are " + ("sealed only where their task asks for it" if off else "sealed")
    tell(as_json, sentence, workspace_id=workspace_id, encrypts=not off)


@click.command()
@click.argument("workspace")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A new file (.zip) or folder. Default: workspace-ID.zip."
)
@as_json_option
def export(workspace: str, output: Path | None, as_json: bool) -> None:
    """Write everything there is of a workspace into files, all from one moment.

    With JOBPLATFORM_ENCRYPTION_KEYS what is sealed is written in the clear.
    """
    with open_session() as session:
        workspace_id = _find_owner(session, workspace)
        path = output or Path(f"workspace-{workspace_id}.zip")
        session.commit()
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        try:
            with export_files(path) as files:
                counts = export_workspace(session, workspace_id, files)
        except OSError as error:
            raise click.ClickException(f"cannot write {path}: {error}") from error
        audit(session, "workspace.export", f"workspace:{workspace_id}", workspace_id, rows=sum(counts.values()))
    sentence = f"{_rows(counts, workspace_id)} in {path}"
    tell(as_json, sentence, workspace_id=workspace_id, path=str(path), rows=dict(counts))


@click.command()
@click.argument("workspace")
@click.option("--yes", is_flag=True, help="There is no way back; say that this is meant.")
@click.option("--cancel-running", is_flag=True, help="Cancel the jobs that run. Default: refuse while there are some.")
@click.option("--wait", type=Duration(0), default="60s", show_default=True, help="So long they get to end.")
@as_json_option
def erase(workspace: str, yes: bool, cancel_running: bool, wait: datetime.timedelta, as_json: bool) -> None:
    """Delete everything of a workspace, its keys first. One line of the audit log remains. Safe to repeat."""
    if not yes:
        raise click.UsageError("this deletes every job, connection and record of the workspace; say --yes if so")
    with open_session(role=None) as session:
        workspace_id = _by_id(workspace) or _by_name(session, workspace)
        # As the owner of the tables, who sees one workspace at a time: no other's row can be touched.
        confine(session, Role.OWNER, workspace_id)
        _require_anything(session, workspace_id)
        running = count_running(session, workspace_id)
        if running and not cancel_running:
            told = plural(running, "job of it runs; wait for it", "jobs of it run; wait for them")
            raise click.ClickException(f"{told}, or say --cancel-running")
        counts = Counter(begin_erasing(session, workspace_id, actor=actor()))
        session.commit()
        _wait_for_running(session, workspace_id, wait.total_seconds(), cancel=cancel_running)
        _delete_files(session, workspace_id)
        while some := erase_some(session, workspace_id):
            session.commit()
            counts += Counter(some)
        finish_erasing(session, workspace_id, +counts, actor=actor())
    sentence = f"{_rows(counts, workspace_id)} erased; one line of the audit log tells of it"
    tell(as_json, sentence, workspace_id=workspace_id, rows=dict(+counts))


def _rows(counts: Mapping[str, int], workspace_id: UUID) -> str:
    number = sum(counts.values())
    return f"{plural(number, 'row')} of {workspace_id} {agreeing(number, 'is', 'are')}"


def _find_owner(session: Session, text: str) -> UUID:
    """A workspace of which there is anything at all: what an interrupted erase has left may be records only."""
    workspace_id = find_workspace(session, text)
    _require_anything(session, workspace_id)
    return workspace_id


def _by_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _by_name(session: Session, name: str) -> UUID:
    """Names are an operator's to look through: the owner of the tables sees nothing before it has said a workspace."""
    confine(session, Role.OPERATOR)
    workspace_id = find_workspace(session, name)
    session.commit()
    return workspace_id


def _require_anything(session: Session, workspace_id: UUID) -> None:
    if not owns_something(session, workspace_id):
        raise click.BadParameter(f"there is nothing of a workspace {workspace_id}; see `jobplatform workspaces ls`")


def _delete_files(session: Session, workspace_id: UUID) -> None:
    """Exported files, before the rows by which they are known."""
    keys = session.scalars(select(ExportFile.key).where(ExportFile.workspace_id == workspace_id)).all()
    session.commit()
    if not keys:
        return
    from jobplatform.connectors import open_store

    store = open_store(Settings.from_env())
    for key in keys:
        store.delete(key)


def _wait_for_running(session: Session, workspace_id: UUID, seconds: float, *, cancel: bool) -> None:
    deadline = time.monotonic() + seconds
    while running := (stop_running if cancel else count_running)(session, workspace_id):
        session.commit()
        if time.monotonic() > deadline:
            told = plural(running, "job still runs", "jobs still run")
            raise click.ClickException(
                f"{told} after {seconds:g} s. The workspace is paused and its keys are destroyed; "
                "nothing else is deleted yet. Say the same again to go on."
            )
        time.sleep(LOOK_EVERY)
    session.commit()
