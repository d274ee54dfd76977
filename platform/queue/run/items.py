"""Batch handlers: one call for several jobs of one task and one workspace.

Each stays a job of its own, with its own lease, attempt, result and retry. A handler gets them as a :class:`Items` and
says of each how it ended: by what it returns, or item by item. What is said of an item counts from the moment
on at which nothing that was written in the batch's Session before is uncommitted; then it survives whatever becomes of
the others. That of the last one counts when the handler returns, and so does that of a job that runs alone.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin, overload

from sqlalchemy import event
from sqlalchemy.orm import Session

from jobplatform.errors import JobError, TaskDefinitionError
from jobplatform.queue.allowed import is_whole
from jobplatform.queue.run.outcomes import JobInterrupted
from jobplatform.queue.tasks.task import hints_of_parameters

if TYPE_CHECKING:
    from jobplatform.queue.run.running import RunningJob

P = TypeVar("P")

#: Jobs of one call.
SIZES = range(1, 201)
#: Seconds for which a worker lets some wait for more.
LONGEST_WAIT = 60.0


class BatchResultError(JobError):
    """A batch handler returned something else than a result for each item. Its work is not done again for that."""

    should_retry = False


class _Nothing:
    """No result yet; None is one."""


NOTHING = _Nothing()


class Item(Generic[P]):
    """One job of a batch: ``job``, its ``payload``, and how it ended."""

    def __init__(self, job: RunningJob, payload: P, told: Callable[[RunningJob], bool] | None = None) -> None:
        self.job = job
        self.payload = payload
        self.value: Any = NOTHING
        self.settled = False
        self._told = told
        self._batch: Items[P] | None = None

    def __repr__(self) -> str:
        return f"<Item {self.job!r}>"

    @property
    def is_done(self) -> bool:
        """Whether it was said how it ended."""
        return self.value is not NOTHING or self.job.completed_in_session

    @property
    def cancelled(self) -> bool:
        """Whether this one should stop (somebody cancelled it, or it is ours no longer), or all of them."""
        return (self._told is not None and self._told(self.job)) or self.job.cancelled

    def done(self, value: Any = None) -> None:
        """It ended well with this result, or as an outcome says (``Skip``, ``Discard``, ``Snooze`` …)."""
        if self.is_done:
            raise RuntimeError(f"it was said before how job {self.job.id} ended")
        self.value = value
        assert self._batch is not None
        self._batch.was_told(self)

    def failed(self, error: BaseException | str) -> None:
        """It failed, as if a handler of its own had raised this."""
        self.done(JobError(error) if isinstance(error, str) else error)


class Items(Sequence[Item[P]]):
    """The jobs of one call, all of one task and one workspace."""

    def __init__(
        self,
        items: Sequence[Item[P]],
        open_session: Callable[[], Session],
        on_settled: Callable[[Item[P]], None] | None = None,
    ) -> None:
        self._items = tuple(items)
        self._open_session = open_session
        self._on_settled = on_settled
        self._session: Session | None = None
        self._uncounted: list[Item[P]] = []
        for item in items:
            item._batch = self

    @overload
    def __getitem__(self, index: int) -> Item[P]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item[P]]: ...

    def __getitem__(self, index: int | slice) -> Item[P] | Sequence[Item[P]]:
        return self._items[index]

    def __iter__(self) -> Iterator[Item[P]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def workspace_id(self) -> uuid.UUID:
        return self._items[0].job.workspace_id

    @property
    def session(self) -> Session:
        """One Session for all of them (each item's ``job.session`` is this one). Committed when the handler returns,
        rolled back when it raises; you may commit earlier."""
        if self._session is None:
            self._session = self._open_session()
            event.listen(self._session, "after_commit", self._committed)
        return self._session

    @property
    def opened_session(self) -> Session | None:
        return self._session

    def check(self) -> None:
        """Raise what interrupts this call, if anything does."""
        self._items[0].job.check()

    def open_items(self) -> list[Item[P]]:
        """Those that are not over yet."""
        return [item for item in self._items if not item.settled]

    def was_told(self, item: Item[P]) -> None:
        """How this item ended. That counts now, if nothing is uncommitted."""
        self._uncounted.append(item)
        shared = self._session is not None and self._session.in_transaction()
        if not shared and not any(told.job.is_in_transaction for told in self._uncounted):
            self._settle(self._uncounted)

    def _committed(self, session: Session) -> None:
        # That of a SAVEPOINT is none yet.
        if not session.in_nested_transaction():
            # Of those that were completed in it nobody was told.
            self._settle([item for item in self.open_items() if item.is_done])

    def _settle(self, items: Sequence[Item[P]]) -> None:
        self._uncounted = []
        if self._on_settled is None:
            return
        for item in items:
            item.settled = True
            self._on_settled(item)

    def take(self, answer: Any) -> None:
        """What the handler returned: nothing, a result for each item in their order, or a mapping by item or job id.

        Items of which it was said already keep that. Raises :class:`BatchResultError`.
        """
        values = self._values(answer)
        for item, value in zip(self._items, values, strict=True):
            if not item.is_done:
                item.value = value

    def _values(self, answer: Any) -> Sequence[Any]:
        if answer is None:
            return [NOTHING if item.cancelled else None for item in self._items]
        if isinstance(answer, Mapping):
            missing = JobError("the handler returned no result for this item")
            return [answer.get(item, answer.get(item.job.id, missing)) for item in self._items]
        if isinstance(answer, list | tuple) and len(answer) == len(self._items):
            return answer
        what = f"{len(answer)} results" if isinstance(answer, list | tuple) else f"a {type(answer).__name__}"
        raise BatchResultError(f"a batch handler must return a result for each of {len(self._items)} items, not {what}")


@dataclass(frozen=True, slots=True)
class BatchCall:
    """How the jobs of a task are called together: so many at most, gathered for so many seconds at most."""

    handler: Callable[[Items[Any]], Any]
    size: int
    wait: float


def _require_function(handler: object) -> None:
    if not callable(handler):
        raise TaskDefinitionError(f"a function of the batch is declared, and not a {type(handler).__name__}")


def batch_call(handler: Callable[[Items[Any]], Any], size: int, wait: float) -> BatchCall:
    """How the jobs of a batch task are called, gathered for up to ``wait`` seconds.

    Raises :class:`TaskDefinitionError` for what cannot work.
    """
    _require_function(handler)
    if not is_whole(size, SIZES):
        raise TaskDefinitionError(f"size must be a whole number from {SIZES[0]} to {SIZES[-1]}")
    if not 0 <= wait <= LONGEST_WAIT:
        raise TaskDefinitionError(f"wait must be from 0 to {LONGEST_WAIT:g} seconds")
    return BatchCall(handler, size, wait)


def item_payload(handler: Callable[..., Any], *, declared: bool) -> Any:
    """What ``Items[…]``, the annotation of a batch handler's one parameter, says about payloads."""
    (annotation,), _ = hints_of_parameters(handler, 1, "one argument: the batch", declared=declared)
    if get_origin(annotation) is Items:
        return get_args(annotation)[0]
    return dict


def for_one(handler: Callable[[Items[Any]], Any]) -> Callable[[RunningJob, Any], Any]:
    """A batch handler as the handler of a single job: what runs by itself is a batch of one."""

    def handle(job: RunningJob, payload: Any) -> Any:
        batch = Items([Item(job, payload)], lambda: job.session, lambda _item: None)
        try:
            answer = handler(batch)
        except (Exception, JobInterrupted) as error:  # noqa: BLE001 - user code; raised again unless the job is over
            return _kept(batch, error)
        if inspect.iscoroutine(answer):
            return _awaited(batch, answer)
        return _said(batch, answer)

    handle.__doc__ = handler.__doc__
    handle.__qualname__ = handler.__qualname__
    handle.__module__ = handler.__module__
    return handle


async def _awaited(batch: Items[Any], answer: Any) -> Any:
    try:
        found = await answer
    except (Exception, JobInterrupted) as error:  # noqa: BLE001 - see above
        return _kept(batch, error)
    return _said(batch, found)


def _kept(batch: Items[Any], error: BaseException) -> Any:
    """A handler that raises after an item was over fails the others, and here there are none."""
    item = batch[0]
    if not item.settled:
        raise error
    if item.job.is_in_transaction:
        item.job.session.rollback()
    return _value(item)


def _said(batch: Items[Any], answer: Any) -> Any:
    batch.take(answer)
    return _value(batch[0])


def _value(item: Item[Any]) -> Any:
    if isinstance(item.value, BaseException):
        raise item.value
    return None if item.value is NOTHING else item.value
