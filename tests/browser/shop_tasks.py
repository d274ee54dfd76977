"""The tasks of a made-up product, slow enough that somebody can watch them."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobplatform.queue import Retry, RunningJob, Tasks

tasks = Tasks()


@dataclass(frozen=True)
class Report:
    """Which report, of which month."""

    kind: str = "revenue"
    month: str = "2026-10"
    format: str = "pdf"


@dataclass(frozen=True)
class Invoice:
    number: int
    recipient: str


@tasks.task("sync", queue="sync", unique="workspace", description="Fetches what is new from a workspace's CRM")
def sync(job: RunningJob, payload: dict[str, Any]) -> dict[str, int]:
    total = int(payload.get("pages", 10))
    # For whoever wants to see it run before it does anything: it begins when there is such a file.
    while payload.get("until") and not Path(payload["until"]).exists():
        time.sleep(0.05)
    for page in range(total):
        job.log(f"page {page + 1} of {total}: 100 contacts, 3 of them changed")
        job.progress(100 * (page + 1), 100 * total, f"page {page + 1} of {total}")
        time.sleep(float(payload.get("pause", 1)))
    return {"totalRecords": 100 * total}


@tasks.task(
    "report.build", queue="reports", timeout=datetime.timedelta(minutes=15), description="Builds a report and stores it"
)
def build_report(job: RunningJob, payload: Report) -> dict[str, Any]:
    for part in range(20):
        job.log(f"chapter {part + 1}: queried 12,000 rows")
        job.progress(part + 1, 20, "writing chapters")
        time.sleep(1)
    return {"pages": 48}


@tasks.task(
    "invoice.send", queue="mail", retry=Retry(max_attempts=3, base=2), description="Renders and mails an invoice"
)
def send_invoice(job: RunningJob, payload: Invoice) -> dict[str, Any]:
    job.log(f"rendering invoice {payload.number}")
    job.log("connecting to smtp.example.com", level="warning")
    raise ConnectionRefusedError(f"[Errno 111] Connection refused by smtp.example.com for invoice {payload.number}")


@tasks.task("webhook.deliver", queue="webhooks", retry=Retry(max_attempts=5), description="Tells an application")
def deliver(job: RunningJob, payload: dict[str, Any]) -> dict[str, Any]:
    job.log(f"POST {payload.get('url', 'https://app.example.com/hook')}")
    time.sleep(float(payload.get("pause", 0.05)))
    return {"status": 204}


@tasks.task("image.resize", queue="media", description="Makes thumbnails")
def resize(job: RunningJob, payload: dict[str, Any]) -> dict[str, Any]:
    time.sleep(0.2)
    return {"sizes": [64, 256, 1024]}
