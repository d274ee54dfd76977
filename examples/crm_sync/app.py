"""A CRM's copy: a workspace connects HubSpot, and sees its contacts here.

Connecting and the first sync are one transaction: there is no connection that nobody reads, and no sync of a connection
that is not there. What happens then is the platform's: pages, tokens, limits, a worker that is killed.

    python examples/crm_sync/fake_hubspot.py                      # prints a URL: a stand-in for HubSpot
    HUBSPOT_URL=… JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES=true flask --app examples/crm_sync/app run
    JOBPLATFORM_TASKS=app:tasks jobplatform worker                # in examples/crm_sync
"""

import os
from datetime import timedelta
from typing import Any
from uuid import UUID

from flask import Flask, request
from sqlalchemy import select
from sqlalchemy.orm import sessionmaker

from jobplatform.api import JobPlatform
from jobplatform.connectors import SyncPayload, SyncResult, create_connection, run_sync
from jobplatform.errors import InvalidConnectionError
from jobplatform.models import Record, Role, confine, make_engine
from jobplatform.queue import RunningJob, Skip, Tasks
from jobplatform.settings import Settings

tasks = Tasks()


@tasks.task("sync", queue="sync", max_attempts=3, timeout=timedelta(minutes=10), unique="workspace")
def sync(job: RunningJob, payload: SyncPayload) -> SyncResult | Skip:
    """What the platform's own task does; an application that has tasks of its own declares it beside them."""
    return run_sync(
        job,
        connector_type=payload.connector_type,
        connection_id=payload.connection_id,
        mode=payload.mode,
        reference=payload.sync_log_id,
        allow_private=Settings.from_env().allow_private_addresses,
    )


def create_app() -> Flask:
    engine = make_engine(os.environ["DATABASE_URL"])
    sessions = sessionmaker(engine)
    app = Flask(__name__)
    JobPlatform(app, tasks, sessions=sessions)  # POST /api/workspaces/<id>/sync, …/connections, and the rest

    @app.post("/crm/<uuid:workspace_id>/connect")
    def connect(workspace_id: UUID) -> tuple[dict[str, Any], int]:
        """Where HubSpot's consent page leads back to, once the code has been changed into a refresh token."""
        config = {"baseUrl": os.environ["HUBSPOT_URL"]} if "HUBSPOT_URL" in os.environ else {}
        try:
            with sessions.begin() as session:
                confine(session, Role.API, workspace_id)
                made = create_connection(
                    session,
                    workspace_id,
                    connector_type="hubspot",
                    name="HubSpot",
                    config={**config, "account": request.json["portal"]},
                    credentials={
                        "scheme": "oauth2",
                        "clientId": os.environ["HUBSPOT_CLIENT_ID"],
                        "clientSecret": os.environ["HUBSPOT_CLIENT_SECRET"],
                        "refreshToken": request.json["refreshToken"],
                    },
                    allow_private=Settings.from_env().allow_private_addresses,
                )
                job = sync.enqueue(session, SyncPayload(mode="initial"), workspace_id=workspace_id)
                return {"connectionId": str(made.id), "jobId": str(job.job_id)}, 202
        except InvalidConnectionError as error:
            return {"errors": [problem._asdict() for problem in error.problems]}, 422

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
