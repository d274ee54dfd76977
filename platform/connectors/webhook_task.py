"""The task that delivers webhooks: one job is one delivery, tried until it arrives or for three days.

1. Look where it goes, by which secrets it is signed, and whether it still should (:func:`prepare_sending`).
2. Send the same body under the same id, signed anew for this moment, with no transaction open meanwhile.
3. Write down how that went: a receiver that is gone, or has answered nothing well for days, is told nothing more.
"""

from __future__ import annotations

import datetime
import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

from jobplatform.connectors.addresses import check_url
from jobplatform.connectors.outside import Answer, OutsideClient
from jobplatform.errors import AddressRefusedError, InvalidHookError, JobError, Problem, SourceError
from jobplatform.queue import (
    WEBHOOK_ATTEMPTS,
    WEBHOOK_QUEUE,
    WEBHOOK_TASK,
    RunningJob,
    Skip,
    Task,
    Tasks,
    WebhookEvent,
    WebhookPayload,
    delay_after,
    delivery_id,
    note_went_well,
    note_went_wrong,
    prepare_sending,
)
from jobplatform.queue.run.retry_after import LATER, LONGEST, header_seconds
from jobplatform.settings import Settings
from jobplatform.webhooks import sign

log = logging.getLogger(__name__)

#: Seconds that a receiver has for all of its answer, of which little is read.
LONGEST_ANSWERING = 15.0
LARGEST_ANSWER = 64 * 1024
#: Deliveries of one workspace that run at a time: its slow receiver shall not take all slots.
AT_A_TIME = 4
USER_AGENT = "jobplatform-webhooks/1"
GONE = 410


class WebhookFailedError(JobError):
    """The receiver did not take a delivery."""


@dataclass(frozen=True)
class Delivered:
    """How a delivery was answered."""

    status: int


def add_webhooks(tasks: Tasks) -> Task[WebhookPayload, Delivered | Skip]:
    """Have the workers of these tasks deliver webhooks. ``jobplatform.connectors:tasks`` has it already."""
    return tasks.task(
        WEBHOOK_TASK,
        queue=WEBHOOK_QUEUE,
        max_attempts=WEBHOOK_ATTEMPTS,
        retry=delay_after,
        timeout=datetime.timedelta(minutes=1),
        limit_per_workspace=AT_A_TIME,
        description="Deliver a webhook.",
    )(send_webhook)


def require_askable(url: str) -> None:
    """What can be said of a webhook's URL before it is asked. Raises :class:`InvalidHookError`."""
    try:
        check_url(url, allow_private=Settings.from_env().allow_private_addresses)
    except AddressRefusedError as error:
        raise InvalidHookError([Problem("/url", str(error))]) from None


def send_webhook(job: RunningJob, payload: WebhookPayload) -> Delivered | Skip:
    """Deliver once, or say why not. Raises :class:`WebhookFailedError`."""
    with job.looking() as session:
        sending = prepare_sending(session, job.workspace_id, payload.webhook_id)
    if sending is None:
        return Skip("the webhook is deleted")
    if sending.is_disabled:
        return Skip("the webhook is disabled")
    body = body_of(payload.event)
    headers = sign(sending.secrets, delivery_id(job.id, payload.delivery_id), sending.now, body)
    try:
        answer = _post(sending.url, headers, body)
    except (SourceError, WebhookFailedError) as error:
        raise _failed(job, payload, error) from error
    if 200 <= answer.status < 300:
        with job.looking() as session:
            note_went_well(session, job.workspace_id, payload.webhook_id)
            session.commit()
        return Delivered(answer.status)
    raise _failed(job, payload, _refused(answer))


def body_of(event: WebhookEvent) -> bytes:
    """An event as it is sent: the same bytes at every try."""
    return json.dumps(asdict(event), separators=(",", ":")).encode()


def _post(url: str, headers: dict[str, str], body: bytes) -> Answer:
    sent = {**headers, "Content-Type": "application/json", "User-Agent": USER_AGENT}
    allow_private = Settings.from_env().allow_private_addresses
    # Whoever knows a receiver's path can often send to it, and more people may read jobs than webhooks.
    with OutsideClient(
        allow_private=allow_private, hides_paths=True, largest=LARGEST_ANSWER, seconds=LONGEST_ANSWERING
    ) as client:
        return client.request("POST", url, headers=sent, content=body)


def _refused(answer: Answer) -> WebhookFailedError:
    if answer.status == GONE:
        return WebhookFailedError("the receiver is gone (HTTP 410)", should_retry=False)
    where = " and named another place, which is not followed" if 300 <= answer.status < 400 else ""
    said = f"the receiver answered HTTP {answer.status}{where}"
    return WebhookFailedError(said, retry_after=_asked(answer))


def _asked(answer: Answer) -> float | None:
    """Seconds that the receiver asks for, at most a day."""
    said = header_seconds(answer.headers.get("retry-after"), answer.headers.get("date"))
    return None if said is None or answer.status not in LATER else min(max(said, 0.0), LONGEST)


def _failed(job: RunningJob, payload: WebhookPayload, error: Exception) -> WebhookFailedError:
    """Write it down, and say whether to try again. An address that may not be asked will not be the next time."""
    is_gone = isinstance(error, WebhookFailedError) and not error.should_retry
    with job.looking() as session:
        why = note_went_wrong(session, job.workspace_id, payload.webhook_id, gone=is_gone)
        session.commit()
    if why is not None:
        facts: dict[str, Any] = {"webhook_id": str(payload.webhook_id), "why": why, **job.facts()}
        log.warning("webhook disabled", extra=facts)
    if isinstance(error, WebhookFailedError):
        return error
    return WebhookFailedError(str(error), should_retry=not isinstance(error, AddressRefusedError))
