"""Tokens, for whoever runs the platform."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import UUID

from flask import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.api.access.principals import Scope
from jobplatform.api.access.tokens import list_tokens, mint_token, presented_id, revoke_token, rotate_token
from jobplatform.api.answers import page_of, respond
from jobplatform.api.auditing import audit
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import invalid, not_found
from jobplatform.api.resource import LISTED, Resource
from jobplatform.api.schemas.operator import (
    NewTokenAnswerSchema,
    NewTokenSchema,
    TokenPageSchema,
    TokenSchema,
    TokensQuerySchema,
)
from jobplatform.errors import Problem
from jobplatform.models import ApiToken, clock
from jobplatform.queue import find_workspace

tokens = Resource("tokens", __name__, description="Tokens, for operators")

TOKENS = "/operator/tokens"
TOKEN = TOKENS + "/<tokenId>"

_PAGE, _NEW = TokenPageSchema(), NewTokenAnswerSchema()

A_TOKEN = {
    "workspaceId": "0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10",
    "name": "the CRM's front-end",
    "scopes": ["jobs:read", "jobs:write"],
    "expiresAt": "2027-01-01T00:00:00Z",
}
EXAMPLE = {
    "id": "0a1b2c3d4e5f6a7b8c",
    **A_TOKEN,
    "createdAt": "2026-01-05T09:00:00.000000Z",
    "lastUsedAt": None,
    "revokedAt": None,
}


@tokens.endpoint("GET", TOKENS, Scope.OPERATOR)
@tokens.query(TokensQuerySchema)
@tokens.answers(200, TokenPageSchema, headers=LISTED, example={"items": [EXAMPLE], "nextCursor": None})
def list_all_tokens(query: dict[str, Any]) -> Response:
    """List tokens without their secrets, newest first"""
    before = query["cursor"] and f"{query['cursor'].int:018x}"
    with mounted().reading() as session:
        found = list_tokens(session, query["workspace_id"], limit=query["limit"] + 1, before=before)
    # A public id is 18 hexadecimal digits, and a cursor holds 32.
    return page_of(_PAGE, found, query["limit"], lambda token: UUID(int=int(token.id, 16)))


@tokens.endpoint("POST", TOKENS, Scope.OPERATOR, refuses=(400, 413, 415), shows_secret=True)
@tokens.body(NewTokenSchema, example=A_TOKEN)
@tokens.answers(201, NewTokenAnswerSchema, example={**EXAMPLE, "token": "jp_0a1b2c3d4e5f6a7b8c_…"})
def create_token(body: dict[str, Any]) -> Response:
    """Create a token, and show it this once"""
    with mounted().transaction() as session:
        _require_sense(session, body["workspace_id"], body["expires_at"])
        text = mint_token(session, **body)
        audit(session, "token.create", f"token:{presented_id(text)}", body["workspace_id"], **_told(body))
        return _show_once(session, text)


@tokens.endpoint("POST", TOKEN + "/rotate", Scope.OPERATOR, refuses=(404,), shows_secret=True)
@tokens.answers(201, NewTokenAnswerSchema, example={**EXAMPLE, "token": "jp_0a1b2c3d4e5f6a7b8c_…"})
def rotate(token_id: str) -> Response:
    """Replace a token by a new one like it, and show that this once

    The old one ends at once.
    """
    with mounted().transaction() as session:
        text = rotate_token(session, token_id)
        if text is None:
            raise not_found()
        new = session.get_one(ApiToken, presented_id(text))
        audit(session, "token.rotate", f"token:{token_id}", new.workspace_id, replacedBy=new.id)
        return _show_once(session, text)


@tokens.endpoint("DELETE", TOKEN, Scope.OPERATOR, refuses=(404,))
@tokens.answers(204)
def revoke(token_id: str) -> Response:
    """End a token at once"""
    with mounted().transaction() as session:
        if not revoke_token(session, token_id):
            raise not_found()
        workspace_id = session.scalar(select(ApiToken.workspace_id).where(ApiToken.id == token_id))
        audit(session, "token.revoke", f"token:{token_id}", workspace_id)
    return Response(status=204)


def _require_sense(session: Session, workspace_id: UUID | None, expires_at: datetime.datetime | None) -> None:
    problems = []
    if workspace_id is not None and find_workspace(session, workspace_id) is None:
        problems.append(Problem("/workspaceId", "there is no such workspace"))
    if expires_at is not None and expires_at <= session.execute(select(clock())).scalar_one():
        problems.append(Problem("/expiresAt", "must be in the future"))
    if problems:
        raise invalid(problems)


def _show_once(session: Session, text: str) -> Response:
    token = session.get_one(ApiToken, presented_id(text), populate_existing=True)
    shown = {name: getattr(token, name) for name in TokenSchema().fields}
    return respond(_NEW, {**shown, "token": text}, 201)


def _told(body: dict[str, Any]) -> dict[str, Any]:
    return {"name": body["name"], "scopes": sorted(body["scopes"]), "expiresAt": body["expires_at"]}
