"""A line of the audit log is there exactly when what it tells of has happened, and stays as it is."""

from __future__ import annotations

import datetime
import uuid

import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.queue import list_audit, record


def act(session: Session, action: str = "job.cancel", **facts: object) -> None:
    record(session, **{"actor": "ann", "target": "job:1", "action": action, **facts})  # type: ignore[arg-type]  # facts of a line


def test_a_line_says_who_did_what_to_whom(db: Session, workspace_id: uuid.UUID) -> None:
    act(db, workspace_id=workspace_id, token_id="abc", request_id="r1", details={"reason": "asked to"})

    (line,) = list_audit(db)
    assert (line.actor, line.action, line.target, line.workspace_id) == ("ann", "job.cancel", "job:1", workspace_id)
    assert (line.token_id, line.request_id, line.details) == ("abc", "r1", {"reason": "asked to"})
    assert line.at is not None


def test_a_line_goes_with_the_transaction_it_tells_of(session: Session, sessions: sessionmaker[Session]) -> None:
    act(session)
    session.rollback()

    with sessions() as another:
        assert list_audit(another) == []


def test_lines_are_read_newest_first_page_by_page(db: Session) -> None:
    for number in range(5):
        act(db, f"job.{number}")

    first = list_audit(db, limit=2)
    second = list_audit(db, limit=2, before=first[-1].id)
    act(db, "job.5")
    third = list_audit(db, limit=2, before=second[-1].id)

    assert [line.action for page in (first, second, third) for line in page] == [f"job.{n}" for n in (4, 3, 2, 1, 0)]


def test_lines_can_be_asked_for_by_workspace_actor_and_action(db: Session, workspace_id: uuid.UUID) -> None:
    act(db, workspace_id=workspace_id)
    act(db, workspace_id=uuid.uuid4(), actor="bob")
    act(db, "plan.set")

    assert [line.actor for line in list_audit(db, workspace_id=workspace_id)] == ["ann"]
    assert [line.actor for line in list_audit(db, actor="bob")] == ["bob"]
    assert [line.action for line in list_audit(db, action="plan.set")] == ["plan.set"]
    assert list_audit(db, workspace_id=workspace_id, action="plan.set") == []


def test_ids_and_moments_in_the_details_are_text(db: Session) -> None:
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    job_id = uuid.uuid4()

    act(db, details={"until": moment, "job": job_id, "count": 3})

    (line,) = list_audit(db)
    assert line.details == {"until": str(moment), "job": str(job_id), "count": 3}


@pytest.mark.parametrize("name", ["nul \x00", "half \ud800", "x" * 10_000])
def test_whatever_somebody_is_called_is_written_down(db: Session, name: str) -> None:
    """A host names its users; that name must not be what makes an act fail."""
    act(db, actor=name, details={"name": name})

    (line,) = list_audit(db)
    assert 0 < len(line.actor) <= 500
