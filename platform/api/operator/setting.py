"""What an operator sets, changes and takes back in one way over HTTP: shown with its tag, guarded by it, audited."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from flask import Response
from marshmallow import Schema
from sqlalchemy.orm import Session

from jobplatform.api.answers import respond
from jobplatform.api.auditing import audit
from jobplatform.api.editing import require_still, tagged_as
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import not_found, require_found

T = TypeVar("T")


@dataclass(frozen=True)
class Setting(Generic[T]):
    """Each is in a row of ``model``, and is found by its ``key``: the workspace's id first, where it is one's.

    ``about`` is what the audit log says that the last of the key is the name of.
    """

    about: str
    model: type[Any]
    schema: Schema
    find: Callable[..., T | None]
    tag_of: Callable[[T], str]

    def show(self, *key: Any) -> Response:
        with mounted().reading() as session:
            return self.answer(self.find(session, *key))

    def set(
        self, action: str, write: Callable[[Session], T], told: dict[str, Any], *key: Any, must_exist: bool = False
    ) -> Response:
        """``told`` is what the audit log says of it."""
        with self._editing(*key, must_exist=must_exist) as session:
            made = write(session)
            self._audit(session, action, *key, **told)
            return self.answer(made)

    def clear(self, action: str, clear: Callable[..., bool], *key: Any) -> Response:
        """``clear`` says whether there was anything to clear."""
        with self._editing(*key) as session:
            if not clear(session, *key):
                raise not_found()
            self._audit(session, action, *key)
        return Response(status=204)

    def answer(self, found: T | None) -> Response:
        """With the tag of what can be changed about it; 404 where there is none."""
        there = require_found(found)
        return tagged_as(respond(self.schema, there), self.tag_of(there))

    @contextmanager
    def _editing(self, *key: Any, must_exist: bool = False) -> Iterator[Session]:
        with mounted().transaction() as session:
            if must_exist:
                require_found(self.find(session, *key))
            require_still(session, self.model, lambda: self.find(session, *key), self.tag_of)
            yield session

    def _audit(self, session: Session, action: str, *key: Any, **told: Any) -> None:
        workspace_id = key[0] if isinstance(key[0], UUID) else None
        audit(session, action, f"{self.about}:{key[-1]}", workspace_id, **told)
