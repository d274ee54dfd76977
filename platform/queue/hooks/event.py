"""What a task is told of a delivery."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class HookEvent:
    """The payload of a job that a delivery became: one event, or all of a delivery where the hook says so.

    A task that handles a hook takes this, or a payload of its own with the same five fields::

        @tasks.task("contact.changed")
        def contact_changed(job: RunningJob, payload: HookEvent) -> None: ...

    ``headers`` are those that say something and hold no secret, their names in lower case.
    """

    event: Any
    delivery_id: str = field(metadata={"data_key": "deliveryId"})
    received_at: datetime.datetime = field(metadata={"data_key": "receivedAt"})
    headers: dict[str, str] = field(default_factory=dict)
    connection_id: uuid.UUID | None = field(default=None, metadata={"data_key": "connectionId"})
