"""What a program can ask of the API, a method each."""

from __future__ import annotations

import contextlib
import datetime
import time
import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from jobplatform.client.bar import progress_bar_for
from jobplatform.client.following import Following
from jobplatform.client.http import Answer, Http
from jobplatform.client.jobs import Event, Job
from jobplatform.errors import BusyError, UnreachableError, WaitTimeoutError

#: Seconds that one answer may be waited for when there is no place for a stream.
POLL = 20


class Client:
    """Calls the API of one workspace::

        with Client("https://jobs.example.com/api", token, workspace_id) as jobs:
            job = jobs.enqueue("export", {"format": "csv"})
            job = jobs.wait(job.id, timeout=600)
            print(job.status, job.result)

    ``timeout`` is for each request, in seconds; ``tries`` how often one that is harmless is sent. Raises subclasses of
    :class:`~jobplatform.errors.ClientError`. May be used by several threads.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        workspace_id: str | uuid.UUID,
        *,
        timeout: float = 30.0,
        tries: int = 5,
        transport: Any = None,
    ) -> None:
        self._http = Http(base_url, token, timeout=timeout, tries=tries, transport=transport)
        self._workspace = f"workspaces/{workspace_id}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.client.close()

    # -- enqueue ---------------------------------------------------------------------------------

    def enqueue(self, job_type: str, payload: Any = None, **options: Any) -> Job:
        """Enqueue a job. ``options`` are those of the API in snake_case: ``priority``, ``delay_ms``,
        ``start_within_ms``, ``unique_key`` …

        Raises :class:`ConflictError`, which names the job that holds the guard, unless ``if_active="return"``. When
        that one was made too recently (``unique_for_ms``), its ``retry_after`` says when there may be another.
        """
        body = {"jobType": job_type, **({} if payload is None else {"payload": payload}), **_camel(options)}
        return self._accepted("jobs", body)

    def sync(self, connector_type: str | None = None, mode: str | None = None, **options: Any) -> Job:
        """Start a sync of the workspace, or with ``connection_id=`` of one of its connections."""
        given = {"connectorType": connector_type, "mode": mode, **_camel(options)}
        return self._accepted("sync", {name: value for name, value in given.items() if value is not None})

    def _accepted(self, path: str, body: dict[str, Any]) -> Job:
        answer = self._http.ask("POST", f"{self._workspace}/{path}", body=body)
        # A server of a version before knows nothing of replacing.
        return Job.of(answer["job"], deduplicated=answer["deduplicated"], replaced=answer.get("replaced", False))

    # -- look ------------------------------------------------------------------------------------

    def get(self, job_id: str | uuid.UUID, *, wait: int | None = None) -> Job:
        """A job as it is now or, with ``wait``, as soon as it changes within so many seconds."""
        return self._job_of(self._http.answer_to("GET", self._job(job_id), query={"wait": wait}))

    def list_jobs(self, **filters: Any) -> Iterator[Job]:
        """The workspace's jobs, newest first, a page at a time as they are asked for.

        ``filters`` are those of the API in snake_case: ``status``, ``job_type``, ``queue``, ``created_after`` …
        """
        query = {"limit": 100, **_camel(filters)}
        while True:
            page = self._http.ask("GET", f"{self._workspace}/jobs", query=query)
            yield from map(Job.of, page["items"])
            if not page["nextCursor"]:
                return
            query["cursor"] = page["nextCursor"]

    # -- act -------------------------------------------------------------------------------------

    def cancel(self, job_id: str | uuid.UUID) -> Job:
        """Cancel a job: at once while it waits, through its worker while it runs."""
        return self._job_of(self._http.answer_to("POST", f"{self._job(job_id)}/cancel"))

    def retry(self, job_id: str | uuid.UUID, *, from_step: str | None = None, from_start: bool = False) -> Job:
        """Make a failed or cancelled job pending again, to go on after the steps that it has done: with ``from_step``
        after those before that step, with ``from_start`` after none."""
        query = {"fromStep": from_step, "fromStart": "true" if from_start else None}
        return self._job_of(self._http.answer_to("POST", f"{self._job(job_id)}/retry", query=query))

    def fork(
        self, job_id: str | uuid.UUID, *, from_step: str | None = None, from_start: bool = False, payload: Any = None
    ) -> Job:
        """Enqueue a job like one that has ended, which stays as it is. Answers with the new one.

        It goes on after the steps that the old one has done: with ``from_step`` after those before that step, with
        ``from_start`` after none. ``payload`` takes the place of the old one's. Raises :class:`ConflictError` when the
        old one has not ended, or another job holds the uniqueness guard.
        """
        body = {"fromStep": from_step, "fromStart": from_start or None, "payload": payload}
        said = {name: value for name, value in body.items() if value is not None}
        return self._accepted(f"jobs/{job_id}/fork", said)

    def run_now(self, job_id: str | uuid.UUID) -> Job:
        """Have a job that waits for its time run as soon as it is its turn."""
        return self._job_of(self._http.answer_to("POST", f"{self._job(job_id)}/run-now"))

    def change(self, job_id: str | uuid.UUID, *, if_still: Job | None = None, **changes: Any) -> Job:
        """Change a job that has not begun: its ``priority``, its ``queue``, ``run_after``; what is not named stays.

        ``run_after=None``: it waits for no moment any more. ``if_still``: only if it is as it was when :meth:`get` or
        :meth:`change` answered so. Raises :class:`ConflictError` when it has begun, :class:`StaleJobError` when
        it is not as it was, and ValueError for an ``if_still`` of which that cannot be told.
        """
        if if_still is not None and if_still.etag is None:
            raise ValueError(
                f"job {if_still.id} is from a list or an enqueue, which have no entity tags: get() it first"
            )
        if_match = None if if_still is None else if_still.etag
        return self._job_of(self._http.answer_to("PATCH", self._job(job_id), body=_camel(changes), if_match=if_match))

    def token_for(self, job_id: str | uuid.UUID, valid_for: datetime.timedelta = datetime.timedelta(minutes=15)) -> str:
        """A token for a browser, by which it can look at this job and do nothing else."""
        body = {"validForMs": int(valid_for / datetime.timedelta(milliseconds=1))}
        token: str = self._http.ask("POST", f"{self._job(job_id)}/token", body=body, once=False)["token"]
        return token

    # -- follow ----------------------------------------------------------------------------------

    def stream(
        self, job_id: str | uuid.UUID, *, last_event_id: str = "", timeout: float | None = None
    ) -> Iterator[Event]:
        """What happens to a job, from its beginning or from an event on, until it has ended: each event once.

        Comes back by itself when the connection is lost. Raises :class:`WaitTimeoutError` after ``timeout`` seconds.
        """
        return iter(Following(self._http, f"{self._job(job_id)}/events", last_event_id=last_event_id, timeout=timeout))

    def stream_workspace(self, *, last_event_id: str = "", timeout: float | None = None) -> Iterator[Event]:
        """What happens to the workspace's jobs, from now or from an event on, without end.

        An event ``stream.reset`` says that events are missing before it: list the jobs again.
        """
        return iter(Following(self._http, f"{self._workspace}/events", last_event_id=last_event_id, timeout=timeout))

    def wait(
        self,
        job_id: str | uuid.UUID,
        *,
        timeout: float | None = None,
        on_change: Callable[[Event], object] | None = None,
        progress_bar: bool = False,
    ) -> Job:
        """The job when it has ended, however. ``on_change`` is called with each event; ``progress_bar`` shows one.

        Raises :class:`WaitTimeoutError` after ``timeout`` seconds; the job goes on.
        """
        until = None if timeout is None else time.monotonic() + timeout
        following = Following(self._http, f"{self._job(job_id)}/events", timeout=timeout, patient=False)
        with progress_bar_for(str(job_id), shown=progress_bar) as show:
            try:
                for event in following:
                    show(event)
                    if on_change is not None:
                        on_change(event)
                    if event.is_final:
                        break
            except BusyError:
                pass  # no place for a stream: then an answer at a time
        return self._poll(job_id, until, timeout)

    def _poll(self, job_id: str | uuid.UUID, until: float | None, timeout: float | None) -> Job:
        while True:
            started = time.monotonic()
            left = POLL if until is None else min(POLL, max(0, int(until - started)))
            job = self._look(job_id, left)
            if job is not None and job.is_final:
                return job
            if until is not None and time.monotonic() >= until - 1:
                raise WaitTimeoutError(self._job(job_id), timeout or 0.0)
            # Where nobody may wait either, the answer came at once.
            time.sleep(max(0.0, 2.0 - (time.monotonic() - started)))

    def _look(self, job_id: str | uuid.UUID, wait: int) -> Job | None:
        """None as long as there is no answer to be had. The job goes on meanwhile, and so does whoever waits for it."""
        with contextlib.suppress(BusyError, UnreachableError):
            return self.get(job_id, wait=wait)
        return None

    @staticmethod
    def _job_of(answer: Answer) -> Job:
        return Job.of(answer.body, etag=answer.etag)

    def _job(self, job_id: str | uuid.UUID) -> str:
        return f"{self._workspace}/jobs/{job_id}"


def _camel(options: dict[str, Any]) -> dict[str, Any]:
    """Names as the API spells them, moments and ids as texts; also within what a job is to wait for."""
    return {_camel_name(name): _plain(value) for name, value in options.items()}


def _camel_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return _camel(value)
    return str(value) if isinstance(value, uuid.UUID) else value
