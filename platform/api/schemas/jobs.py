"""What goes over the wire, one schema for each resource."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, post_load, validate, validates_schema

from jobplatform.api.schemas.fields import (
    LONGEST_DELAY,
    CamelSchema,
    Cursor,
    Digits,
    Few,
    Moment,
    WholeNumber,
    delay_ms,
    max_attempts,
    milliseconds,
    priority,
    queue_name,
    start_within_ms,
    tags,
    timeout_ms,
    unique_for_ms,
    unique_key,
)
from jobplatform.models import Outcome, RunIf, Status
from jobplatform.queue import JobChange

PAGE_LIMIT = 20
LARGEST_PAGE = 200
#: Jobs that one request may enqueue.
MOST_JOBS = 1000
#: Seconds that an answer about a job may wait. Less than what proxies commonly allow.
LONGEST_WAIT = 50

_statuses = validate.OneOf([status.value for status in Status])
_outcomes = validate.OneOf([outcome.value for outcome in Outcome])


class ProblemItemSchema(CamelSchema):
    """What is wrong, and where: a JSON pointer into the body, ``?name`` in the query, ``{name}`` in the path."""

    path = fields.String(required=True)
    message = fields.String(required=True)


class ProblemSchema(CamelSchema):
    """An RFC 9457 problem. Kinds of problems have further members, such as ``jobId``."""

    type = fields.String(required=True, metadata={"format": "uri"})
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    instance = fields.String(required=True)
    errors = fields.List(fields.Nested(ProblemItemSchema))
    request_id = fields.String(metadata={"description": "Of our own mistakes: what to look for in the log"})


class ConflictSchema(ProblemSchema):
    """The problem of a request that something stands in the way of: if it is a job, that job."""

    job_id = fields.UUID()
    job_status = fields.String(validate=_statuses)
    status_url = fields.String()
    unique_until = Moment(
        metadata={"description": "When the job was made so recently that there is to be no other yet: until when."}
    )


class QuotaSchema(ProblemSchema):
    """The problem of a job that there is no room for: how many jobs of the workspace may wait."""

    limit = fields.Integer(required=True)


class ProgressSchema(CamelSchema):
    """How far a job is, in its own units."""

    current = fields.Raw(metadata={"type": ["number", "null"]})
    total = fields.Raw(metadata={"type": ["number", "null"]})
    message = fields.String(allow_none=True)


class JobErrorSchema(CamelSchema):
    """Why the last attempt did not succeed."""

    type = fields.String(required=True)
    message = fields.String(required=True)


def run_if() -> fields.String:
    return fields.String(
        load_default=RunIf.COMPLETED.value,
        validate=validate.OneOf(list(RunIf)),
        metadata={"description": "completed: else it is cancelled. ended: however. failed: only if not completed."},
    )


class EdgeSchema(CamelSchema):
    """A job or a batch that a job waits for, and when it runs then."""

    job_id = fields.UUID(metadata={"description": "A job of the same workspace. Give this or batchId."})
    batch_id = fields.UUID(metadata={"description": "A batch of the same workspace."})
    run_if = run_if()

    @validates_schema
    def one_of_both(self, data: dict[str, Any], **_: Any) -> None:
        if ("job_id" in data) == ("batch_id" in data):
            raise ValidationError("Give a jobId or a batchId.", "jobId")


class EdgeInManySchema(CamelSchema):
    """The same in a request for many jobs, where it may also be another of them."""

    job_id = fields.UUID(metadata={"description": "A job of the same workspace. Give this, batchId or position."})
    batch_id = fields.UUID(metadata={"description": "A batch of the same workspace."})
    position = WholeNumber(
        validate=validate.Range(0, MOST_JOBS - 1),
        metadata={"description": "A job of this request, by its place in `jobs`, from 0."},
    )
    run_if = run_if()

    @validates_schema
    def one_of_three(self, data: dict[str, Any], **_: Any) -> None:
        if sum(name in data for name in ("job_id", "batch_id", "position")) != 1:
            raise ValidationError("Give a jobId, a batchId or a position.", "jobId")


def worker_id() -> fields.Integer:
    return fields.Integer(
        required=True, allow_none=True, metadata={"description": "The worker that runs it, or ran its last attempt."}
    )


def worker() -> fields.String:
    return fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Its host and process, as `host:pid`. For operators: null for everybody else."},
    )


class WaitSchema(CamelSchema):
    """What a job waits for, or did, and how that is: null when it is not kept any more."""

    job_id = fields.UUID()
    batch_id = fields.UUID()
    run_if = fields.String(required=True, validate=validate.OneOf(list(RunIf)))
    status = fields.String(required=True, allow_none=True)


class JobSchema(CamelSchema):
    """A job, as everybody sees it."""

    id = fields.UUID(required=True)
    workspace_id = fields.UUID(required=True)
    job_type = fields.String(required=True)
    queue = fields.String(required=True)
    status = fields.String(required=True, validate=_statuses)
    outcome = fields.String(required=True, allow_none=True, validate=_outcomes)
    priority = fields.Integer(required=True)
    payload = fields.Raw(required=True, allow_none=True)
    progress = fields.Nested(ProgressSchema, required=True, allow_none=True)
    result = fields.Raw(required=True, allow_none=True)
    error = fields.Nested(JobErrorSchema, required=True, allow_none=True)
    attempts = fields.Integer(required=True)
    max_attempts = fields.Integer(required=True)
    timeout_ms = fields.Integer(required=True)
    start_within_ms = fields.Integer(required=True, allow_none=True)
    unique_key = fields.String(required=True, allow_none=True)
    tags = fields.List(fields.String(), required=True)
    request_id = fields.String(required=True, allow_none=True)
    created_at = Moment(required=True)
    run_after = Moment(required=True)
    start_by = Moment(
        required=True,
        allow_none=True,
        metadata={"description": "If it has not begun by then it is cancelled. Null once it has, or if it need not."},
    )
    started_at = Moment(required=True, allow_none=True)
    completed_at = Moment(required=True, allow_none=True)
    cancel_requested_at = Moment(required=True, allow_none=True)
    worker_id = worker_id()
    worker = worker()
    parent_id = fields.UUID(required=True, allow_none=True)
    batch_id = fields.UUID(required=True, allow_none=True)
    after = fields.List(fields.Nested(WaitSchema), required=True)
    status_url = fields.String(required=True)
    events_url = fields.String(required=True)


class JobAcceptedSchema(CamelSchema):
    """What became of one of many; see :class:`AcceptedSchema`."""

    job_id = fields.UUID(required=True)
    status = fields.String(required=True, validate=_statuses)
    status_url = fields.String(required=True)
    events_url = fields.String(required=True)
    deduplicated = fields.Boolean(required=True)
    replaced = fields.Boolean(required=True)


class AcceptedSchema(JobAcceptedSchema):
    """What an enqueue answers. ``deduplicated``: the job was already there, and this is it. ``replaced``: it was there,
    waited, and is what was asked for now."""

    job = fields.Nested(JobSchema, required=True)


class JobsAcceptedSchema(CamelSchema):
    """What became of each job that was asked for, in the order of the request."""

    items = fields.List(fields.Nested(JobAcceptedSchema), required=True)


class PageSchema(CamelSchema):
    """One page of a list; ``nextCursor`` is null on the last. A page of large jobs has fewer than asked for."""

    items = fields.List(fields.Nested(JobSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class AttemptSchema(CamelSchema):
    """One attempt that did not simply succeed."""

    attempt = fields.Integer(required=True)
    epoch = fields.Integer(required=True)
    worker_id = worker_id()
    worker = worker()
    started_at = Moment(required=True, allow_none=True)
    ended_at = Moment(required=True)
    outcome = fields.String(required=True, validate=_outcomes)
    final = fields.Boolean(required=True)
    error = fields.Nested(JobErrorSchema, required=True, allow_none=True)
    traceback = fields.String(required=True, allow_none=True)


class AttemptsSchema(CamelSchema):
    """The attempts of a job, in order."""

    items = fields.List(fields.Nested(AttemptSchema), required=True)


class StepSchema(CamelSchema):
    """A step that is done, with its result. Of a large one only ``{"leftOut": bytes}`` is shown."""

    name = fields.String(required=True)
    epoch = fields.Integer(required=True, metadata={"description": "The attempt that did it."})
    saved_at = Moment(required=True)
    result = fields.Raw(required=True, allow_none=True)


class CheckpointSchema(CamelSchema):
    """The state that a job has saved last, for its next attempt; without its parts."""

    epoch = fields.Integer(required=True, metadata={"description": "The attempt that saved it."})
    saved_at = Moment(required=True)
    state = fields.Raw(required=True, allow_none=True)


class StepsSchema(CamelSchema):
    """What a job has done already, and its checkpoint."""

    items = fields.List(fields.Nested(StepSchema), required=True)
    checkpoint = fields.Nested(CheckpointSchema, required=True, allow_none=True)


class RetryQuerySchema(CamelSchema):
    """How to retry."""

    from_start = fields.Boolean(
        load_default=False,
        truthy={"true"},
        falsy={"false"},
        metadata={"description": "Forget the steps and the checkpoint, instead of going on after them."},
    )
    from_step = fields.String(
        load_default=None,
        validate=validate.Length(1, 200),
        metadata={"description": "Forget this step and what was done after it; not together with fromStart."},
    )

    @validates_schema
    def one_beginning(self, data: dict[str, Any], **_: Any) -> None:
        if data["from_start"] and data["from_step"] is not None:
            raise ValidationError("Cannot be given together with fromStep.", "fromStart")


class ForkSchema(CamelSchema):
    """How the new job differs from the one it is made from."""

    from_step = fields.String(
        validate=validate.Length(1, 200),
        metadata={
            "description": "Do this step, and what was done after it, again: what was saved before it is kept. Without "
            "it the new job goes on after all that is done."
        },
    )
    from_start = fields.Boolean(
        load_default=False, metadata={"description": "Keep no steps and no checkpoint; not together with fromStep."}
    )
    payload = fields.Raw(metadata={"description": "What the task takes. Default: the payload of the job."})

    @validates_schema
    def one_beginning(self, data: dict[str, Any], **_: Any) -> None:
        if data["from_start"] and "from_step" in data:
            raise ValidationError("Cannot be given together with fromStep.", "fromStart")


class JobOptionsSchema(CamelSchema):
    """What every enqueue may say beside its payload. What it does not say, the task decides."""

    priority = priority()
    run_after = Moment()
    delay_ms = delay_ms()
    longest_delay_ms = milliseconds(
        0,
        LONGEST_DELAY,
        metadata={
            "description": "With ifActive replace and delayMs: how long after the first request further ones can put "
            "the job off."
        },
    )
    max_attempts = max_attempts()
    timeout_ms = timeout_ms()
    start_within_ms = start_within_ms(
        metadata={
            "description": "How soon it has to begin, from when it is due. One that has not by then is never started: "
            "it ends as cancelled."
        }
    )
    queue = queue_name()
    unique_key = unique_key()
    unique_for_ms = unique_for_ms(
        metadata={
            "description": "For so long after the last job of the key was made it has no other, also when that has "
            "completed. Needs a key, the task's or uniqueKey; not together with ifActive replace."
        }
    )
    tags = tags()
    batch_id = fields.UUID(metadata={"description": "An open batch that it is to belong to."})
    after = fields.List(
        fields.Nested(EdgeSchema),
        validate=validate.Length(max=100),
        metadata={"description": "What it waits for."},
    )
    if_active = fields.String(
        validate=validate.OneOf(["refuse", "return", "replace"]),
        metadata={
            "description": "When the uniqueness guard is taken, or has been too recently: refuse (409), return its job "
            "(202), or replace: what waits becomes this, what runs gets this as its one successor (202). Default: as "
            "its task says, or refuse."
        },
    )

    @validates_schema
    def one_start(self, data: dict[str, Any], **_: Any) -> None:
        if "run_after" in data and "delay_ms" in data:
            raise ValidationError("Cannot be given together with runAfter.", "delayMs")


class JobChangeSchema(CamelSchema):
    """What is to be different about a job that waits. What is not named stays."""

    priority = priority()
    run_after = Moment(allow_none=True, metadata={"description": "null: it waits for no moment any more."})
    queue = queue_name()

    @validates_schema
    def something(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("Say what is to be different: priority, runAfter or queue.")

    @post_load
    def change(self, data: dict[str, Any], **_: Any) -> JobChange:
        return JobChange(**data, at_once="run_after" in data and data["run_after"] is None)


class NewJobSchema(JobOptionsSchema):
    """A request to run a registered task."""

    job_type = fields.String(required=True, validate=validate.Length(1, 100))
    payload = fields.Raw(load_default=dict, allow_none=True, metadata={"description": "What the task takes."})


class NewJobOfManySchema(NewJobSchema):
    """One of many requests; it may wait for others of them."""

    after = fields.List(
        fields.Nested(EdgeInManySchema),
        validate=validate.Length(max=100),
        metadata={"description": "What it waits for."},
    )


class NewMemberSchema(NewJobOfManySchema):
    """A request to run a registered task as a member of a batch."""

    class Meta:
        exclude = ("batch_id",)


class NewJobsSchema(CamelSchema):
    """Many requests to run registered tasks: all or none."""

    jobs = Few(fields.Nested(NewJobOfManySchema), required=True, validate=validate.Length(1, MOST_JOBS))


class NewSyncSchema(JobOptionsSchema):
    """A request to sync a workspace, or one of its connections. How often is its task's to say."""

    class Meta:
        exclude = ("unique_for_ms",)

    connector_type = fields.String(validate=validate.Length(1, 100))
    connection_id = fields.UUID()
    mode = fields.String(validate=validate.OneOf(["initial", "incremental"]))
    sync_log_id = fields.String(
        validate=validate.Length(1, 200),
        metadata={"description": "What you call this sync; its entry in sync_logs has it as reference."},
    )


