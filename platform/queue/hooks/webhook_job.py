"""What a webhook tells, and the job that tells it. Pure.

    {"type": "job.failed", "timestamp": "2026-01-05T09:00:00.000000Z", "data": {"jobId": "…", "jobType": "sync", …}}

It says what happened to which job, or batch, or what is wrong, and nothing of what the job was given or found: who
receives it asks the API for that, with a token. So it may be told of encrypted jobs too, and stands in the database as
it is.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: The task that delivers, and its queue, so that slow receivers keep no other jobs waiting.
WEBHOOK_TASK: Final = "jobplatform.webhook"
WEBHOOK_QUEUE: Final = "webhooks"
JOB_EVENTS: Final = ("job.completed", "job.failed", "job.cancelled")
BATCH_EVENTS: Final = ("batch.completed", "batch.failed", "batch.cancelled")
ALERT_EVENTS: Final = ("alert.raised", "alert.resolved")
#: What there is to subscribe to. Who says nothing is told of jobs.
EVENTS: Final = (*JOB_EVENTS, *BATCH_EVENTS, *ALERT_EVENTS)
TEST_EVENT: Final = "webhook.test"
#: By the status of a record.
EVENT_OF_STATUS: Final = {3: "job.completed", 4: "job.failed", 5: "job.cancelled"}

#: Seconds between one try and the next: as Standard Webhooks has it, over three days.
DELAYS: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
ATTEMPTS: Final = len(DELAYS) + 1
#: Deliveries that came back together go out again a little apart.
SPREAD: Final = 0.1


@dataclass(frozen=True)
class WebhookEvent:
    """What is told, in the form of Standard Webhooks and in the order in which people read it."""

    type: str
    timestamp: str
    data: dict[str, Any]


@dataclass(frozen=True)
class WebhookPayload:
    """An event, and the subscription that it is told to. ``delivery_id`` is of the delivery that this one repeats."""

    webhook_id: uuid.UUID = field(metadata={"data_key": "webhookId"})
    event: WebhookEvent
    delivery_id: str | None = field(default=None, metadata={"data_key": "deliveryId"})


def delay_after(attempt: int, error: BaseException) -> float:
    """Seconds to the next try; as long as the receiver asked for, if that is longer."""
    asked = getattr(error, "retry_after", None)
    planned = float(DELAYS[min(max(attempt, 1), len(DELAYS)) - 1])
    delay = max(planned, asked if isinstance(asked, int | float) else 0.0)
    return delay + random.uniform(0, delay * SPREAD)


def event_of(kind: str, timestamp: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """An event in the form of Standard Webhooks."""
    return {"type": kind, "timestamp": timestamp, "data": dict(data)}


def delivery_id(job_id: uuid.UUID, repeats: str | None = None) -> str:
    """The same at every try: the job is the delivery, or ``repeats`` another."""
    return repeats or f"msg_{job_id.hex}"
