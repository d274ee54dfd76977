"""Unrecorded: a running job of which the queue has no row, or is to hear nothing: what it saves is kept here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from sqlalchemy.orm import Session

from jobplatform.models import CHECKPOINT_PART
from jobplatform.queue.attempts.save_step import CHECKPOINT, Done
from jobplatform.queue.run.running import RunningJob
from jobplatform.queue.run.steps import Steps


class UnrecordedJob(RunningJob):
    """A job whose steps, checkpoint and completion nobody else ever sees. The handler notices no difference."""

    def __init__(self, *, done: Mapping[str, Any] | None = None, **facts: Any) -> None:
        super().__init__(**facts)
        self.done = dict(done or {})
        """Results of steps by name, the checkpoint's state and its parts, as in a snapshot."""
        self.completion: str | None = None
        """The result that was given to ``complete_in``, as JSON text."""

    @cached_property
    def _steps(self) -> Steps:
        return _StepsInMemory(self)

    @property
    def results_of_steps(self) -> dict[str, Any]:
        return {name: value for name, value in self.done.items() if name and not name.startswith(CHECKPOINT_PART)}

    @property
    def last_checkpoint(self) -> Any:
        return self.done.get(CHECKPOINT)

    def _complete(self, session: Session, result: str) -> bool:
        session.flush()
        self.completion = result
        self.take_back(session, "complete_in()")
        return True

    def waits(self, message: str, waits_for: str) -> None:
        """Nobody asks why it does not run."""

    def take_back(self, session: Session, what: str) -> None:
        """What is to become of what the handler wrote with it; it is left to the commit that follows."""


class _StepsInMemory(Steps):
    job: UnrecordedJob

    def _find_done(self, session: Session) -> Done:
        done = self.job.done
        parts = {name for name in done if name.startswith(CHECKPOINT_PART)}
        names = {name.removeprefix(CHECKPOINT_PART) for name in parts}
        return Done(done.keys() - parts - {CHECKPOINT}, done.get(CHECKPOINT), names)

    def _find_parts(self, session: Session) -> dict[str, Any]:
        done = self.job.done
        return {name[1:]: value for name, value in done.items() if name.startswith(CHECKPOINT_PART)}

    def _find_result(self, session: Session, name: str) -> Any:
        return self.job.done[name]

    def _save_step(self, session: Session, name: str, text: str) -> None:
        self.job.done[name] = json.loads(text)
        self.job.take_back(session, f"the step {name!r}")

    def _save_state(self, session: Session, text: str, parts: Mapping[str, str]) -> None:
        self.job.done[CHECKPOINT] = json.loads(text)
        self.job.done |= {CHECKPOINT_PART + name: json.loads(part) for name, part in parts.items()}
        self.job.take_back(session, "the checkpoint")