class PageQuerySchema(CamelSchema):
    """Which page of a list."""

    limit = Digits(load_default=PAGE_LIMIT, validate=validate.Range(1, LARGEST_PAGE))
    cursor = Cursor(load_default=None, metadata={"pattern": "^[A-Za-z0-9_-]{21}[AQgw]$"})


class WaitQuerySchema(CamelSchema):
    """For how long the answer may wait for a change."""

    wait = Digits(
        load_default=0,
        validate=validate.Range(0, LONGEST_WAIT),
        metadata={"description": "Seconds to wait for the job to change, or to be another than If-None-Match says."},
    )


class JobsQuerySchema(PageQuerySchema):
    """Which jobs, and which page of them."""

    status = fields.Enum(Status, by_value=True)
    job_type = fields.String(validate=validate.Length(1, 100))
    queue = fields.String(validate=validate.Length(1, 100))
    parent_id = fields.UUID()
    batch_id = fields.UUID()
    created_after = Moment()
    created_before = Moment()


class CancelQuerySchema(CamelSchema):
    """What to cancel beside the job."""

    tree = fields.Boolean(
        load_default=False, metadata={"description": "Everything that waits for it too, and for that, and so on."}
    )


class AlertSchema(CamelSchema):
    """Something that a person should look at."""

    code = fields.String(required=True)
    message = fields.String(required=True)


