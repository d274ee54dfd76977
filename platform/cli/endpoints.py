"""What ``jobplatform hooks`` and ``jobplatform webhooks`` have in common: each is one of a workspace's, by its id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

import click
from sqlalchemy.orm import Session

from jobplatform.cli.acting import actor, audit
from jobplatform.cli.database import find_known_workspace, open_session
from jobplatform.cli.show import as_json_option, plain, tell
from jobplatform.models import Hook, WebhookSubscription

T = TypeVar("T", Hook, WebhookSubscription)

PAGE = 200
workspace_option = click.option("-w", "--workspace", required=True, help="By id or name.")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """``noun`` is what one is called in arguments, messages and the audit log, ``closed`` what is nobody's to see, and
    ``renamed`` what the API calls otherwise than the table does."""

    noun: str
    find_one: Callable[[Session, UUID, UUID], T | None]
    list_page: Callable[..., Sequence[T]]
    disable: Callable[..., bool]
    enable: Callable[[Session, T], bool]
    delete: Callable[[Session, T], None]
    closed: frozenset[str]
    renamed: Mapping[str, str]

    @property
    def argument(self) -> Callable[[Any], Any]:
        return click.argument(self.noun, type=click.UUID)

    def find(self, session: Session, id: UUID, workspace: str) -> T:
        """The one of this id, locked."""
        found = self.find_one(session, find_known_workspace(session, workspace), id)
        if found is None:
            raise click.ClickException(f"no {self.noun} has the id {id}; see `jobplatform {self.noun}s ls`")
        return found

    def list_all(self, session: Session, workspace: str) -> list[T]:
        workspace_id = find_known_workspace(session, workspace)
        found: list[T] = []
        while page := self.list_page(session, workspace_id, limit=PAGE, after=found[-1].id if found else None):
            found += page
        return found

    def audit(self, session: Session, deed: str, one: T, **details: Any) -> None:
        audit(session, f"{self.noun}.{deed}", f"{self.noun}:{one.id}", one.workspace_id, name=one.name, **details)

    def as_dict(self, one: T) -> dict[str, Any]:
        """As ``--json`` has it: with the names of the API."""
        shown = {name: value for name, value in plain(one).items() if name not in self.closed}
        return {self.renamed.get(name, name): value for name, value in shown.items()}

    def add_switches(self, group: click.Group, *, disable: str, enable: str, delete: str) -> None:
        """The commands ``disable``, ``enable`` and ``delete``, with what they say of themselves."""
        self._add(group, "disable", disable, self._disable)
        self._add(group, "enable", enable, self._enable)
        self._add(group, "delete", delete, self._delete)

    def _add(self, group: click.Group, name: str, words: str, deed: Callable[[Session, T], dict[str, bool]]) -> None:
        def command(workspace: str, as_json: bool, **options: UUID) -> None:
            with open_session() as session:
                found = self.find(session, options[self.noun], workspace)
                done = deed(session, found)
                self.audit(session, name, found)
            tell(as_json, f"{found.name} is {name}d", id=found.id, name=found.name, **done)

        group.command(name, help=words)(self.argument(workspace_option(as_json_option(command))))

    def _disable(self, session: Session, one: T) -> dict[str, bool]:
        if not self.disable(session, one, actor=actor()):
            raise click.ClickException(f"{one.name} is disabled already, by {one.disabled_by}")
        return {"disabled": True}

    def _enable(self, session: Session, one: T) -> dict[str, bool]:
        if not self.enable(session, one):
            raise click.ClickException(f"{one.name} is not disabled")
        return {"enabled": True}

    def _delete(self, session: Session, one: T) -> dict[str, bool]:
        self.delete(session, one)
        return {"deleted": True}
