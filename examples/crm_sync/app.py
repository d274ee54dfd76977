"""A CRM's copy: a workspace connects HubSpot, and sees its contacts here.

Somebody is sent to HubSpot, consents, and comes back. Their consent and the first sync are one transaction: there is no
connection that nobody reads, and no sync of one without credentials. What happens then is the platform's: pages,
tokens, limits, a worker that is killed.

To try it, with a stand-in for HubSpot instead of an account:

    python examples/crm_sync/fake_hubspot.py 9001
    export DATABASE_URL=postgresql://… JOBPLATFORM_TRUST_LOGIN=true  # a superuser, to try it
    export JOBPLATFORM_ENCRYPTION_KEYS=$(jobplatform keys generate 2026)
    export JOBPLATFORM_OAUTH_CLIENTS=hubspot:12345:client-secret-of-the-application
    export JOBPLATFORM_OAUTH_REDIRECT_URL=http://127.0.0.1:5000/crm/connected
    export HUBSPOT_URL=http://127.0.0.1:9001 JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES=true  # not with HubSpot itself
    jobplatform migrate
    flask --app examples/crm_sync/app run
    cd examples/crm_sync && JOBPLATFORM_TASKS=app:tasks jobplatform worker

Then, of a workspace with any UUID: POST /crm/<uuid>/connect with {"portal": "4711"} answers where to consent, that page
leads back and begins the sync, and GET /crm/<uuid>/contacts shows what was copied.
"""

import os
from datetime import timedelta
from typing import Any
from uuid import UUID

from flask import Flask, request
from sqlalchemy import select
from sqlalchemy.orm import sessionmaker

from jobplatform.api import JobPlatform
from jobplatform.connectors import (
    Returned,
    SyncPayload,
    SyncResult,
    begin_authorization,
    create_connection,
    exchange_code,
    keep_authorized,
    run_sync,
    take_authorization,
    workspace_of_state,
)
from jobplatform.errors import AuthorizationError, InvalidConnectionError
from jobplatform.models import Record, Role, confine, make_engine
from jobplatform.queue import RunningJob, Skip, Tasks
from jobplatform.settings import Settings

tasks = Tasks()


@tasks.task(
    "sync",
    queue="sync",
    max_attempts=3,
    timeout=timedelta(minutes=10),
    unique=lambda payload: payload.target,
    limit_per_workspace=1,
)
def sync(job: RunningJob, payload: SyncPayload) -> SyncResult | Skip:
    """What the platform's own task does; an application that has tasks of its own declares it beside them."""
    return run_sync(
        job,
        connector_type=payload.connector_type,
        connection_id=payload.connection_id,
        mode=payload.mode,
        reference=payload.sync_log_id,
    )


def create_app() -> Flask:
    engine = make_engine(os.environ["DATABASE_URL"])
    sessions = sessionmaker(engine)
    app = Flask(__name__)
    JobPlatform(app, tasks, sessions=sessions)  # POST /api/workspaces/<id>/sync, …/connections, and the rest

    @app.post("/crm/<uuid:workspace_id>/connect")
    def connect(workspace_id: UUID) -> tuple[dict[str, Any], int]:
        """A connection without credentials yet, and where to send its user for them."""
        config = {"baseUrl": os.environ["HUBSPOT_URL"]} if "HUBSPOT_URL" in os.environ else {}
        settings = Settings.from_env()
        try:
            with sessions.begin() as session:
                confine(session, Role.API, workspace_id)
                made = create_connection(
                    session,
                    workspace_id,
                    connector_type="hubspot",
                    name="HubSpot",
                    config={**config, "account": request.json["portal"]},
                )
                begun = begin_authorization(
                    session,
                    made,
                    actor=user(),
                    clients=settings.oauth_clients,
                    redirect_url=settings.oauth_redirect_url,
                )
                return {"connectionId": str(made.id), "authorizeUrl": begun.authorize_url}, 201
        except InvalidConnectionError as error:
            return {"errors": [problem._asdict() for problem in error.problems]}, 422

    @app.get("/crm/connected")
    def connected() -> tuple[dict[str, Any], int]:
        """Where HubSpot's page of consent leads back to."""
        said = {name: request.args.get(name) for name in ("code", "scope", "error", "error_description")}
        returned = Returned(request.args.get("state", ""), **said)
        settings = Settings.from_env()
        try:
            with sessions.begin() as session:  # The state is used up, whatever comes of it.
                confine(session, Role.API, workspace_of_state(returned.state))
                taken = take_authorization(session, returned.state, actor=user())
            if isinstance(taken, AuthorizationError):
                raise taken
            tokens = exchange_code(taken, returned, clients=settings.oauth_clients)
            with sessions.begin() as session:  # The credentials and the first sync: both, or neither.
                confine(session, Role.API, taken.workspace_id)
                made = keep_authorized(session, tokens)
                job = sync.enqueue(session, SyncPayload(mode="initial"), workspace_id=taken.workspace_id)
                return {"connectionId": str(made.id), "jobId": str(job.job_id)}, 202
        except AuthorizationError as error:
            return {"error": str(error), "reason": error.reason}, 400

    @app.get("/crm/<uuid:workspace_id>/contacts")
    def contacts(workspace_id: UUID) -> dict[str, Any]:
        wanted = (
            select(Record)
            .where(Record.workspace_id == workspace_id, Record.stream == "contacts", Record.deleted_at.is_(None))
            .order_by(Record.external_id)
            .limit(100)
        )
        with sessions.begin() as session:
            confine(session, Role.API, workspace_id)
            return {"contacts": [one.data["properties"] for one in session.scalars(wanted)]}

    return app


def user() -> str:
    """Who is signed in. Here whoever says so; in an application of yours its session knows."""
    return request.headers.get("X-User", "ada")