class HealthSchema(CamelSchema):
    """How the queue is doing: of the token's workspace, or of all for an operator."""

    healthy = fields.Boolean(required=True)
    alerts = fields.List(fields.Nested(AlertSchema), required=True)
    pending = fields.Integer(required=True)
    ready = fields.Integer(required=True)
    scheduled = fields.Integer(required=True)
    blocked = fields.Integer(required=True)
    running = fields.Integer(required=True)
    stuck = fields.Integer(required=True)
    oldest_ready_seconds = fields.Float(required=True, allow_none=True)
    completed_last_hour = fields.Integer(required=True)
    failed_last_hour = fields.Integer(required=True)
    workers = fields.Integer(required=True)
    listening = fields.Integer(
        required=True, metadata={"description": "Workers that hear the doorbell; the others poll."}
    )
    unserved_tasks = fields.List(fields.String(), required=True)


class TimesSchema(CamelSchema):
    """Seconds that half, 95 % and 99 % of the jobs needed at most."""

    p50 = fields.Float(required=True)
    p95 = fields.Float(required=True)
    p99 = fields.Float(required=True)


class PartSchema(CamelSchema):
    """The numbers of a queue, a task, or of everything (whose ``name`` is empty)."""

    name = fields.String(required=True)
    pending = fields.Integer(required=True)
    ready = fields.Integer(required=True)
    scheduled = fields.Integer(required=True)
    blocked = fields.Integer(required=True)
    running = fields.Integer(required=True)
    completed = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    cancelled = fields.Integer(required=True)
    oldest_ready_seconds = fields.Float(required=True, allow_none=True)
    failure_rate = fields.Float(required=True, allow_none=True)
    per_minute = fields.Float(required=True)
    wait = fields.Nested(TimesSchema, required=True, allow_none=True)
    run = fields.Nested(TimesSchema, required=True, allow_none=True)


class ByStatusSchema(CamelSchema):
    """Jobs by status: live ones now, final ones of the last hour."""

    pending = fields.Integer(required=True)
    running = fields.Integer(required=True)
    completed = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    cancelled = fields.Integer(required=True)


class StatsSchema(CamelSchema):
    """What there is to do and what ended in the last hour: of the token's workspace, or of all for an operator."""

    by_status = fields.Nested(ByStatusSchema, required=True)
    total = fields.Nested(PartSchema, required=True)
    queues = fields.List(fields.Nested(PartSchema), required=True)
    tasks = fields.List(fields.Nested(PartSchema), required=True)
    within_seconds = fields.Float(required=True, metadata={"description": "How far back endings are counted."})
    reach_seconds = fields.Float(
        required=True,
        metadata={"description": "What completed or was cancelled is counted if it was made within this."},
    )


class ProbeSchema(CamelSchema):
    """That this process is there."""

    status = fields.String(required=True)
