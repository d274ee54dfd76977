"""A task service: tasks with a schema, a REST trigger, and a page that follows a run live.

    pip install --no-deps --target react -r requirements.txt
    export DATABASE_URL=postgresql://… JOBPLATFORM_TASKS=app:tasks
    jobplatform migrate
    export WORKSPACE=$(jobplatform workspaces create stories)
    export SERVICE_TOKEN=$(jobplatform tokens create -w $WORKSPACE)
    jobplatform worker                             # runs the tasks
    gunicorn --threads 16 'app:create_app()'       # the page at /, and /trigger, /trigger/runs/:id, /jobs/stream/:id

Services call POST /trigger with a token of their own. The page has none: it asks this application, which starts the run
in its own transaction and answers with a token that can look at this one run, and do nothing else.
"""

import os
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from flask import Flask, Response, request, send_from_directory
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import JobPlatform, mint_job_token, presented_id, verify_token
from jobplatform.errors import InvalidPayloadError, UnknownTaskError
from jobplatform.models import Role, confine, make_engine
from jobplatform.queue import RunningJob, Tasks

#: No script, no style and no answer from anywhere else.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"

tasks = Tasks()


# Tasks: an id, a schema for the payload, how many may run at a time, and what to do


@dataclass(frozen=True)
class Story:
    story_id: str
    pages: int = 5
    fails: bool = False


@dataclass(frozen=True)
class Brief:
    story_id: str


@dataclass(frozen=True)
class Nothing:
    pass


@tasks.task("analyze-story", queue="stories", limit=5, max_attempts=2, timeout=timedelta(minutes=5))
def analyze_story(job: RunningJob, payload: Story) -> dict[str, Any]:
    """Read a story page by page, and have a brief written when it is done."""
    job.log(f"analyzing story {payload.story_id}")
    for page in range(1, payload.pages + 1):
        job.progress(page, payload.pages, f"page {page} of {payload.pages}")
        read_page(page)
    if payload.fails:
        raise RuntimeError(f"story {payload.story_id} cannot be read")
    brief = job.enqueue(generate_brief, Brief(payload.story_id))
    return {"pages": payload.pages, "briefJob": str(brief.job_id)}


@tasks.task("generate-brief", queue="stories")
def generate_brief(_job: RunningJob, payload: Brief) -> dict[str, str]:
    return {"brief": f"What story {payload.story_id} says, in a sentence."}


@tasks.cron("*/5 * * * *", every_workspace=True, spread=timedelta(minutes=1))
@tasks.task("ingest-pull", unique="workspace")
def ingest_pull(_job: RunningJob, _payload: Nothing) -> int:
    """By the clock, for every workspace; a run that takes longer than five minutes is not joined by a second one."""
    return 0


def read_page(_page: int) -> None:
    """Stands for what takes a while. A test says how long."""
    time.sleep(float(os.environ.get("PAGE_SECONDS", "0.4")))


# The web application


def create_app() -> Flask:
    sessions = sessionmaker(make_engine(os.environ["DATABASE_URL"]))
    token = os.environ["SERVICE_TOKEN"]
    app = Flask(__name__)
    app.config["JOBPLATFORM_URL_PREFIX"] = ""  # /trigger, /trigger/runs/<id>, /jobs/stream/<id>, /jobs/health, …
    JobPlatform(app, tasks, sessions=sessions)
    workspace_id = workspace_of(sessions, token)

    @app.post("/runs")
    def start_run() -> tuple[dict[str, Any], int]:
        """For the page: start a run, and let this browser look at it for a quarter of an hour."""
        asked = request.get_json()
        with sessions() as session, confine(session, Role.API, workspace_id).begin():
            try:
                run = tasks[asked["taskId"]].enqueue(session, asked.get("payload"), workspace_id=workspace_id)
            except (UnknownTaskError, InvalidPayloadError) as error:
                return {"error": str(error)}, 422
            made = mint_job_token(session, presented_id(token), workspace_id, run.job_id, timedelta(minutes=15))
        assert made is not None, "SERVICE_TOKEN was revoked"
        return {
            "id": str(run.job_id),
            "statusUrl": f"/workspaces/{workspace_id}/jobs/{run.job_id}",
            "token": made[0],
        }, 202

    @app.get("/")
    def page() -> Response:
        return send_from_directory(app.root_path, "page.html")

    @app.get("/react/<name>.js")
    def react(name: str) -> Response:
        return send_from_directory(react_folder(), f"{name}@18.3.1.min.js", max_age=3600)

    @app.after_request
    def only_from_here(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return app


def workspace_of(sessions: sessionmaker[Session], token: str) -> UUID:
    with sessions() as session, confine(session, Role.API, token_id=presented_id(token)).begin():
        principal = verify_token(session, token)
    if principal is None or principal.workspace_id is None:
        raise SystemExit("SERVICE_TOKEN is not the token of a workspace")
    return principal.workspace_id


def react_folder() -> Path:
    """React's own files for browsers, which the package `dash` brings along: in the folder `react` beside this file,
    where the command above has put it, or in the one that REACT names."""
    return Path(os.environ.get("REACT", Path(__file__).parent / "react")) / "dash" / "deps"
