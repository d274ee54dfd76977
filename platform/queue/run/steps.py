"""Steps: how a handler says what it has done, so that the job's next attempt does not do it again.

A step's rows and the note that it is done are one transaction (:mod:`jobplatform.queue.attempts.save_step`), by default
``job.session``'s, which is committed at the end of the step. Nothing here costs anything until a handler asks for it;
then one query an attempt tells all that earlier ones have done.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy.orm import Session, SessionTransaction

from jobplatform.errors import StepError
from jobplatform.models import CHECKPOINT_PART, visit
from jobplatform.queue.attempts.save_step import Done, find_done, find_parts, find_result, save_checkpoint, save_step
from jobplatform.queue.safe_json import safe_json, text_problem
from jobplatform.queue.seal import sealed_form

if TYPE_CHECKING:
    from jobplatform.queue.run.running import RunningJob

T = TypeVar("T")

#: Steps that a job may have. What has more pages than this has one checkpoint.
MOST_STEPS = 1000
#: Parts that a checkpoint may have.
MOST_PARTS = 10_000
#: Bytes of JSON that a step's result, a checkpoint's state, or a part of it may be.
STEP_LIMIT = 262_144
LONGEST_NAME = 200
#: The field that a sealed value is bound to; part of its form, so it never changes.
FIELD = "step"

_ASK = "ask whether it is to be done, or a later attempt does it again: `with job.step({!r}) as step:` and `if step:`"


class Steps:
    """What one attempt knows of the job's steps and its checkpoint."""

    def __init__(self, job: RunningJob) -> None:
        self.job = job
        self._known: Done | None = None
        self._open: str | None = None
        #: Named in this attempt, and the caller's transaction that saves them where it is not our own Session's.
        self._named: dict[str, tuple[Session, SessionTransaction | None] | None] = {}

    # -- steps -----------------------------------------------------------------------------------

    def begin(self, name: str) -> bool:
        """Whether the step is done already. Raises :class:`StepError` for a name that cannot be used here."""
        _check_name(name)
        self._refuse_at_the_wrong_place(f"the step {name!r}")
        self._check_first_use(name)
        done = self.done.steps
        if name not in done and len(done) >= MOST_STEPS:
            raise StepError(
                f"job {self.job.id} has {len(done)} steps already and may have {MOST_STEPS}; "
                "for more than that keep one state with job.checkpoint()"
            )
        self._open = name
        return name in done

    def save(self, name: str, result: Any, given: Session | None) -> Any:
        """Write that the step is done, and commit it unless the Session is the caller's.

        Answers with the result as it is stored, the same for this attempt as for later ones.
        """
        text = _as_json(result, f"the result of the step {name!r}")
        self._write(given, lambda session: self._save_step(session, name, self._sealed(text)))
        self._named[name] = None if given is None else (given, given.get_transaction())
        self.done.steps.add(name)
        return json.loads(text)

    def leave(self, name: str) -> None:
        """Of a step that was done before, or that has just been saved."""
        self._open = None
        self._named.setdefault(name, None)

    def give_up(self, given: Session | None) -> None:
        """Nothing of this step counts: it may be begun again, in this attempt or in a later one.

        A Session of the caller's is the caller's to roll back.
        """
        self._open = None
        if given is None and self.job.opened_session is not None:
            _roll_back(self.job.opened_session)

    def result(self, name: str) -> Any:
        with self.job.looking() as session:
            return self._opened(self._find_result(session, name))

    # -- the checkpoint --------------------------------------------------------------------------

    @property
    def state(self) -> Any:
        return self._opened(self.done.state)

    @property
    def parts(self) -> dict[str, Any]:
        with self.job.looking() as session:
            return {name: self._opened(value) for name, value in self._find_parts(session).items()}

    def checkpoint(self, state: Any, parts: Mapping[str, Any], given: Session | None) -> None:
        self._refuse_at_the_wrong_place("a checkpoint")
        stored = self._sealed(_as_json(state, "the state of a checkpoint"))
        named = {
            name: self._sealed(_as_json(part, f"the part {name!r} of a checkpoint")) for name, part in parts.items()
        }
        self._require_room(named)
        self._write(given, lambda session: self._save_state(session, stored, named))
        if given is not None:
            self._known = None  # Whether that transaction will be committed is not known here.
        elif self._known is not None:
            self._known = self._known._replace(state=json.loads(stored), parts=self._known.parts | named.keys())

    def _require_room(self, parts: Mapping[str, Any]) -> None:
        """Not asked of a checkpoint without parts, which costs one statement."""
        for name in parts:
            _check_name(name, "a part", LONGEST_NAME - len(CHECKPOINT_PART))
        if parts and len(self.done.parts | parts.keys()) > MOST_PARTS:
            raise StepError(f"the checkpoint of job {self.job.id} would have more than {MOST_PARTS} parts")

    # --------------------------------------------------------------------------------------------

    @property
    def done(self) -> Done:
        if self._known is None:
            with self.job.looking() as session:
                self._known = self._find_done(session)
        return self._known

    # -- where it is kept ------------------------------------------------------------------------

    def _find_done(self, session: Session) -> Done:
        return find_done(session, self.job.lease)

    def _find_result(self, session: Session, name: str) -> Any:
        return find_result(session, self.job.lease, name)

    def _save_step(self, session: Session, name: str, text: str) -> None:
        save_step(session, self.job.lease, name, text)

    def _find_parts(self, session: Session) -> dict[str, Any]:
        return find_parts(session, self.job.lease)

    def _save_state(self, session: Session, text: str, parts: Mapping[str, str]) -> None:
        save_checkpoint(session, self.job.lease, text, parts)

    # --------------------------------------------------------------------------------------------

    def _write(self, given: Session | None, save: Callable[[Session], None]) -> None:
        session = self.job.session if given is None else given
        try:
            visit(session, self.job.workspace_id)
            _write_rows_and_note(session, save, commit=given is None)
        except BaseException:
            # Also in a Session of the caller's: what an attempt without a lease has written must not be committed.
            _roll_back(session)
            raise

    def _sealed(self, text: str) -> str:
        return text if self.job.seal is None else self.job.seal.seal(FIELD, text)

    def _opened(self, value: Any) -> Any:
        form = sealed_form(value) if self.job.seal is not None else None
        if form is None or self.job.seal is None:
            return value
        return json.loads(self.job.seal.open(FIELD, form))

    def _refuse_at_the_wrong_place(self, what: str) -> None:
        if self._open is not None:
            raise StepError(f"{what} cannot be inside of the step {self._open!r}: each is a transaction of its own")
        if self.job.completed_in_session:
            raise StepError(f"{what} comes too late: the job has been completed with complete_in()")

    def _check_first_use(self, name: str) -> None:
        """A loop whose steps all have one name would do its first page and skip the others."""
        if name not in self._named:
            return
        saved_in = self._named[name]
        if saved_in is not None and saved_in[0].get_transaction() is not saved_in[1]:
            # The caller's transaction is over, and may have been rolled back.
            self._known = None
            if name not in self.done.steps:
                del self._named[name]
                return
        raise StepError(f"the step {name!r} is begun twice in one attempt; each step needs a name of its own")


