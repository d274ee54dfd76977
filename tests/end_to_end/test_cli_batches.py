"""``jobplatform batches``, and cancelling a whole tree."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy.orm import Session

from jobplatform.queue import (
    Edge,
    NewJob,
    cancel_batch,
    chain,
    close_batch,
    enqueue_jobs,
    get_job,
    open_batch,
    settle_endings,
)
from tests.end_to_end.conftest import Cli, as_json


@pytest.fixture
def batch_id(session: Session, acme: uuid.UUID) -> uuid.UUID:
    """An open batch of two jobs, and one that waits for it."""
    batch_id = open_batch(session, acme, "nightly")
    enqueue_jobs(session, [NewJob(workspace_id=acme, task="part", batch_id=batch_id) for _ in range(2)])
    enqueue_jobs(session, [NewJob(workspace_id=acme, task="report", after=[Edge(batch_id, "ended", of_batch=True)])])
    session.commit()
    return batch_id


def settle(session: Session) -> None:
    while settle_endings(session).notices:
        session.commit()
    session.rollback()


def test_a_batch_is_listed_and_shown_with_what_waits_for_it(cli: Cli, batch_id: uuid.UUID) -> None:
    listed = cli("batches", "ls", "-w", "Acme").stdout
    shown = cli("batches", "show", str(batch_id), "-w", "Acme").stdout
    machine_readable = as_json(cli("batches", "show", str(batch_id), "-w", "Acme", "--json"))

    for words in (str(batch_id), "nightly", "open", "0%"):
        assert words in listed
    assert "report" in shown
    assert (machine_readable["total"], machine_readable["pending"], machine_readable["percent"]) == (2, 2, 0)
    assert [callback["runIf"] for callback in machine_readable["callbacks"]] == ["ended"]


def test_those_that_have_ended_can_be_left_out(
    cli: Cli, session: Session, acme: uuid.UUID, batch_id: uuid.UUID
) -> None:
    close_batch(session, acme, open_batch(session, acme))
    session.commit()
    settle(session)

    assert len(as_json(cli("batches", "ls", "-w", "Acme", "--json"))) == 2
    assert [batch["id"] for batch in as_json(cli("batches", "ls", "-w", "Acme", "--live", "--json"))] == [str(batch_id)]


def test_a_batch_is_cancelled(cli: Cli, batch_id: uuid.UUID) -> None:
    answer = cli("batches", "cancel", str(batch_id), "-w", "Acme")

    assert answer.exit_code == 0
    assert f"{batch_id}: 2 cancelled" in answer.stdout


def test_watching_a_batch_ends_when_it_does_and_says_how(
    cli: Cli, session: Session, acme: uuid.UUID, batch_id: uuid.UUID
) -> None:
    good = open_batch(session, acme)
    close_batch(session, acme, good)
    cancel_batch(session, acme, batch_id)
    session.commit()
    settle(session)

    went_well = cli("batches", "watch", str(good), "-w", "Acme")
    went_badly = cli("batches", "watch", str(batch_id), "-w", "Acme")

    assert (went_well.exit_code, went_badly.exit_code) == (0, 1)
    assert "completed: 0 of 0" in went_well.stdout
    assert "cancelled: 2 of 2 2 cancelled" in went_badly.stdout


@pytest.mark.parametrize("command", ["show", "cancel", "watch"])
def test_a_batch_of_nobody_is_told_in_a_sentence(cli: Cli, acme: uuid.UUID, command: str) -> None:
    answer = cli("batches", command, str(uuid.uuid4()), "-w", "Acme")

    assert answer.exit_code == 1
    assert "is not a batch of this workspace" in answer.stderr


def test_a_job_is_cancelled_with_all_that_waits_for_it(cli: Cli, session: Session, acme: uuid.UUID) -> None:
    made = chain(*(NewJob(workspace_id=acme, task="step") for _ in range(3)))
    enqueue_jobs(session, made)
    session.commit()

    answer = cli("jobs", "cancel", str(made[0].id), "-w", "Acme", "--tree")

    assert f"{made[0].id} and what waits for it: 3 cancelled" in answer.stdout
    last = get_job(session, acme, made[2].id)
    assert last is not None
    assert last.status == "cancelled"
    unknown = cli("jobs", "cancel", str(uuid.uuid4()), "-w", "Acme", "--tree")
    assert "is not a job of this workspace" in unknown.stderr
