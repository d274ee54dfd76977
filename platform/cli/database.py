"""Which database a command works on, and for how long."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

import click
from sqlalchemy import Engine, select
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import Session

from jobplatform import migrations
from jobplatform.cli.refusals import MISSING, sqlstate_of
from jobplatform.cli.show import several
from jobplatform.embedded import EmbeddedServer
from jobplatform.errors import MigrationError
from jobplatform.key_ring import ring_beside
from jobplatform.models import (
    JobRecord,
    Role,
    confine,
    embedded_login,
    is_shared,
    make_engine,
    set_free,
)
from jobplatform.queue import Tasks, load_tasks, nearest_workspace_name, workspaces_named
from jobplatform.queue import find_workspace as look_for_workspace
from jobplatform.settings import Settings

logger = logging.getLogger(__name__)


#: Of commands about one job.
of_a_job_option = click.option("-w", "--workspace", help="By id or name. Default: the one that has the job.")


@contextmanager
def open_database(settings: Settings, *roles: Role) -> Iterator[str]:
    """The URL of the configured database. Without one, the embedded PostgreSQL runs for as long as the block does
    (and longer when another process uses it too), and its login is one for ``roles``; its superuser without."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    server = EmbeddedServer(settings.data_dir, programs=settings.postgres_programs)
    with ring_beside(settings.data_dir):
        try:
            url = server.start()
            yield embedded_login(server, *roles) if roles else url
        finally:
            server.stop()


def mention_migrations(url: str) -> None:
    """Log it once if the schema is not of this version: nothing that is asked of it may work until it is.

    No reason not to start: somebody may be migrating now, and who cannot be asked says so by itself.
    """
    engine = make_engine(url, application_name="jobplatform-cli", pool_size=1)
    try:
        migrations.check(engine)
    except MigrationError as error:
        logger.warning("the schema is not of this version", extra={"error": str(error)})
    except SQLAlchemyError:
        pass
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class Host:
    """A host application whose own command line ours is part of: its sessions and its tasks take the place of ours."""

    sessions: Callable[[], Session]
    tasks: Tasks


_host: ContextVar[Host | None] = ContextVar("jobplatform_host", default=None)


@contextmanager
def hosted(host: Host) -> Iterator[None]:
    """Let the commands within the block work on the host's database, with the host's tasks."""
    token = _host.set(host)
    try:
        yield
    finally:
        _host.reset(token)


def known_tasks() -> Tasks:
    """The application's tasks: the host's, or those that the settings name."""
    if (host := _host.get()) is not None:
        return host.tasks
    settings = Settings.from_env()
    tasks = load_tasks(settings.tasks)
    tasks.mode = settings.mode
    return tasks


@contextmanager
def open_engine(application_name: str = "jobplatform-cli") -> Iterator[Engine]:
    """An engine on that database, for transactions with all rights of the login: the host's, or one of our own."""
    if (host := _host.get()) is not None:
        yield _engine_of(host)
        return
    with open_database(Settings.from_env()) as url:
        engine = make_engine(url, application_name=application_name, pool_size=1)
        try:
            yield engine
        finally:
            engine.dispose()


def _engine_of(host: Host) -> Engine:
    with host.sessions() as session:
        return session.get_bind().engine


@contextmanager
def open_engine_past_pooler(application_name: str) -> Iterator[tuple[Engine, bool]]:
    """The same by the direct address, where there is one and the other leads through a pooler; and whether it is that.

    A worker's environment may have a direct address of its own login: it is no better where nothing stands between.
    """
    with open_engine(application_name) as engine:
        direct = None if _host.get() is not None else Settings.from_env().direct_database_url
        if direct is None or not _leads_through_pooler(engine):
            yield engine, False
            return
    engine = make_engine(direct, application_name=application_name, pool_size=1)
    try:
        yield engine, True
    finally:
        engine.dispose()


def _leads_through_pooler(engine: Engine) -> bool:
    with engine.connect() as connection:
        return is_shared(connection.connection)


@contextmanager
def open_session(role: Role | None = Role.OPERATOR) -> Iterator[Session]:
    """A session on that database, committed at the end of the block unless it raises. Whoever runs a command sees all
    workspaces, as an operator does; without a role, what the login sees."""
    if (host := _host.get()) is not None:
        with _telling_of_the_schema(lambda: _engine_of(host)), _hosted_session(host, role) as session:
            yield session
        return
    with (
        open_engine() as engine,
        _telling_of_the_schema(lambda: engine),
        Session(engine, expire_on_commit=False) as session,
    ):
        if role is not None:
            confine(session, role)
        yield session
        session.commit()


@contextmanager
def _telling_of_the_schema(engine: Callable[[], Engine]) -> Iterator[None]:
    """Where something of ours is not in the database, say first that it is at another revision, if that is so."""
    try:
        yield
    except (MigrationError, ProgrammingError) as error:
        if isinstance(error, MigrationError) or sqlstate_of(error) in MISSING:
            migrations.check(engine())
        raise


@contextmanager
def _hosted_session(host: Host, role: Role | None) -> Iterator[Session]:
    with host.sessions() as session:
        # What was read is shown after the commit. The host may hand out the same Session again, and use it itself.
        expires, session.expire_on_commit = session.expire_on_commit, False
        if role is not None:
            confine(session, role)
        try:
            yield session
            session.commit()
        finally:
            session.rollback()
            set_free(session)
            session.expire_on_commit = expires


def find_workspace(session: Session, text: str) -> UUID:
    """A workspace by its id or, where there is just one of that name, by its name. An id need not have a row: a host
    application may keep its workspaces in tables of its own."""
    try:
        return UUID(text)
    except ValueError:
        found = workspaces_named(session, text)
    if len(found) == 1:
        return found[0][0]
    if found:
        raise click.BadParameter(several("workspace", text, found))
    raise click.BadParameter(
        f"no workspace is named {text!r}{_nearest(session, text)}; see `jobplatform workspaces ls`"
    )


def find_workspace_of(session: Session, job_id: UUID, workspace: str | None) -> UUID:
    """The workspace that was named, or else the one that has the job."""
    if workspace is not None:
        return find_workspace(session, workspace)
    found = session.scalars(select(JobRecord.workspace_id).where(JobRecord.id == job_id)).all()
    if not found:
        raise click.ClickException(f"no job has the id {job_id}; it may have been deleted, see `jobplatform retention`")
    if len(found) > 1:
        raise click.UsageError(f"{len(found)} workspaces have a job {job_id}: add -w with one of {_listed(found)}")
    return found[0]


def _listed(ids: Sequence[UUID]) -> str:
    return ", ".join(map(str, ids))


def _nearest(session: Session, text: str) -> str:
    near = nearest_workspace_name(session, text)
    return f"; did you mean {near!r}" if near else ""


def find_known_workspace(session: Session, text: str) -> UUID:
    """The same for what is to be changed: an id that nobody ever used is more likely a mistake than a workspace."""
    workspace_id = find_workspace(session, text)
    if look_for_workspace(session, workspace_id) is None:
        raise click.BadParameter(
            f"no workspace has the id {workspace_id}, and no job either; see `jobplatform workspaces ls`"
        )
    return workspace_id
