"""Every exception of ours, as one tree.

    JobPlatformError
    ├── SettingsError            the configuration cannot be used; lists every problem
    ├── EmbeddedServerError      the PostgreSQL of our own cannot be installed, started or stopped
    ├── MigrationError           the database's schema is not the one this code expects
    ├── UnknownTaskError         no task of that name is registered; suggests the nearest
    ├── TaskDefinitionError      a task was declared in a way that cannot work
    ├── InvalidJobError          an option or payload of a job, or an argument, cannot be; lists every problem by path
    │   └── InvalidPayloadError  it is the payload
    ├── InvalidResultError       what a handler returned is not what its task declares; lists every problem by path
    ├── InvalidLimitError        a limit, plan or pause was to get a value it cannot have; lists every problem by path
    ├── SearchError              a search for jobs cannot be understood, or nothing leads to what it asks for
    ├── InvalidScheduleError     a schedule was to become what cannot be; lists every problem by path
    ├── ScheduleNameTakenError   the workspace has a schedule of this name already
    ├── TooManySchedulesError    the workspace has as many schedules as it may have
    ├── ScheduleMadeInCodeError  the schedule is declared in code, and is to be changed or removed there
    ├── InvalidHookError         a hook or webhook was to become what cannot be; lists every problem by path
    ├── WebhookDisabledError     a webhook that is sent nothing was to be tested; enable it first
    ├── DeliveryRefusedError     a delivery is not signed as it should be, or too old; says which
    ├── EnqueueConflictError     the uniqueness guard changed hands too often while we looked
    ├── UnseenChangeError        it was changed behind the snapshot of this transaction, which cannot change it
    ├── QuotaExceededError       the workspace has as many waiting jobs as it may have; says when to try again
    ├── QuotaIsolationError      a quota cannot be kept in a transaction of this isolation level
    ├── SourceError              a source of records refused, failed, or answered something that cannot be used
    │   ├── SourceBusyError      it asks to come back after a while
    │   ├── SourceUnreachableError  it gives no answer now, which often passes
    │   ├── SourceAnswerError    it answered with an error; has its status
    │   ├── CursorLostError      it cannot go on from where it was; the stream is to be read anew
    │   ├── NeedsAttentionError  its connection is of no use until somebody looks after it
    │   │   └── SourceGoneError  it says that it is gone for good
    │   └── AddressRefusedError  its address is none that a workspace may have asked
    ├── AuthorizationError       nobody's consent came of what was begun with a provider; says why, for people
    ├── InvalidConnectionError   a connection was to become what cannot be; lists every problem by path
    ├── StoreError               a file of an export cannot be written to its store, read or deleted there
    ├── JobError                 for handlers to raise: says whether, and when, to try the job again
    ├── SyncFailedError          every connection of a sync failed; lists each with its reason
    ├── EncryptionError          something cannot be sealed or opened
    │   ├── KeyMissingError      a key is not in this process's key ring; it may be in another's
    │   └── SealBrokenError      it was sealed for another place, was changed, or its key is destroyed
    ├── AdoptionError            another queue's jobs cannot be taken over: it is not there, or not as it should be
    ├── NotATestDatabaseError    a test wanted to do to a database what only a test database survives
    ├── StillReadyError          a drain ran as many jobs as it may, and more are ready
    ├── StepError                a step or checkpoint is used in a way that cannot work, or cannot be stored
    ├── ClientError              a call of the Python client came to nothing
    │   ├── UnreachableError     the API could not be reached, or its answer was lost
    │   ├── WaitTimeoutError     the job had not ended within the time it was waited for
    │   └── AnswerError          the API answered that it cannot
    │       ├── AccessError      the token is not good, or not for this
    │       ├── NoSuchJobError   there is no such thing, or it is another workspace's
    │       ├── ConflictError    another job, or the status of this one, stands in the way
    │       ├── StaleJobError    the job is not what it was when it was read
    │       ├── RefusedError     what was sent is not acceptable; lists every problem by path
    │       └── BusyError        not now; says when to try again
    └── LeaseLostError           this attempt is no longer ours; what it wrote was not accepted

A class exists where a caller would *do* something different on catching it. Facts are attributes; the message is
for the person who reads it at night.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from jobplatform.wording import plural

#: More names than these are counted, not listed.
MOST_NAMES: Final = 20


class JobPlatformError(Exception):
    """The base of every exception this platform raises on purpose."""


class SettingsError(JobPlatformError):
    """The configuration cannot be used. ``problems`` has one sentence for each thing that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"the configuration has {plural(len(self.problems), 'problem')}:{lines}")


class EmbeddedServerError(JobPlatformError):
    """The PostgreSQL of our own cannot be installed, started or stopped; the message says what to try."""


