"""What jobs are called in front of the people they are done for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What a state is called, and what becomes of a job in it.
STATES = {
    "pending": "Waiting",
    "running": "Running",
    "completed": "Done",
    "failed": "Failed",
    "cancelled": "Called off",
}
MODES = {"initial": "Everything, anew", "incremental": "What has changed"}

#: Connectors whose names do not say it.
KINDS = {"http_json": "Web service", "rss": "Feed", "csv": "CSV file", "sql": "Database", "hubspot": "HubSpot"}


def kind_of(connector_type: str) -> str:
    """What people call a connector."""
    return KINDS.get(connector_type) or title_of(connector_type)


def title_of(task: str) -> str:
    """``write_invoice`` and ``write-invoice`` are "Write invoice"."""
    words = task.replace("_", " ").replace("-", " ").replace(".", " ").split()
    text = " ".join(words) or task
    return text[:1].upper() + text[1:]


def share_of(progress: Mapping[str, Any] | None) -> float | None:
    """How much is done, from 0 to 1; None when nobody can say."""
    current, total = (progress or {}).get("current"), (progress or {}).get("total")
    if isinstance(current, int | float) and isinstance(total, int | float) and total > 0:
        return min(1.0, max(0.0, current / total))
    return None


def message_of(progress: Mapping[str, Any] | None) -> str:
    """What the job says of itself just now."""
    message = (progress or {}).get("message")
    return message if isinstance(message, str) else ""


def results_of(result: Any) -> list[dict[str, Any]]:
    """What a sync did, source by source; nothing for other jobs, whose results are not for reading."""
    found = result.get("results") if isinstance(result, Mapping) else None
    return [dict(one) for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def errors_of(result: Any) -> list[str]:
    """What a sync could not do."""
    found = result.get("errors") if isinstance(result, Mapping) else None
    return [str(one) for one in found] if isinstance(found, list) else []
