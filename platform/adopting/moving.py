"""Moving: jobs of another queue become ours, a portion at a time.

    1. Lock a portion of what waits there (``source``), so that no worker of theirs begins one of them.
    2. Make a job of each, as at any enqueue: what our task does not take is left to them, with the reason.
    3. Enqueue them here, with an audit line.
    4. Take those out there that are here now.

In one database that is one transaction: each job is there or here, whatever happens. Between two databases ours is
committed first, while theirs are still locked. Whoever is killed in between leaves that portion in both; the ids of
ours are made of theirs, so that doing it again finds them here and only takes them out.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jobplatform.adopting.identity import id_of
from jobplatform.adopting.rules import Rule
from jobplatform.adopting.source import Counted, Moved, Source, TheirSchedule, Waiting, parsed
from jobplatform.errors import AdoptionError, InvalidJobError, JobPlatformError, QuotaExceededError
from jobplatform.models import JobRecord, Workspace, reaching
from jobplatform.queue import (
    MAX_ATTEMPTS,
    MOST_TAGS,
    PRIORITIES,
    Enqueued,
    NewJob,
    Task,
    Tasks,
    find_resource_limit,
    find_workspace,
    record,
    safe_text,
)
from jobplatform.wording import plural

PORTION = 500
#: What a lock of theirs is here: a resource of this kind.
LOCK = "lock"
#: Of those that are left for one reason as many are named.
EXAMPLES = 3


class Left(NamedTuple):
    """A job that stays there, and why."""

    their_id: str
    reason: str


class Portion(NamedTuple):
    """What became of some jobs of one name: ``taken`` over now, ``known`` here from an earlier time, or ``left``."""

    name: str
    taken: int
    known: int
    left: Sequence[Left]

    @property
    def looked_at(self) -> int:
        return self.taken + self.known + len(self.left)


@dataclass
class Tally:
    """What became of the jobs of one name; ``left`` has the reasons, and examples of each."""

    taken: int = 0
    known: int = 0
    left: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, portion: Portion) -> None:
        self.taken += portion.taken
        self.known += portion.known
        for their_id, reason in portion.left:
            self.left[reason] += 1
            named = self.examples.setdefault(reason, [])
            if len(named) < EXAMPLES:
                named.append(their_id)

    def forget_left(self) -> None:
        """Whoever looks once more sees each of them again."""
        self.left.clear()
        self.examples.clear()


class Adoption:
    """The move of a source's jobs into ours, by rules for their names. Owns its transactions.

    ``session`` has the rights of the login: with those it reaches their tables, and ours as a host application's
    Session does. ``theirs`` is a connection to their database where that is not ours. Raises :class:`AdoptionError`
    and, for a task that is not there, :class:`UnknownTaskError`.
    """

    def __init__(
        self,
        session: Session,
        source: Source,
        tasks: Tasks,
        rules: Mapping[str, Rule],
        *,
        actor: str,
        theirs: Connection | None = None,
        size: int = PORTION,
    ) -> None:
        self._session = session
        self._source = source
        self._tasks = tasks
        self._rules = rules
        self._actor = actor
        self._theirs = theirs
        self._size = size
        self._named: Mapping[str, Task[Any, Any]] = {name: tasks.offered(rule.task) for name, rule in rules.items()}
        self._workspaces: dict[str, list[UUID]] = {}
        self._has_locks = False
        source.look(self._there())
        self._require_workspaces()
        self._commit()

    def count(self) -> list[Counted]:
        """What waits and runs there now, but for their own housekeeping."""
        found = [one for one in self._source.count(self._there()) if not self._source.is_their_own(one.name)]
        self._commit()
        return found

    def needs_limit(self) -> bool:
        """Whether what came by with a lock of theirs runs here without one: nothing limits such resources."""
        with self._reaching_all():
            limit = find_resource_limit(self._session, f"{LOCK}:*")
        self._commit()
        return self._has_locks and limit is None

    def schedules(self) -> list[TheirSchedule]:
        """What repeats there, as far as their tables know."""
        found = self._source.schedules(self._there())
        self._commit()
        return found

    def move(self, goes_on: Callable[[], bool] = lambda: True) -> Iterator[Portion]:
        """Take over what waits under the names that there are rules for, each portion committed by itself."""
        yield from self._portions(self._move, goes_on, lock=True)

    def rehearse(self, goes_on: Callable[[], bool] = lambda: True) -> Iterator[Portion]:
        """Say what would be taken over, and change nothing. Whether a key is free here is seen by no rehearsal."""
        yield from self._portions(self._look, goes_on, lock=False)

    def _portions(
        self, deed: Callable[[str, Sequence[Waiting]], Portion], goes_on: Callable[[], bool], *, lock: bool
    ) -> Iterator[Portion]:
        # Somebody may have made those that were missing.
        self._workspaces.clear()
        for name in self._rules:
            last: Waiting | None = None
            while goes_on():
                waiting = self._source.read(self._there(), name, last, self._size, lock=lock)
                if not waiting:
                    self._commit()
                    break
                portion = deed(name, waiting)
                self._commit()
                yield portion
                last = waiting[-1]

    def _look(self, name: str, waiting: Sequence[Waiting]) -> Portion:
        with self._reaching_all():
            jobs, left = self._made_of(name, waiting)
        return Portion(name, len(jobs), 0, left)

    def _move(self, name: str, waiting: Sequence[Waiting]) -> Portion:
        with self._reaching_all():
            jobs, left = self._made_of(name, waiting)
            answers, refused = self._enqueue(jobs)
            moved = [Moved(jobs[id].their_id, jobs[id].job.workspace_id, id) for id in answers]
            taken = sum(answer.created for answer in answers.values())
            self._write_down(name, taken)
        self._take_out(name, moved)
        return Portion(name, taken, len(moved) - taken, [*left, *refused])

    # What is made of theirs

    def _made_of(self, name: str, waiting: Sequence[Waiting]) -> tuple[dict[UUID, _Made], list[Left]]:
        made, left = {}, []
        for one in waiting:
            try:
                job = self._new_job(name, one)
            except LookupError as error:
                left.append(Left(one.id, str(error.args[0])))
            except InvalidJobError as error:
                left.append(Left(one.id, str(error)))
            else:
                made[job.id] = _Made(one.id, job)
        return made, left

    def _new_job(self, name: str, waiting: Waiting) -> NewJob:
        rule, task, data = self._rules[name], self._named[name], parsed(waiting.data)
        payload = rule.payload_of(data)
        if not isinstance(payload, Mapping):
            raise LookupError("its payload is no JSON object")
        workspace_id = self._workspace(rule.workspace_of(data))
        job = _asked_of(
            task,
            payload,
            workspace_id=workspace_id,
            priority=_within(PRIORITIES, waiting.priority),
            run_after=waiting.run_after,
            max_attempts=_within(MAX_ATTEMPTS, _attempts_left(waiting, task)),
            tags=(*task.options.tags, f"{self._source.system}:{waiting.id}")[:MOST_TAGS],
            # What waits here is newer, or the same: nothing of theirs takes its place.
            if_active="return",
        )
        job.id = id_of(f"{self._source.system}/{self._source.identity}", waiting.id, waiting.made_at)
        if job.unique_key is None and waiting.unique_key:
            job = dataclasses.replace(job, unique_key=f"{task.name}:{waiting.unique_key}")
        if job.resource is None and waiting.lock is not None:
            self._has_locks = True
            job = dataclasses.replace(job, resource=f"{LOCK}:{waiting.lock}")
        return job

    def _workspace(self, said: str) -> UUID:
        """Each is looked for once, also one that is not there."""
        if said not in self._workspaces:
            self._workspaces[said] = self._find_workspaces(said)
        found = self._workspaces[said]
        if len(found) > 1:
            raise LookupError(f"{len(found)} workspaces are named {said!r}: its id is needed")
        if not found:
            raise LookupError(f"there is no workspace {said!r}")
        return found[0]

    def _find_workspaces(self, said: str) -> list[UUID]:
        try:
            named = [UUID(said)]
        except ValueError:
            if safe_text(said, len(said)) != said:
                return []  # No text that can be stored, so nobody's name.
            named = list(self._session.scalars(select(Workspace.id).where(Workspace.name == said)))
        return [id for id in named if find_workspace(self._session, id) is not None]

    def _require_workspaces(self) -> None:
        """Those that are said for all jobs of a name: a mistake there is none of the jobs'."""
        with self._reaching_all():
            for said in {rule.workspace for rule in self._rules.values()} - {None}:
                try:
                    self._workspace(said or "")
                except LookupError as error:
                    raise AdoptionError(str(error.args[0])) from None

    # What becomes of them here

    def _enqueue(self, made: Mapping[UUID, _Made]) -> tuple[dict[UUID, Enqueued], list[Left]]:
        """All at once; where one is refused, one after the other."""
        jobs = [one.job for one in made.values()]
        try:
            with self._session.begin_nested():
                answers = self._tasks.enqueue_many(self._session, jobs) if jobs else []
        except (InvalidJobError, QuotaExceededError):
            return self._enqueue_each(made)
        return self._sorted_out(made, dict(zip(made, answers, strict=True)))

    def _enqueue_each(self, made: Mapping[UUID, _Made]) -> tuple[dict[UUID, Enqueued], list[Left]]:
        answers: dict[UUID, Enqueued] = {}
        refused: list[Left] = []
        full: dict[UUID, str] = {}
        for id, (their_id, job) in made.items():
            if job.workspace_id in full:
                refused.append(Left(their_id, full[job.workspace_id]))
                continue
            try:
                with self._session.begin_nested():
                    answers[id] = self._tasks.enqueue(self._session, job)
            except InvalidJobError as error:
                refused.append(Left(their_id, str(error)))
            except QuotaExceededError as error:
                full[job.workspace_id] = f"the quota of workspace {error.workspace_id} is full: {error.limit} may wait"
                refused.append(Left(their_id, full[job.workspace_id]))
        known, held = self._sorted_out({id: made[id] for id in answers}, answers)
        return known, [*refused, *held]

    @staticmethod
    def _sorted_out(
        made: Mapping[UUID, _Made], answers: Mapping[UUID, Enqueued]
    ) -> tuple[dict[UUID, Enqueued], list[Left]]:
        """Those that are here, and those whose key another job has: they stay where they are until it is free."""
        here = {id: answer for id, answer in answers.items() if answer.job_id == id}
        held = [Left(made[id].their_id, _held(answer)) for id, answer in answers.items() if id not in here]
        return here, held

    def _write_down(self, name: str, taken: int) -> None:
        if not taken:
            return
        rule = self._rules[name]
        record(
            self._session,
            actor=self._actor,
            action="jobs.adopt",
            target=f"{self._source.system}:{name}",
            workspace_id=None if rule.workspace is None else self._workspace(rule.workspace),
            details={"task": rule.task, "jobs": taken},
        )

    # And there

    def _take_out(self, name: str, moved: Sequence[Moved]) -> None:
        if not moved:
            return
        if self._theirs is not None:
            self._session.commit()
        try:
            gone = self._source.take_out(self._there(), name, moved)
            if gone != len(moved):
                # Their rows were locked: it is our statement that does not fit their tables.
                raise AdoptionError(f"{len(moved)} jobs of {name} were to be taken out there, and {gone} were")
            if self._theirs is not None:
                self._theirs.commit()
        except DBAPIError as error:
            if self._theirs is None:
                raise
            raise AdoptionError(
                f"{plural(len(moved), 'job')} of {name} are here and still wait there too, because their database "
                f"gave out ({str(error.orig).strip()}): run this again now, before a worker there begins them"
            ) from error

    def _there(self) -> Connection:
        if self._theirs is not None:
            return self._theirs
        return self._session.connection(bind_arguments={"mapper": JobRecord.__mapper__})

    def _reaching_all(self) -> AbstractContextManager[None]:
        """Our tables, of all workspaces."""
        return reaching(self._session, ())

    def _commit(self) -> None:
        self._session.commit()
        if self._theirs is not None:
            self._theirs.commit()


class _Made(NamedTuple):
    their_id: str
    job: NewJob


def _asked_of(task: Task[Any, Any], payload: Mapping[str, Any], **options: Any) -> NewJob:
    """A job of our task. Its unique key and its resource may be functions of the application's, and fail for one that
    it has never seen: that one is left, and the others are not."""
    try:
        return task.new_job(payload, **options)
    except JobPlatformError:
        raise
    except Exception as error:
        raise LookupError(f"the code of task {task.name} fails for it: {type(error).__name__}: {error}") from error


def _attempts_left(waiting: Waiting, task: Task[Any, Any]) -> int:
    """What has been tried there counts. Where only their code knows how often that may be, our task says it."""
    most = task.retry.max_attempts if waiting.max_attempts is None else waiting.max_attempts
    return most - waiting.attempts


def _within(allowed: range, number: int) -> int:
    return min(max(number, allowed[0]), allowed[-1])


def _held(answer: Enqueued) -> str:
    if answer.unique_until is not None:
        return "a job of its key was made here too recently"
    return "an unfinished job here has its key"
