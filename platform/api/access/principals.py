"""Who is asking, and what they may do."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable
from dataclasses import dataclass


class Scope(enum.StrEnum):
    """What a token may be used for. ``operator`` includes every other, in every workspace."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    SCHEDULES = "schedules"
    CONNECTIONS = "connections"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whose identity is established. Without a workspace, and only then, it is an operator.

    A host application returns one from its ``authorize``::

        Principal(name=user.email, workspace_id=user.workspace_id, scopes=frozenset({"jobs:read"}))

    ``name`` is what the audit log calls them. ``token_id`` is the public id of the token of ours that they showed.
    """

    name: str
    workspace_id: uuid.UUID | None
    scopes: frozenset[str]
    token_id: str | None = None
    job_id: uuid.UUID | None = None
    """The one job that this principal may look at, and nothing else."""
    expires_in: float | None = None
    """Seconds after which a stream of this principal's is ended; None where only its token decides."""
    sees_as_operator: bool = False
    """An operator has let this principal look at its job, who sees of what is encrypted only that it is there."""

    def __post_init__(self) -> None:
        # A mistake here would open every workspace, so it is refused rather than interpreted.
        if self.is_operator != (self.workspace_id is None):
            raise ValueError("a principal has either a workspace or the scope 'operator'")

    @property
    def is_operator(self) -> bool:
        return Scope.OPERATOR in self.scopes

    def may(self, scope: Scope) -> bool:
        return self.is_operator or scope in self.scopes

    def sees(self, workspace_id: uuid.UUID) -> bool:
        return self.is_operator or self.workspace_id == workspace_id


def parse_scopes(words: Iterable[str]) -> frozenset[str]:
    """Scopes from words. Raises ValueError naming the one there is no such scope for, and those there are."""
    scopes = frozenset(words)
    for word in sorted(scopes - set(Scope)):
        raise ValueError(f"{word!r} is not a scope; there are {', '.join(Scope)}")
    if not scopes:
        raise ValueError(f"a token needs a scope; there are {', '.join(Scope)}")
    return scopes