class Step:
    """One step, as ``with job.step(name) as step`` gives it. True when it is to be done, false when it is done."""

    def __init__(self, steps: Steps, name: str, session: Session | None) -> None:
        self._steps = steps
        self._given = session
        self._asked = False
        self._result: Any = None
        self._read = False
        self.name = name
        self.done = False
        """Whether an earlier attempt (or this one) has done it."""

    def __enter__(self) -> Self:
        self._steps.job.check()
        self.done = self._steps.begin(self.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._steps.give_up(self._given)
        elif not self._asked:
            # In the very first run, so that it is not a crash in production that finds it.
            self._steps.give_up(self._given)
            raise StepError(f"the step {self.name!r} was not saved: " + _ASK.format(self.name))
        elif self.done:
            self._steps.leave(self.name)
        else:
            self._save()

    def __bool__(self) -> bool:
        self._asked = True
        return not self.done

    @property
    def result(self) -> Any:
        """What the step is to leave for later attempts, to be set in its body; or what it has left."""
        if self.done and not self._read:
            self._result, self._read = self._steps.result(self.name), True
        return self._result

    @result.setter
    def result(self, value: Any) -> None:
        if self.done:
            raise StepError(f"the step {self.name!r} is done, and has its result")
        self._result = value

    def _save(self) -> None:
        try:
            if self._steps.job.completed_in_session:
                raise StepError(f"the step {self.name!r} completed its job; call complete_in() after it")
            self._result = self._steps.save(self.name, self._result, self._given)
        except BaseException:
            self._steps.give_up(self._given)
            raise
        self.done = self._read = True
        self._steps.leave(self.name)


def do_step(step: Step, work: Callable[[], T]) -> T:
    """Do ``work`` as this step, unless it is done, and answer with what it returned, as JSON has it."""
    with step:
        if step:
            value = work()
            if inspect.isawaitable(value):
                if inspect.iscoroutine(value):
                    value.close()
                raise StepError(f"the step {step.name!r} is async: write `with job.step({step.name!r}) as step:`")
            step.result = value
    result: T = step.result
    return result


def _as_json(value: Any, what: str) -> str:
    try:
        text = safe_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise StepError(f"{what} is not JSON: {error}") from error
    size = len(text.encode())
    if size > STEP_LIMIT:
        raise StepError(f"{what} is {size} bytes of JSON; at most {STEP_LIMIT} are kept")
    return text


def _write_rows_and_note(session: Session, save: Callable[[Session], None], *, commit: bool) -> None:
    # The rows first: the lease's row is locked for as short as can be.
    session.flush()
    save(session)
    if commit:
        session.commit()


def _roll_back(session: Session) -> None:
    """Take back what the Session holds; one whose connection is past that is let go of."""
    try:
        session.rollback()
    except Exception:  # noqa: BLE001 - what ended the step must not be hidden by the end of its connection
        session.invalidate()


def _check_name(name: object, of: str = "a step", longest: int = LONGEST_NAME) -> None:
    if not isinstance(name, str):
        raise StepError(f"the name of {of} must be a text")
    problem = text_problem(name)
    if problem is None and not 1 <= len(name) <= longest:
        problem = f"must have 1 to {longest} characters"
    if problem is None and name.startswith(CHECKPOINT_PART):
        problem = "must not begin with the character U+001E"
    if problem is not None:
        raise StepError(f"the name of {of} {problem}")
