"""A task whose handler's own words are kept: what it returned or raised, before that became rows and texts."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

from jobplatform.queue.run.running import RunningJob
from jobplatform.queue.tasks.task import Task


class Recorder:
    """What the handler of the last attempt returned and what it raised.

    ``raised`` is called with what it raises, where it does: before its Session is rolled back.
    """

    def __init__(self, raised: Callable[[BaseException], object] | None = None) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._raised = raised

    def listen_to(self, task: Task[Any, Any]) -> Task[Any, Any]:
        """A copy of ``task`` that behaves alike and is heard here; the task itself is left alone."""
        heard = copy.copy(task)
        heard.handler = self._heard(task.handler)
        return heard

    def _heard(self, handler: Callable[[RunningJob, Any], Any]) -> Callable[[RunningJob, Any], Any]:
        def call(job: RunningJob, payload: Any) -> Any:
            self.value = self.error = None
            try:
                self.value = handler(job, payload)
            except BaseException as error:
                self._hear(error)
                raise
            return self._awaited(self.value) if inspect.iscoroutine(self.value) else self.value

        return call

    async def _awaited(self, coroutine: Any) -> Any:
        try:
            self.value = await coroutine
        except BaseException as error:
            self.value = None
            self._hear(error)
            raise
        return self.value

    def _hear(self, error: BaseException) -> None:
        self.error = error
        if self._raised is not None:
            self._raised(error)
