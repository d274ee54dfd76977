"""What hooks and webhooks have in common over HTTP: one of a workspace's, changed under its lock, and audited."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from flask import Response
from marshmallow import Schema
from sqlalchemy.orm import Session

from jobplatform.api.access.guard import current_principal
from jobplatform.api.answers import respond
from jobplatform.api.auditing import audit
from jobplatform.api.editing import require_still_locked, tagged_as
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import require_found, sealing
from jobplatform.models import Hook, WebhookSubscription

T = TypeVar("T", Hook, WebhookSubscription)

_MILLISECOND = datetime.timedelta(milliseconds=1)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """``noun`` is what the audit log calls one, ``describe`` makes of it what ``schema`` takes."""

    noun: str
    schema: Schema
    find: Callable[[Session, UUID, UUID], T | None]
    look: Callable[[Session, UUID, UUID], T | None]
    describe: Callable[[Session, T], dict[str, Any]]
    tag_of: Callable[[T], str]

    def locked(self, session: Session, workspace_id: UUID, id: UUID) -> T:
        """To be changed; 404 where there is none."""
        return require_found(self.find(session, workspace_id, id))

    def still(self, session: Session, workspace_id: UUID, id: UUID) -> T:
        """To be changed, or deleted, by somebody who has read it; 412 where that is another by now."""
        found = self.locked(session, workspace_id, id)
        require_still_locked(self.tag_of(found))
        return found

    def seen(self, session: Session, workspace_id: UUID, id: UUID) -> T:
        """To be looked at; 404 where there is none."""
        return require_found(self.look(session, workspace_id, id))

    def audit(self, session: Session, deed: str, one: T, **details: Any) -> None:
        audit(session, f"{self.noun}.{deed}", f"{self.noun}:{one.id}", one.workspace_id, name=one.name, **details)

    def answer(self, session: Session, one: T) -> Response:
        return self.tagged(respond(self.schema, self.describe(session, one)), one)

    def tagged(self, answer: Response, one: T) -> Response:
        """With the tag of what can be changed about this one."""
        return tagged_as(answer, self.tag_of(one))

    def show(self, workspace_id: UUID, id: UUID) -> Response:
        with mounted().reading() as session:
            return self.answer(session, self.seen(session, workspace_id, id))

    def rotate_secret(
        self, workspace_id: UUID, id: UUID, rotate: Callable[..., str | None], shown: Schema, body: dict[str, Any]
    ) -> Response:
        """``shown`` is it with its new secret, this once."""
        options = {"keep_old": body["keep_old_ms"] * _MILLISECOND} if "keep_old_ms" in body else {}
        with mounted().transaction() as session, sealing("/secret", "A secret"):
            one = self.locked(session, workspace_id, id)
            secret = rotate(session, one, body.get("secret"), **options)
            self.audit(session, "rotate_secret", one, oldUntil=one.previous_until)
            return respond(shown, {**self.describe(session, one), "secret": secret})

    def disable(self, workspace_id: UUID, id: UUID, disable: Callable[..., bool]) -> Response:
        """Once more is no change, and leaves no line."""
        with mounted().transaction() as session:
            one = self.locked(session, workspace_id, id)
            if disable(session, one, actor=current_principal().name):
                self.audit(session, "disable", one)
            return self.answer(session, one)

    def enable(self, workspace_id: UUID, id: UUID, enable: Callable[[Session, T], bool]) -> Response:
        with mounted().transaction() as session:
            one = self.locked(session, workspace_id, id)
            if enable(session, one):
                self.audit(session, "enable", one)
            return self.answer(session, one)

    def delete(self, workspace_id: UUID, id: UUID, delete: Callable[[Session, T], None]) -> Response:
        with mounted().transaction() as session:
            one = self.still(session, workspace_id, id)
            delete(session, one)
            self.audit(session, "delete", one)
        return Response(status=204)
