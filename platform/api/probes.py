"""For whoever keeps the process alive: is it there, can it serve. No token, and no facts about anybody."""

from __future__ import annotations

from flask import Response
from sqlalchemy.exc import SQLAlchemyError

from jobplatform import migrations
from jobplatform.api.answers import respond
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import unavailable
from jobplatform.api.resource import Resource
from jobplatform.api.schemas.jobs import ProbeSchema

probes = Resource("probes", __name__, description="Probes")


@probes.endpoint("GET", "/healthz", None)
@probes.answers(200, ProbeSchema)
def healthz() -> Response:
    """Say that this process answers; the older name of /livez"""
    return respond(ProbeSchema(), {"status": "ok"})


@probes.endpoint("GET", "/livez", None)
@probes.answers(200, ProbeSchema)
def livez() -> Response:
    """Say that this process answers

    Asks nothing of the database: a restart of this process would not bring that back.
    """
    return respond(ProbeSchema(), {"status": "ok"})


@probes.endpoint("GET", "/readyz", None, refuses=(503,))
@probes.answers(200, ProbeSchema)
def readyz() -> Response:
    """Say whether requests can be served

    That is so when the database answers, its schema is the one this code expects or a newer one, and the login is one
    to work with.
    """
    try:
        mounted().admission.require(mounted().sessions)
        revision = _database_revision()
    except SQLAlchemyError:
        raise unavailable("The database cannot be reached.", reason="database-unreachable") from None
    if (wrong := migrations.what_is_wrong_with(revision)) is not None:
        raise unavailable(f"{wrong[0].upper()}{wrong[1:]}.", reason="schema-not-migrated")
    return respond(ProbeSchema(), {"status": "ready"})


def _database_revision() -> str | None:
    with mounted().sessions() as session:
        engine = session.get_bind().engine
    return migrations.current(engine)
