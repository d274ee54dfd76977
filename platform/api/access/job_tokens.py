"""Tokens for browsers: good for looking at one job, for a short time."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import fields

from jobplatform.api.access.guard import current_principal
from jobplatform.api.access.principals import Scope
from jobplatform.api.access.tokens import LONGEST_JOB_TOKEN, mint_job_token
from jobplatform.api.answers import respond
from jobplatform.api.auditing import audit
from jobplatform.api.jobs import JOB
from jobplatform.api.mounted import Reach, mounted
from jobplatform.api.problems import ProblemError
from jobplatform.api.resource import Resource
from jobplatform.api.schemas.fields import CamelSchema, Moment, milliseconds
from jobplatform.api.streams.events import require_job
from jobplatform.models import Role

job_tokens = Resource("job_tokens", __name__, description="Tokens for one job")

MILLISECOND = datetime.timedelta(milliseconds=1)
#: Seconds count whole, so a token lives for at least one.
SHORTEST = 1_000
USUAL = 900_000


class NewJobTokenSchema(CamelSchema):
    """For how long the token is to be good."""

    valid_for_ms = milliseconds(SHORTEST, LONGEST_JOB_TOKEN, load_default=USUAL)


class JobTokenSchema(CamelSchema):
    """A token for one job. It is not stored: this answer is the only copy."""

    token = fields.String(required=True)
    expires_at = Moment(required=True)


_TOKEN = JobTokenSchema()


@job_tokens.endpoint("POST", JOB + "/token", Scope.JOBS_READ, refuses=(400, 404, 413, 415), shows_secret=True)
@job_tokens.body(NewJobTokenSchema, required=False, example={"validForMs": USUAL})
@job_tokens.answers(201, JobTokenSchema, example={"token": "jpj_…", "expiresAt": "2026-01-05T09:15:00.000000Z"})
def create_job_token(body: dict[str, Any], workspace_id: UUID, job_id: UUID) -> Response:
    """Make a token for a browser: it may look at this job, and at nothing else

    It ends with the token it was made with, if that one ends first.
    """
    require_job(workspace_id, job_id)
    principal = current_principal()
    token_id = principal.token_id or ""
    # A workspace sees its own tokens; an operator's is shown to who has presented it.
    reach = None if principal.workspace_id else Reach(Role.API, workspace_id, token_id=token_id)
    valid_for = body["valid_for_ms"] * MILLISECOND
    with mounted().transaction(reach) as session:
        made = mint_job_token(session, token_id, workspace_id, job_id, valid_for)
        if made is None:
            raise _no_token_to_make_it_with()
        token, expires_at = made
        audit(session, "job.token", f"job:{job_id}", workspace_id, validForMs=body["valid_for_ms"])
    return respond(_TOKEN, {"token": token, "expires_at": expires_at}, 201)


def _no_token_to_make_it_with() -> ProblemError:
    """A host that says by itself who is asking can let its own sessions look at a job."""
    detail = "A token for one job is made with a token of ours, and this request has none."
    return ProblemError(403, detail, kind="needs-a-token", title="Needs a token")
