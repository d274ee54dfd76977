"""HTTP, and nothing but HTTP."""

from jobplatform.api.app import create_app
from jobplatform.api.blueprint import create_blueprint
from jobplatform.api.document import openapi_document
from jobplatform.api.extension import JobPlatform
from jobplatform.api.hub import StreamLimits
from jobplatform.api.principals import Principal, Scope
from jobplatform.api.stopping import end_streams, end_streams_when_told_to_stop
from jobplatform.api.tokens import (
    mint_job_token,
    mint_token,
    presented_id,
    revoke_token,
    rotate_token,
    verify_token,
)

__all__ = [
    "JobPlatform",
    "Principal",
    "Scope",
    "StreamLimits",
    "create_app",
    "create_blueprint",
    "end_streams",
    "end_streams_when_told_to_stop",
    "mint_job_token",
    "mint_token",
    "openapi_document",
    "presented_id",
    "revoke_token",
    "rotate_token",
    "verify_token",
]