class MigrationError(JobPlatformError):
    """The database's schema is not the one this code expects."""


class UnknownTaskError(JobPlatformError):
    """No task of this name is registered. ``suggestion`` is the nearest name there is, if any is near.

    ``looked_in`` says where the tasks were loaded from, as ``module:attribute``, and ``known`` which there are. They
    are for whoever runs the platform: the message, which callers of the API read too, is without them.
    """

    def __init__(
        self, name: str, suggestion: str | None = None, *, looked_in: str | None = None, known: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.suggestion = suggestion
        self.looked_in = looked_in
        self.known = tuple(known)
        hint = f"; did you mean {suggestion!r}?" if suggestion else ""
        super().__init__(f"no task is named {name!r}{hint}")
        self.add_note(self.where)

    @property
    def where(self) -> str:
        """A sentence about where it was looked for, and what is there."""
        shown = ", ".join(self.known[:MOST_NAMES]) or "none"
        more = f" and {len(self.known) - MOST_NAMES} more" if len(self.known) > MOST_NAMES else ""
        return f"Known to {self.looked_in or 'this application'}: {shown}{more}"


class TaskDefinitionError(JobPlatformError):
    """A task was declared in a way that cannot work; raised while the application is being imported."""


class Problem(NamedTuple):
    """One thing that is wrong with a value: where (``/payload/items/3``) and what."""

    path: str
    message: str


def refuse(error: Callable[[Sequence[Problem]], JobPlatformError], problems: Iterable[Problem | None]) -> None:
    """Raise ``error`` with those that are not None, if there are any."""
    if found := [problem for problem in problems if problem]:
        raise error(found)


class InvalidJobError(JobPlatformError):
    """An option of a job, or an argument of a verb, is not acceptable. ``problems`` names each place and what is wrong
    there.

    ``job_ids`` says of which of many jobs each of them is, where that is known.
    """

    def __init__(self, problems: Sequence[Problem], job_ids: Sequence[uuid.UUID] = ()) -> None:
        self.problems = tuple(problems)
        self.job_ids = tuple(job_ids)
        super().__init__("; ".join(f"{path or '/'}: {message}" for path, message in self.problems))


class InvalidPayloadError(InvalidJobError):
    """The payload of a job is not acceptable. Paths start at the payload itself."""


class InvalidResultError(JobPlatformError):
    """What a handler returned is not what its task declares. ``problems`` names each place and what is wrong there."""

    should_retry = False

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        places = "; ".join(f"{path or '/'}: {message}" for path, message in self.problems)
        super().__init__(f"the handler's result is not what its task declares: {places}")


class InvalidLimitError(JobPlatformError):
    """A limit, plan or pause was to get a value it cannot have. ``problems`` names each place and what is wrong."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path or '/'}: {message}" for path, message in self.problems))


class SearchError(JobPlatformError):
    """A search cannot be understood, or nothing leads to what it asks for. The ``path`` of each of ``problems`` names
    the qualifier, as ``/q/task``."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path.rpartition('/')[2]}: {message}" for path, message in self.problems))


class InvalidScheduleError(JobPlatformError):
    """A schedule was to become what it cannot be. ``problems`` names each place and what is wrong there."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path or '/'}: {message}" for path, message in self.problems))


class ScheduleNameTakenError(JobPlatformError):
    """The workspace has a schedule of this name already."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is a schedule named {name!r} already; give another name, or change that one")


class TooManySchedulesError(JobPlatformError):
    """The workspace has as many schedules as it may have: ``limit``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"a workspace may have {plural(limit, 'schedule')} and this one has; delete one that is not needed"
        )


class ScheduleMadeInCodeError(JobPlatformError):
    """The schedule is declared in code: it is changed and removed there. Pausing it is for everybody."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the schedule {name!r} is declared in code; change it there, or pause it")


class InvalidHookError(JobPlatformError):
    """A hook or a webhook was to become what it cannot be. ``problems`` names each place and what is wrong there."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path or '/'}: {message}" for path, message in self.problems))


class WebhookDisabledError(JobPlatformError):
    """A webhook is disabled, so it would be sent no test: enable it first."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the webhook {name!r} is disabled, and would be sent nothing; enable it first")


