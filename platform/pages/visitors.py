"""Who looks at the pages, and what they may do there. Pure."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from flask import Request

from jobplatform.api.access.principals import Principal, Scope

#: What can be done in the pages, and the scope that the API asks for it within a workspace.
VERBS: dict[str, Scope] = {
    "job.enqueue": Scope.JOBS_WRITE,
    "job.retry": Scope.JOBS_WRITE,
    "job.fork": Scope.JOBS_WRITE,
    "job.cancel": Scope.JOBS_WRITE,
    "job.run_now": Scope.JOBS_WRITE,
    "job.change": Scope.JOBS_WRITE,
    "job.delete": Scope.OPERATOR,
    "sync.start": Scope.JOBS_WRITE,
    "schedule.change": Scope.SCHEDULES,
    "schedule.run_now": Scope.SCHEDULES,
    "connection.change": Scope.CONNECTIONS,
    "pause": Scope.OPERATOR,
    "limit": Scope.OPERATOR,
    "alert.change": Scope.OPERATOR,
    "worker.drain": Scope.OPERATOR,
}
OF_A_WORKSPACE = frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.SCHEDULES, Scope.CONNECTIONS})

May = Literal["all", "read_only"] | Collection[str]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody whom the pages know. A host application returns one from its ``pages_access``::

        Visitor(user.email, operator=True, may="all")                               # the operator's console
        Visitor(user.email, workspaces={user.workspace_id}, may={"sync.start"})     # the tenant's portal

    ``name`` is what the audit log calls them. ``may``: ``"all"``, ``"read_only"``, or some of :data:`VERBS`.
    """

    name: str
    operator: bool = False
    workspaces: Collection[uuid.UUID] = ()
    may: May = "read_only"
    scopes: frozenset[str] = OF_A_WORKSPACE
    """What the API lets them do within a workspace; for those who come with a token, that token's."""
    token_id: str | None = None
    expires_in: float | None = None
    """Seconds after which they have to come again, and their streams end."""

    def __post_init__(self) -> None:
        # A mistake here would open every workspace, so it is refused rather than interpreted.
        if self.operator == bool(self.workspaces):
            raise ValueError("a visitor is either an operator or has workspaces")
        if self.may not in ("all", "read_only"):
            _require_verbs(self.may)

    def sees(self, workspace_id: uuid.UUID | None) -> bool:
        """Whether a workspace's pages, or without one the operator's, are theirs to see."""
        return self.operator or (workspace_id is not None and workspace_id in self.workspaces)

    def may_do(self, verb: str) -> bool:
        """Whether they may do this anywhere they see; the API has the last word."""
        if not self.operator and VERBS[verb] not in self.scopes:
            return False
        return self.may == "all" or (self.may != "read_only" and verb in self.may)

    def as_principal(self, workspace_id: uuid.UUID | None) -> Principal:
        """The same for the API."""
        mine = None if self.operator else workspace_id
        scopes = frozenset({Scope.OPERATOR.value}) if self.operator else frozenset(self.scopes)
        return Principal(self.name, mine, scopes, self.token_id, expires_in=self.expires_in)


#: A host's own way to say who is there. The workspace is None for the operator's console. None: nobody it knows.
Access = Callable[[Request, uuid.UUID | None], Visitor | None]


def _require_verbs(words: Collection[str]) -> None:
    if isinstance(words, str):
        raise ValueError(f"may={words!r} is neither 'all' nor 'read_only' nor a set of verbs")
    for word in words:
        if word not in VERBS:
            near = difflib.get_close_matches(word, VERBS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(VERBS)}"
            raise ValueError(f"{word!r} is not something that can be done in the pages; {hint}")
