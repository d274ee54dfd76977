from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.orm import Session

from jobplatform.adopting import Adoption, Portion, Rule, Source, Tally
from jobplatform.models import Workspace
from jobplatform.queue import RunningJob, Tasks


@dataclass(frozen=True)
class Mail:
    number: int


def make_tasks() -> Tasks:
    tasks = Tasks()

    @tasks.task("email.send", max_attempts=4, tags=("mail",))
    def send(job: RunningJob, payload: Mail) -> None: ...

    @tasks.task("email.of", unique=lambda payload: payload["of"].lower())
    def of(job: RunningJob, payload: dict[str, Any]) -> None: ...

    @tasks.task("refresh")
    def refresh(job: RunningJob, payload: dict[str, Any]) -> None: ...

    return tasks


@pytest.fixture
def acme(session: Session) -> uuid.UUID:
    workspace = Workspace(id=uuid.uuid4(), name="Acme")
    session.add(workspace)
    session.commit()
    return workspace.id


MAIL = {"send-email": Rule("email.send", workspace="Acme")}

Adopt = Callable[..., dict[str, Tally]]


@pytest.fixture
def adopt(session: Session) -> Iterator[Adopt]:
    """Takes over what waits, and says what became of it by name. ``meanwhile`` is called after the first portion."""

    def adopt(
        source: Source,
        rules: dict[str, Rule] = MAIL,
        *,
        meanwhile: Callable[[], object] = lambda: None,
        **options: Any,
    ) -> dict[str, Tally]:
        adoption = Adoption(session, source, make_tasks(), rules, actor="ada", **options)
        found: dict[str, Tally] = {}
        portions: Iterator[Portion] = adoption.move()
        for nth, portion in enumerate(portions):
            found.setdefault(portion.name, Tally()).add(portion)
            if nth == 0:
                meanwhile()
        return found

    yield adopt
    session.rollback()