class DeliveryRefusedError(JobPlatformError):
    """A delivery was not believed. ``reason`` is a word for it: ``unsigned``, ``bad-signature``, ``too-old``,
    ``wrong-subscription``.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class EnqueueConflictError(JobPlatformError):
    """The holder of a uniqueness guard changed again and again while this job was being enqueued.

    Under READ COMMITTED this does not happen in practice; a caller's REPEATABLE READ transaction that began before
    somebody else took the key, or changed who has it, cannot see that and gets here. Try again in a new transaction.
    ``others``: it may as well be one of so many other keys that were asked for in the same call.
    """

    def __init__(self, unique_key: str, workspace_id: object, *, others: int = 0) -> None:
        self.unique_key = unique_key
        self.workspace_id = workspace_id
        self.others = others
        beside = f", or one of {others} others asked for with it" if others else ""
        super().__init__(
            f"could not tell who holds the uniqueness guard {unique_key!r} of workspace {workspace_id}{beside}; "
            "try again in a new transaction"
        )


class UnseenChangeError(JobPlatformError):
    """Somebody else has changed the job, the batch or the setting ``id`` since this transaction's snapshot was taken.

    Only a REPEATABLE READ or SERIALIZABLE transaction gets here, as PostgreSQL lets it change nothing that it cannot
    see; its cause is what PostgreSQL says. Roll back, and try again in a new transaction. ``workspace_id`` is None for
    what is set for all of them, ``id`` for what a workspace has one of; ``setting`` says what is set.
    """

    def __init__(self, workspace_id: object, id: object, setting: str | None = None) -> None:
        self.workspace_id = workspace_id
        self.id = id
        self.setting = setting
        named = None if id is None else str(id) if setting is None else repr(id)
        what = " ".join(word for word in (setting and f"the {setting}", named) if word)
        whose = "" if workspace_id is None else f" of workspace {workspace_id}"
        super().__init__(
            f"somebody has changed {what}{whose} since this transaction began to look; roll back and try again in a "
            "new transaction"
        )


class QuotaExceededError(JobPlatformError):
    """There is no room for these jobs in the workspace's quota of ``limit`` waiting jobs. None of them was enqueued.

    The transaction can go on. Places get free as jobs are started; ``retry_after_seconds`` is a guess.
    """

    def __init__(self, workspace_id: object, limit: int, retry_after_seconds: int) -> None:
        self.workspace_id = workspace_id
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds
        super().__init__(
            f"workspace {workspace_id} may have {plural(limit, 'waiting job')} and has no room for more; "
            f"try again in {retry_after_seconds} s, or raise its quota"
        )


class QuotaIsolationError(JobPlatformError):
    """A quota cannot be kept in a transaction of this isolation level: it would count with a snapshot that is too old.

    Enqueue in a READ COMMITTED transaction.
    """

    def __init__(self, workspace_id: object, isolation: str) -> None:
        self.workspace_id = workspace_id
        self.isolation = isolation
        super().__init__(
            f"workspace {workspace_id} has a quota, and in a {isolation.upper()} transaction nobody can count what "
            "others have enqueued meanwhile; enqueue in a READ COMMITTED one"
        )


class EncryptionError(JobPlatformError):
    """Something cannot be sealed or opened."""


class KeyMissingError(EncryptionError):
    """The master key ``key_id`` is not in this process's key ring; None where there is no key ring at all.

    Nothing is lost: a process that has the key can go on.
    """

    def __init__(self, key_id: str | None, message: str) -> None:
        self.key_id = key_id
        super().__init__(f"{message}; see JOBPLATFORM_ENCRYPTION_KEYS")


class SealBrokenError(EncryptionError):
    """What was sealed cannot be opened, here or anywhere else, however often it is tried."""

    should_retry = False


class AdoptionError(JobPlatformError):
    """Another queue's jobs cannot be taken over as it was said; what was moved before stays moved."""


class NotATestDatabaseError(JobPlatformError):
    """A test wanted to do to ``database`` what only a database made by ``jobplatform.testing`` survives."""

    def __init__(self, database: str, what: str) -> None:
        self.database = database
        super().__init__(
            f"{what} only a database that jobplatform.testing made for a test, and {database!r} is not one; "
            "use the fixture jobplatform_engine or jobplatform_session"
        )


class StillReadyError(JobPlatformError):
    """A drain ran ``ran`` attempts, as many as it may, and more jobs are ready: probably jobs that enqueue each other
    for ever. ``ready`` describes some of those that are left."""

    def __init__(self, ran: int, ready: Sequence[str]) -> None:
        self.ran = ran
        self.ready = tuple(ready)
        lines = "".join(f"\n  - {job}" for job in self.ready)
        super().__init__(
            f"{plural(ran, 'attempt was', 'attempts were')} made and jobs are still ready:{lines}\n"
            "do they enqueue each other for ever? If not, pass a larger bound="
        )


class LeaseLostError(JobPlatformError):
    """This attempt is no longer ours: another worker has the job, or it ended. Nothing was written."""

    def __init__(self, job_id: object, epoch: int) -> None:
        self.job_id = job_id
        self.epoch = epoch
        super().__init__(
            f"the lease on job {job_id} (epoch {epoch}) is lost; stop: its next attempt is somebody else's"
        )


class StepError(JobPlatformError):
    """A step or checkpoint is used in a way that cannot work, or what it was to save cannot be stored.

    Nothing of it was saved. Trying again would not change that, so the job fails with it.
    """

    should_retry = False


class SourceError(JobPlatformError):
    """A source of records refused, failed, or answered something that cannot be used."""


class SourceBusyError(SourceError):
    """The source asks to come back in ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class SourceUnreachableError(SourceError):
    """The source gives no answer, or says itself that it has failed. That often passes."""

    infrastructure = True


class SourceAnswerError(SourceError):
    """The source answered with the error ``status``. Asking again brings the same."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


class CursorLostError(SourceError):
    """The source cannot go on from this cursor: what it named is gone, or has changed. From the beginning it can."""


class NeedsAttentionError(SourceError):
    """The connection cannot be used until somebody gives it (new) credentials: it has none, or they are refused."""

    should_retry = False


class SourceGoneError(NeedsAttentionError):
    """The source says that it is gone and will not come back."""


class AuthorizationError(JobPlatformError):
    """A provider's consent did not come, or is not what is needed. ``reason`` is a code; the message is for people."""

    def __init__(self, message: str, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class AddressRefusedError(SourceError):
    """An address is not public, or a URL none that is asked on behalf of a workspace. Nothing was connected to."""

    should_retry = False


class InvalidConnectionError(JobPlatformError):
    """A connection was to become what it cannot be. ``problems`` names each place and what is wrong there."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path or '/'}: {message}" for path, message in self.problems))


class StoreError(JobPlatformError):
    """A file of an export cannot be written to its store, read or deleted there. That often passes."""


class JobError(JobPlatformError):
    """An attempt failed. A handler raises it, or a class of its own made from it.

    ``should_retry=False``: trying again is no use, so the job has failed. ``retry_after`` (a duration or seconds): the
    next attempt runs after that and not after the task's own delay. Any exception may have these two attributes.
    """

    should_retry: bool = True
    retry_after: datetime.timedelta | float | None = None

    def __init__(
        self,
        message: str,
        *,
        should_retry: bool | None = None,
        retry_after: datetime.timedelta | float | None = None,
    ) -> None:
        if should_retry is not None:
            self.should_retry = should_retry
        if retry_after is not None:
            self.retry_after = retry_after
        super().__init__(message)


class SyncFailedError(JobPlatformError):
    """Every connection of a sync failed. ``reasons`` has a sentence for each.

    ``should_retry`` is False when none of them could do better at another attempt.
    """

    def __init__(self, reasons: Sequence[str], *, should_retry: bool = True) -> None:
        self.reasons = tuple(reasons)
        self.should_retry = should_retry
        super().__init__("no connection could be synced: " + "; ".join(self.reasons))


class ClientError(JobPlatformError):
    """A call of :mod:`jobplatform.client` came to nothing."""


class UnreachableError(ClientError):
    """The API could not be reached, or its answer was lost. ``sent``: the request may have been carried out."""

    def __init__(self, url: str, reason: str, *, sent: bool = False) -> None:
        self.url = url
        self.sent = sent
        hint = "; it may have been carried out" if sent else ""
        super().__init__(f"no answer from {url} ({reason}){hint}")


class WaitTimeoutError(ClientError):
    """What was waited for had not ended after ``seconds``. It goes on."""

    def __init__(self, path: str, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        super().__init__(f"{path} had not ended after {seconds:g} s; it goes on")


class AnswerError(ClientError):
    """The API answered that it cannot. ``kind`` is the last word of the problem's type, ``errors`` names places."""

    def __init__(
        self,
        status: int,
        *,
        kind: str = "",
        detail: str = "",
        errors: Sequence[Problem] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
        job_id: str | None = None,
        job_status: str | None = None,
    ) -> None:
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id
        self.retry_after = retry_after
        self.job_id = job_id
        self.job_status = job_status
        places = "".join(f"; {error.path}: {error.message}" for error in self.errors)
        named = f" (request {request_id})" if request_id else ""
        super().__init__(f"{status} {kind}: {detail}{places}{named}")


class AccessError(AnswerError):
    """The token is not good, or not for this."""


class NoSuchJobError(AnswerError):
    """There is no such thing, or it belongs to another workspace."""


class ConflictError(AnswerError):
    """Another job, or the status of this one, stands in the way: ``job_id`` and ``job_status`` say which.

    ``retry_after``, in seconds, is there when the other job was made so recently that there is to be no second yet.
    """


class StaleJobError(AnswerError):
    """The job is not what it was when it was read, and was left alone: read it again, and look what is different."""


class RefusedError(AnswerError):
    """What was sent is not acceptable; ``errors`` says what, and where."""


class BusyError(AnswerError):
    """Not now: too many requests, a full quota, or a database that is away. ``retry_after`` in seconds, if it says."""
